"""A project of somebody else's: its own environment, this package's extractor and wrappers, plain SB3.

`scripts/smoke.sh` runs it where only the wheel is installed.
"""

import sys

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from robofuse.dropout import Dropout, Independent
from robofuse.policies import FusionExtractor
from robofuse.wrappers import SensorDropout, SensorFaults, VecSensorDropout, VecSensorFaults

PLAN = "gauge:noise(0.5)@5..15+camera:blackout@10"


class Tank(gym.Env):
    """Keep a level at 0: a float gauge, a pressure gauge and a picture of the water tell it."""

    def __init__(self) -> None:
        """Episodes of 20 steps."""
        box, picture = gym.spaces.Box(-2, 2, (1,)), gym.spaces.Box(0, 255, (24, 24, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"camera": picture, "gauge": box, "pressure": box})
        self.action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Some level."""
        super().reset(seed=seed)
        self.level, self.left = self.np_random.uniform(-1, 1), 20
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Pumps."""
        self.level, self.left = float(np.clip(self.level + 0.2 * float(action[0]), -2, 2)), self.left - 1
        return self._look(), -abs(self.level), False, self.left == 0, {}

    def _look(self) -> dict[str, np.ndarray]:
        picture = np.zeros((24, 24, 3), np.uint8)
        picture[int(12 - 5 * self.level) :] = 255
        level = np.array([self.level], np.float32)
        return {"camera": picture, "gauge": level, "pressure": level}


def learn(env: VecEnv) -> str:
    """A few steps; then what the policy does with a gauge whose reading cannot be read."""
    policy = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 16}}
    agent = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, policy_kwargs=policy).learn(64)
    seen = env.reset()
    assert isinstance(seen, dict) and seen["available"].shape == (env.num_envs, 3)
    seen["available"][:, 1] = 0
    readings = [{**seen, "gauge": np.full_like(seen["gauge"], x)} for x in (np.nan, 1.0)]
    actions = [agent.predict(one, deterministic=True)[0] for one in readings]
    assert np.isfinite(actions[0]).all() and (actions[0] == actions[1]).all(), actions
    env.close()
    return f"PPO learned {agent.num_timesteps} steps"


def broken() -> gym.Env:
    """One environment in both wrappers."""
    return SensorDropout(SensorFaults(Tank(), PLAN, seed=0), 0.3, seed=0)


if __name__ == "__main__":
    assert "robofuse.envs.world" not in sys.modules
    print(learn(DummyVecEnv([broken] * 2)), "with SensorFaults in SensorDropout")
    several = VecSensorFaults(DummyVecEnv([Tank] * 2), PLAN, seed=0)
    print(learn(VecSensorDropout(several, Dropout(Independent(0.3), full=0.3), seed=0)), "with their vector twins")
    assert "mujoco" not in sys.modules, "a project without our worlds should not load a simulator"
