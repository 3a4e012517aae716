"""Agents of others are filmed in environments of others."""

from pathlib import Path

import foreign_envs
import imageio_ffmpeg
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse.evaluate import AgentOptions
from robofuse.evaluate.foreign import make_foreign
from robofuse.faults import Plan, parse_disable
from robofuse.policies import FusionExtractor
from robofuse.replay import Replay, run_replay
from robofuse.replay.foreign import foreign_frames, foreign_stage

FILE = Path(foreign_envs.__file__)


def drawn():
    return foreign_envs.room("rgb_array")


def right(observation):
    """To the right while the dot is seen."""
    return np.array([1.0 if observation["eye"].any() else -1.0], np.float32)


def test_frames_show_what_the_agent_was_given():
    foreign = make_foreign(right, drawn)
    shown = list(foreign_frames(foreign, parse_disable("eye@3", foreign.policy.keys), 5, [0, 1]))
    assert [frame.step for frame in shown] == [*range(9)] * 2
    for frame in shown:
        eye, depth = frame.observation["eye"], frame.observation["depth"]
        assert eye.shape == (16, 20, 3) and eye.dtype == np.uint8 and eye.any() == (frame.step < 3)
        assert depth.shape == (16, 20, 1) and (depth[0, 0, 0], depth[-1, -1, 0]) == (500, 2000)
        assert frame.on == {"depth": True, "eye": frame.step < 3, "place": True}
        assert frame.off_since == ({} if frame.step < 3 else {"eye": 3})
        assert frame.time == pytest.approx(0.1 * frame.step) and frame.scene.shape == (200, 300, 3)
        assert frame.total == pytest.approx(0.1 * frame.step)
    assert [frame.outcome for frame in shown] == [*[""] * 8, "out of time"] * 2
    assert foreign_stage(foreign, 5).max_steps == 8
    (last,) = [frame for frame in foreign_frames(foreign, Plan(()), 5, [0]) if frame.outcome]
    assert last.success


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.zip"
    env = DummyVecEnv([foreign_envs.room])
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 8}}
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu", seed=0).save(path)
    return path


def test_a_film_from_the_command_line(agent, tmp_path, capsys):
    options = AgentOptions(f"{FILE}:room", trust=True)
    out = tmp_path / "film.mp4"
    config = Replay(str(agent), "eye@4", episodes=2, out=out, show="no", agent=options)
    ends = run_replay(config)
    assert [frame.step for frame in ends] == [8, 8]
    count, seconds = imageio_ffmpeg.count_frames_and_secs(out)
    assert count == 2 * (9 + 10) and seconds == pytest.approx(3.8)  # the outcome stays for a second; real time
    assert "2 episodes succeeded" in capsys.readouterr().out


def test_what_cannot_be_filmed_is_said(agent, tmp_path):
    def run(env="room", **options):
        run_replay(Replay(str(agent), show="no", agent=AgentOptions(f"{FILE}:{env}", trust=True),
                          **{"out": tmp_path / "f.mp4"} | options))  # fmt: skip

    for options, message in (
        ({"env": "undrawn"}, "draws no picture"),
        ({"disable": "ear"}, "ear"),
        ({"monitor": "auto"}, "--env .*room --trust leaves one"),
        ({"image_size": 32}, "--image-size is for worlds of robofuse"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**options)
    assert not list(tmp_path.iterdir())
