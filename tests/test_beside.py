"""robofuse beside packages that ask for an older MuJoCo."""

import subprocess
import sys
from pathlib import Path

import pytest

from robofuse.envs import World
from robofuse.envs.physics import backend

ROOT = Path(__file__).parents[1]
# our extractor, dropout and failure lab, with an agent and an environment that are not ours
TRIED = """
import sys; sys.path[:0] = [{tests!r}]
import tempfile
import foreign_envs
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from robofuse import FusionExtractor, VecSensorDropout, World, evaluate_agent
env = VecSensorDropout(DummyVecEnv([foreign_envs.line] * 2), 0.3, seed=0)
agent = PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, device="cpu",
            policy_kwargs={{"features_extractor_class": FusionExtractor}}).learn(64)
found = evaluate_agent(agent, foreign_envs.line, tempfile.mkdtemp(), episodes=2, conditions=("singles",))
assert "no-near" in found.conditions
try:
    World("Reach")
except RuntimeError as error:
    print(error)
else:
    print("worlds too")
"""
# the adapter for robosuite, without pictures, which need OpenGL
ADAPTED = """
import numpy as np
import robosuite
from robofuse.wrappers import Robosuite
env = Robosuite(robosuite.make("Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False,
                               use_camera_obs=False, horizon=5))
places = [(env.reset(seed=seed), env.truth["cube_pos"].copy())[1] for seed in (3, 3, 4)]
assert np.array_equal(*places[:2]) and not np.array_equal(*places[1:])
observation, *_, truncated, info = [env.step(env.action_space.sample()) for _ in range(5)][-1]
assert observation in env.observation_space and truncated and info["is_success"] is False
"""


def test_worlds_say_that_mujoco_is_too_old(monkeypatch):
    monkeypatch.setattr(backend, "batch", None)
    with pytest.raises(RuntimeError, match="worlds need MuJoCo 4, and .* is installed.*pip install 'mujoco>=4'"):
        World("Reach")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("wanted", "imported", "said"),
    [
        (["robosuite==1.5.2", "mujoco<3.6"], ADAPTED, "need MuJoCo 4"),
        (["mjlab==1.6.0"], "import mjlab", "need MuJoCo 4"),
        (["gymnasium-robotics==1.4.2"], "import gymnasium_robotics", "worlds too"),
    ],
)
def test_an_environment_of_their_own(wanted, imported, said, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "torch==2.13.0", ROOT, *wanted], check=True)
    script = f"{imported}\n" + TRIED.format(tests=str(ROOT / "tests"))
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
