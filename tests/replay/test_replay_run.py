"""`robofuse replay`: what it films, says and refuses."""

import os
import signal
from pathlib import Path

import pytest
from replaying import SCENE, Witness, pictures_of, small_world

from robofuse.envs import World
from robofuse.faults import Plan, blackout
from robofuse.play import Setup, open_setup
from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.saving import save
from robofuse.replay import run
from robofuse.replay.dashboard import HEIGHT, WIDTH, Dashboard, Stage
from robofuse.replay.frames import frames
from robofuse.replay.run import Replay, default_name, run_replay


@pytest.fixture(scope="module")
def world():
    world = small_world()
    yield world
    world.close()


def is_red(image, place):
    x, y = place
    red, green, _ = image[y - 2 : y + 3, x - 6].mean(axis=0)
    assert abs(red - green) > 60.0  # red or green, never in between
    return bool(red > green)


@pytest.mark.slow
def test_the_video_shows_when_a_light_goes_out(world, tmp_path, capsys):
    out = tmp_path / "[/red] runs [bold]" / "reach.mp4"
    out.parent.mkdir(parents=True)
    options = {"task": "Reach", "robot": "gripper", "image_size": 20, "seed": 7}
    ends = run_replay(Replay("expert", disable="depth@4", episodes=2, out=out, show="no", **options))
    assert os.listdir(out.parent) == ["reach.mp4"]
    frames = pictures_of(out)
    assert [frame.episode for frame in ends] == [0, 1] and all(frame.success for frame in ends)
    lengths = [1 + frame.step + 20 for frame in ends]  # the first picture, one a step, a second of the outcome
    assert len(frames) == sum(lengths)
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    places = Dashboard(Stage.of(world), "expert", "a test").lights.places
    expected = [step >= 4 for length in lengths for step in range(length)]
    assert [is_red(image, places["depth"]) for image in frames] == expected
    assert not any(is_red(image, places[key]) for image in frames for key in ("rgb", "proprio", "force"))
    said = capsys.readouterr().out
    assert f"episode 1: success after {ends[1].step} steps, return {ends[1].total:.2f}" in said
    assert "2 of 2 episodes succeeded" in said and f"{len(frames)} pictures" in said
    assert f"wrote {out}" in said  # brackets are letters


def test_ctrl_c_leaves_the_video_so_far(world, tmp_path, monkeypatch, capsys):
    class Impatient(Witness):
        def act(self, observation):
            if len(self.seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().act(observation)

    monkeypatch.setattr(world, "close", lambda: None)
    monkeypatch.setattr(run, "open_setup", lambda *_, **options: Setup(world, Impatient(world), "x"))
    out, handler = tmp_path / "short.mp4", signal.getsignal(signal.SIGINT)
    assert run_replay(Replay("expert", out=out, show="no")) == []
    assert len(pictures_of(out)) == 3  # the start, and two steps
    assert "stopped" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler  # whatever it was: a background job ignores Ctrl-C


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disable": "rgbb"}, "'rgbb'.*depth, force, proprio, rgb"),
        (
            {"disable": "rgb@500"},
            "rgb:blackout@500 .*Reach",
        ),
        ({"monitor": "auto"}, "--monitor.*expert"),
        ({"episodes": 0}, "episodes.*got 0"),
        ({"episode": -1}, "episode must lie in"),
        ({"seed": -1}, "seed must lie in"),
        ({"fps": 0.0}, r"fps.*\[1, 240\].*0.0"),
        ({"out": "film.avi"}, ".mp4.*'film.avi'"),
        ({"out": "nowhere/film.mp4"}, "there is no folder 'nowhere'"),
        ({"policy": "grasp", "task": "Reach"}, "--task.*expert, zero, random.*'grasp'"),
        ({"policy": "grasp", "image_size": 8}, "--image-size is for expert"),
        ({"task": "Graps"}, "'Graps'.*Reach, Grasp"),
    ],
)
def test_mistakes_are_named_and_no_video_is_begun(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"policy": "expert", "task": None if "policy" in options else "Reach", "show": "no"} | options
    if "out" in options:
        options["out"] = Path(options["out"])
    with pytest.raises(ValueError, match=message):
        run_replay(Replay(**options))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def policy_file(world, tmp_path):
    network = FusionActorCriticPolicy(
        world.observation_space,
        world.action_space,
        lambda _: 0.0,
        net_arch=[8],
        features_extractor_kwargs={"sensors": world.sensors, "token_dim": 8},
    )
    options = {"task": "Reach", "robot": "gripper", "image_size": 20, "renderer": "gl", "privileged": True}
    return str(save(network, tmp_path / "mine.safetensors", options))


def test_a_trained_policy_plays_in_a_world_of_its_own(policy_file, monkeypatch):
    monkeypatch.setattr(World, "picture", lambda *_: SCENE)  # they take longest, and are not looked at here
    with pytest.raises(ValueError, match="gl.*warp.*--allow-mismatch"):
        open_setup(policy_file, 1, 1, {}, renderer="warp")
    world, actor, name, note, _ = open_setup(policy_file, 1, 1, {}, renderer="warp", allow_mismatch=True)
    assert name == "mine" and "warp" in note and "gl" in note
    *_, last = frames(actor, world, [(0, Plan((blackout("rgb"), blackout("depth", 5))))])
    assert last.outcome and 5 < last.step <= world.max_steps
    everything = Plan(tuple(blackout(key) for key in actor.keys))
    *_, last = frames(actor, world, [(0, everything)])  # acts on mask tokens alone
    assert last.outcome
    world.close()


def test_the_default_name_tells_policy_and_faults():
    assert str(default_name("grasp", ())) == "replay-grasp.mp4"
    blackouts = Plan((blackout("rgb"), blackout("depth", 20)))
    assert str(default_name("my policy", blackouts)) == "replay-my-policy-without-rgb-depth@20.mp4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": "fast"}, "--fps.*float.*'fast'"),
        ({"fps": float("nan")}, r"fps.*\[1, 240\].*nan"),
        ({"out": "film.mp4"}, "--out.*Path.*'film.mp4'"),
        ({"faults": 5}, "--faults must be str, got 5"),
        ({"disable": ("rgb",)}, r"--disable.*str.*\('rgb',\)"),
        ({"show": True}, "--show.*'auto', 'yes', 'no'.*True"),
        ({"cameras": "scene"}, "--cameras.*tuple.*'scene'"),
        ({"policy": None}, "--policy.*str.*None"),
    ],
)
def test_options_of_a_wrong_type_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        run_replay(Replay(**{"policy": "expert", "task": "Reach", "show": "no"} | options))
