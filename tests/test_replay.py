import os
import signal

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robofuse.envs import World
from robofuse.faults import Plan, blackout
from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.saving import save
from robofuse.replay import canvas, command, stage, video, window
from robofuse.replay.command import Replay, default_name, run_replay
from robofuse.replay.dashboard import HEIGHT, WIDTH, Credits, Dashboard
from robofuse.replay.interrupt import Interrupt
from robofuse.replay.moments import Moment, play
from robofuse.replay.panels import Cameras, Lights
from robofuse.replay.stage import Stage, scripted
from robofuse.replay.traces import nice_ticks
from robofuse.replay.video import Mp4
from robofuse.sensors import Sensor

SCENE = np.zeros((480, 640, 3), np.uint8)
CREDITS = Credits("expert", "a test", 7)


@pytest.fixture(scope="module")
def world():
    world = World("Reach", robot="gripper", image_size=20, auto_reset=False, seed=7)
    yield world
    world.close()


class Witness:
    """The expert, who writes down what a policy would have been given."""

    def __init__(self, world):
        self.world, self.seen = world, []

    def act(self, observation):
        self.seen.append(observation)
        return self.world.expert()


def reached(world, plan):
    witness = Witness(world)
    moments = list(play(world, witness, plan, 3))
    return witness.seen, moments


def test_disabling_reaches_the_policy_from_exactly_that_step(world):
    whole, _ = reached(world, Plan())
    seen, moments = reached(world, Plan((blackout("proprio"), blackout("depth", 3))))
    assert len(moments) == len(seen) + 1 == len(whole) + 1 > 4
    for step, (given_, full) in enumerate(zip(seen, whole, strict=True)):
        assert given_["available"].tolist() == [[int(step < 3), 1, 0, 1]]  # depth, force, proprio, rgb
        assert not given_["proprio"].any()
        assert torch.equal(given_["depth"], full["depth"]) if step < 3 else not given_["depth"].any()
        assert torch.equal(given_["rgb"], full["rgb"]) and torch.equal(given_["force"], full["force"])


def test_moments_tell_what_the_policy_was_given_and_what_came_of_it(world):
    seen, moments = reached(world, Plan((blackout("depth", 2),)))
    assert [moment.step for moment in moments] == list(range(len(moments)))
    assert [moment.outcome for moment in moments] == [""] * (len(moments) - 1) + ["success"]
    for moment, observation in zip(moments, seen, strict=False):
        assert all(np.array_equal(moment.observation[key], observation[key][0]) for key in observation)
        assert moment.alive["depth"] == (moment.step < 2) and moment.alive["rgb"]
        assert moment.dead_since == ({} if moment.step < 2 else {"depth": 2})
    total = sum(sum(moment.terms.values()) for moment in moments)
    assert moments[-1].total == pytest.approx(total, abs=1e-5)
    assert moments[-1].time == pytest.approx(0.05 * len(seen))


def frames_of(path):
    film = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, image = film.read()
        if not there:
            return frames
        frames.append(image[..., ::-1])


def is_red(image, place):
    x, y = place
    red, green, _ = image[y - 2 : y + 3, x - 6].mean(axis=0)
    assert abs(red - green) > 60.0  # red or green, never in between
    return bool(red > green)


def test_the_video_shows_when_a_light_goes_out(world, tmp_path, capsys):
    out = tmp_path / "reach.mp4"
    options = {"task": "Reach", "robot": "gripper", "image_size": 20, "seed": 7}
    ends = run_replay(Replay("expert", disable="depth@4", episodes=2, out=out, show="no", **options))
    assert os.listdir(tmp_path) == ["reach.mp4"]
    frames = frames_of(out)
    assert [moment.episode for moment in ends] == [0, 1] and all(moment.success for moment in ends)
    lengths = [1 + moment.step + 20 for moment in ends]  # the first picture, one a step, a second of the outcome
    assert len(frames) == sum(lengths)
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    places = Dashboard(world, CREDITS).lights.places
    expected = [step >= 4 for length in lengths for step in range(length)]
    assert [is_red(image, places["depth"]) for image in frames] == expected
    assert not any(is_red(image, places[key]) for image in frames for key in ("rgb", "proprio", "force"))
    said = capsys.readouterr().out
    assert f"episode 1: success after {ends[1].step} steps, return {ends[1].total:.2f}" in said
    assert "2 of 2 episodes succeeded" in said and f"{len(frames)} pictures" in said


def moment_of(world, step, dead=(), noise=0, outcome=""):
    rng = np.random.default_rng(noise)
    observation = {}
    for sensor in world.sensors:
        image = sensor.kind in ("rgb", "depth")
        value = rng.integers(0, 256, sensor.shape) if image else rng.normal(size=sensor.shape)
        observation[sensor.key] = value.astype(sensor.dtype)
    keys = [sensor.key for sensor in world.sensors]
    alive, since = {key: key not in dead for key in keys}, dict.fromkeys(dead, 0)
    return Moment(0, step, observation, alive, since, dict.fromkeys(world.task.weights, 0.1), 1.0, outcome)


def test_what_a_dead_sensor_holds_is_not_drawn(world):
    keys = [sensor.key for sensor in world.sensors]
    one, other = (Dashboard(world, CREDITS).draw(moment_of(world, 0, keys, noise), SCENE) for noise in (1, 2))
    assert np.array_equal(one, other)
    for key in keys:
        dead = [other for other in keys if other != key]
        one, other = (Dashboard(world, CREDITS).draw(moment_of(world, 0, dead, noise), SCENE) for noise in (1, 2))
        assert not np.array_equal(one, other), key


def test_a_teacher_can_be_watched():
    world = World("Grasp", robot="gripper", sensors=("truth",), auto_reset=False, seed=7)
    dashboard, pictures = Dashboard(world, CREDITS), []
    assert list(dashboard.lights.places) == ["truth"]
    for moment in play(world, Witness(world), Plan((blackout("truth", 2),)), 0):
        pictures.append(dashboard.draw(moment, SCENE))
        if moment.step == 3:
            break
    x, y = dashboard.lights.places["truth"]
    lights = [picture[y - 3 : y + 4, x - 3 : x + 4] for picture in pictures]
    assert np.array_equal(lights[0], lights[1]) and not np.array_equal(lights[1], lights[2])
    assert (pictures[0][60:, 680:] != pictures[1][60:, 680:]).any()  # the curves
    world.close()


def test_the_outcome_is_shown(world):
    going, well, badly = (
        Dashboard(world, CREDITS).draw(moment_of(world, 0, outcome=outcome), SCENE + np.uint8(200))
        for outcome in ("", "success", "out of time")
    )
    differs = (going != well).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert rows.min() >= 460 and rows.max() < 540 and columns.min() >= 16 and columns.max() < 656
    assert (going != badly).any() and (well != badly).any()


def test_a_long_episode_scrolls(world):
    dashboard = Dashboard(world, CREDITS)
    for step in (0, 50, 99, 150, 151):
        image = dashboard.draw(moment_of(world, step), SCENE)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8


def cameras_of(count, size):
    height, width = size
    rgb = [Sensor(f"rgb_{i}", "rgb", (height, width, 3), "uint8", "", 255.0, 20.0) for i in range(count)]
    return rgb + [Sensor(f"depth_{i}", "depth", (height, width, 1), "uint16", "", 1000.0, 20.0) for i in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (8, 300), (700, 300)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_any_cameras_stay_in_their_place(count, size):
    sensors, box = cameras_of(count, size), canvas.Box(40, 30, 592, 310)
    cameras, lights = Cameras(sensors, box, box.height), Lights(sensors, canvas.Box(40, 400, 268, 152))
    assert cameras.height <= box.height
    image = np.full((600, 700, 3), 9, np.uint8)
    for dead in (False, True):
        alive, since = {s.key: not dead for s in sensors}, {s.key: 4_000 for s in sensors}
        observation = {s.key: np.full(s.shape, 77, s.dtype) for s in sensors}
        moment = Moment(0, 0, observation, alive, since, {}, 0.0)
        cameras.draw(image, moment)
        lights.draw(image, moment)
    box.of(image)[:] = 9
    canvas.Box(40, 400, 268, 152).of(image)[:] = 9
    assert (image == 9).all()


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.integers(30, 200))
def test_text_stays_within_its_width(text, width):
    image = np.zeros((40, 300, 3), np.uint8)
    taken = canvas.write(image, text, 50, 20, 11.0, width=width)
    columns = np.nonzero(image.any(axis=(0, 2)))[0]
    assert taken <= width
    assert not len(columns) or (columns.min() >= 48 and columns.max() <= 52 + width)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_and_enclose_the_range(low, extent):
    ticks = nice_ticks(low, low + extent)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + 1e-5 * extent and ticks[-1] >= low + extent - 1e-5 * extent
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    assert np.round(10.0 ** -np.floor(np.log10(ticks[1] - ticks[0]) + 1e-9) * (ticks[1] - ticks[0]), 6) in (1, 2, 5)


def test_ctrl_c_leaves_the_video_so_far(world, tmp_path, monkeypatch, capsys):
    class Impatient(Witness):
        def act(self, observation):
            if len(self.seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().act(observation)

    monkeypatch.setattr(world, "close", lambda: None)
    monkeypatch.setattr(command, "_open", lambda config: Stage(world, Impatient(world), "x"))
    out, handler = tmp_path / "short.mp4", signal.getsignal(signal.SIGINT)
    assert run_replay(Replay("expert", out=out, show="no")) == []
    assert len(frames_of(out)) == 4  # the start, and three steps
    assert "stopped" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler  # whatever it was: a background job ignores Ctrl-C


def test_the_second_ctrl_c_interrupts():
    with Interrupt() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)


def test_video_is_there_when_complete_and_not_before(tmp_path):
    path = tmp_path / "a.mp4"
    with Mp4(path, (64, 32), 20.0) as film:
        for shade in (0, 100, 200):
            film.write(np.full((32, 64, 3), shade, np.uint8))
            assert not path.exists()
    assert [round(frame.mean(), -1) for frame in frames_of(path)] == [0, 100, 200]
    assert os.listdir(tmp_path) == ["a.mp4"]
    colours = np.zeros((32, 64, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (220, 40, 40), (40, 90, 220)
    with Mp4(path, (64, 32), 20.0) as film:
        film.write(colours)
    (frame,) = frames_of(path)
    assert np.abs(frame[16, (16, 48)].astype(int) - colours[16, (16, 48)]).max() < 25


@pytest.mark.parametrize(("error", "left"), [(KeyboardInterrupt, ["a.mp4"]), (RuntimeError, [])])
def test_an_interrupt_keeps_the_video_and_an_error_does_not(tmp_path, error, left):
    with pytest.raises(error), Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
        film.write(np.zeros((32, 64, 3), np.uint8))
        raise error
    assert os.listdir(tmp_path) == left


def test_no_video_without_pictures(tmp_path):
    Mp4(tmp_path / "a.mp4", (64, 32), 20.0).close(keep=False)
    assert os.listdir(tmp_path) == []


def test_what_the_encoder_says_is_passed_on(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="ffmpeg could not write .*not divisible by 2"):
        with Mp4(tmp_path / "a.mp4", (63, 31), 20.0) as film:
            for _ in range(50):
                film.write(np.zeros((31, 63, 3), np.uint8))
    assert os.listdir(tmp_path) == []
    with Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
        with pytest.raises(ValueError, match=r"must be uint8 \(32, 64, 3\), got float64 \(64, 32\)"):
            film.write(np.zeros((64, 32)))

    def missing():
        raise RuntimeError("none found")

    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(RuntimeError, match=r"no ffmpeg .*none found.*pip install imageio-ffmpeg"):
        Mp4(tmp_path / "a.mp4", (64, 32), 20.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disable": "rgbb"}, "unknown sensor 'rgbb' at character 1; sensors: depth, force, proprio, rgb"),
        (
            {"disable": "rgb@500"},
            "rgb:blackout@500 never happens: episodes of Reach end at control step [0-9]+; .* than 500",
        ),
        ({"monitor": "auto"}, "--monitor is for trained policies; expert looks at no sensor"),
        ({"episodes": 0}, "episodes must be an integer of at least 1, got 0"),
        ({"episode": -1}, "episode must lie in"),
        ({"seed": -1}, "seed must lie in"),
        ({"fps": 0.0}, r"fps must lie in \[1, 240\], got 0.0"),
        ({"out": "film.avi"}, "must be an .mp4 file, got 'film.avi'"),
        ({"out": "nowhere/film.mp4"}, "there is no folder 'nowhere'"),
        ({"policy": "grasp", "task": "Reach"}, "--task is for expert, zero, random; policy 'grasp' brings its own"),
        ({"policy": "grasp", "image_size": 8}, "--image-size is for expert"),
        ({"task": "Graps"}, "unknown task 'Graps'; tasks: Reach, Grasp"),
    ],
)
def test_mistakes_are_named_and_no_video_is_begun(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"policy": "expert", "task": None if "policy" in options else "Reach", "show": "no"} | options
    if "out" in options:
        options["out"] = video.Path(options["out"])
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


def test_a_trained_policy_plays_in_a_world_of_its_own(policy_file):
    with pytest.raises(ValueError, match="was trained with renderer gl, this world has warp.*--allow-mismatch"):
        stage.open_policy(policy_file, 1, renderer="warp")
    world, actor, name, note, _ = stage.open_policy(policy_file, 1, renderer="warp", allow_mismatch=True)
    assert name == "mine" and note == "pictures of warp, trained on gl"
    *_, last = play(world, actor, Plan((blackout("rgb"), blackout("depth", 5))), 0)
    assert last.outcome and 5 < last.step <= world.max_steps
    everything = Plan(tuple(blackout(key) for key in actor.keys))
    *_, last = play(world, actor, everything, 0)  # acts on mask tokens alone
    assert last.outcome
    world.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("grasp", "grasp"), ("runs/a/best.safetensors", "a-best"), ("runs/a.1", "a.1"), ("x/b.safetensors", "b")],
)
def test_a_policy_has_a_name_that_tells_it_apart(name, expected):
    assert stage.title(name) == expected


def test_scripts_act(world):
    world.reset(episode=0)
    for name in stage.SCRIPTS:
        action = scripted(name, world, 1).act({})
        assert action.shape == (1, 5) and action.abs().max() <= 1.0
    assert torch.equal(scripted("random", world, 1).act({}), scripted("random", world, 1).act({}))
    assert not torch.equal(scripted("random", world, 1).act({}), scripted("random", world, 2).act({}))


def test_the_default_name_tells_policy_and_faults():
    assert str(default_name("grasp", ())) == "replay-grasp.mp4"
    blackouts = Plan((blackout("rgb"), blackout("depth", 20)))
    assert str(default_name("my policy", blackouts)) == "replay-my-policy-without-rgb-depth@20.mp4"


def test_no_window_without_a_display(monkeypatch):
    information = "  GUI:                           QT5\n"
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: information)
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no display" in window.window_problem()
    with pytest.raises(RuntimeError, match="cannot show a window: there is no display"):
        run_replay(Replay("expert", show="yes"))
    monkeypatch.setenv("DISPLAY", ":98765")  # Qt aborts where nobody answers
    assert window.window_problem().startswith("no window opens (")
    monkeypatch.setattr(window, "_TRY", "")
    assert window.window_problem() == ""
    information = "  GUI:                           NONE\n"
    assert "opencv-python-headless" in window.window_problem()


def test_the_window_keeps_time_and_hears_the_keys(monkeypatch):
    shown, visible, key = [], [1.0], [-1]
    monkeypatch.setattr(window.cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(window.cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(window.cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(window.cv2, "getWindowProperty", lambda *_: visible[0])
    monkeypatch.setattr(window.cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(window.cv2, "waitKey", lambda delay: shown.append(delay) or key[0])
    screen = window.Window(20.0)
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    for _ in range(2):
        screen.show(red)
    assert shown[0][0, 0].tolist() == [0, 0, 255]  # OpenCV's order
    assert shown[1] == 1 and 40 <= shown[3] <= 50  # milliseconds
    assert not screen.quit
    key[0] = ord("q")
    screen.show(red)
    assert screen.quit
    visible[0] = 0.0
    screen.show(red)
    assert len(shown) == 6  # the user has closed it
    screen.close()
    screen.close()
