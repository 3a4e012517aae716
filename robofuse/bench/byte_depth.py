"""Observations that SB3's own extractor can see."""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from robofuse.sensors import PRIVILEGED

STEP_MM = 8  # of depth as a byte: 255 of them reach 2 m


class ByteDepth(VecEnvWrapper):
    """Observations as SB3's CombinedExtractor needs them: depth as bytes, else it flattens it; no `privileged`."""

    def __init__(self, venv: VecEnv) -> None:
        """Wraps environments with a Dict space."""
        assert isinstance(venv.observation_space, gym.spaces.Dict)
        spaces = {key: space for key, space in venv.observation_space.spaces.items() if key != PRIVILEGED}
        self._depths = [key for key, space in spaces.items() if space.dtype == np.uint16]
        for key in self._depths:
            spaces[key] = gym.spaces.Box(0, 255, spaces[key].shape, np.uint8)
        self._keys = list(spaces)
        super().__init__(venv, observation_space=gym.spaces.Dict(spaces))

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`."""
        return self._convert(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            infos[index]["terminal_observation"] = self._convert(infos[index]["terminal_observation"])
        return self._convert(observation), rewards, dones, infos

    def _convert(self, observation: VecEnvObs) -> dict[str, np.ndarray]:
        assert isinstance(observation, dict)
        converted = {key: observation[key] for key in self._keys}
        for key in self._depths:
            converted[key] = np.minimum(converted[key] // STEP_MM, 255).astype(np.uint8)
        return converted
