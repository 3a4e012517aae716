"""The last readings of every sensor, for any Stable-Baselines3 `VecEnv` with Dict observations."""

from collections.abc import Sequence

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from robofuse.memory.spaces import stacked
from robofuse.memory.stack import Stack


class VecSensorStack(VecEnvWrapper):
    """Gives of every sensor the last K readings that it delivered, with their `freshness`; see `Stack`.

    It belongs outside of what hides or breaks sensors (`VecSensorDropout`, `VecSensorFaults`), whose `available` it
    reads. `terminal_observation` is stacked on the episode that ended.
    """

    def __init__(self, venv: VecEnv, frames: int = 2, sensors: Sequence[str] | None = None) -> None:
        """Wraps environments.

        Args:
            venv: any VecEnv with a flat Dict observation space.
            frames: K; 1 holds the last reading.
            sensors: keys to stack; by default all but `available`, `privileged` and goals.

        Raises:
            ValueError: not a flat Dict, an unknown sensor or one that is no array; the message says what to do.
        """
        found = stacked(venv.observation_space, sensors, frames)
        self._stack = Stack(found.keys, found.order, venv.num_envs, frames)
        super().__init__(venv, observation_space=found.space)

    def reset(self) -> VecEnvObs:
        """Start an episode everywhere, of which nothing is known yet."""
        observation = self.venv.reset()
        self._stack.start()
        return self._pushed(observation)

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones)
        for index in ended:
            if "terminal_observation" in infos[index]:
                last = {key: np.asarray(x)[None] for key, x in infos[index]["terminal_observation"].items()}
                last = self._pushed(last, torch.tensor([index]))
                infos[index]["terminal_observation"] = {key: x[0] for key, x in last.items()}
        if len(ended):
            self._stack.start(torch.from_numpy(ended))
        return self._pushed(observation), rewards, dones, infos

    def _pushed(self, observation: VecEnvObs, rows: torch.Tensor | None = None) -> dict[str, np.ndarray]:
        assert isinstance(observation, dict)
        found = self._stack.push({key: torch.from_numpy(x) for key, x in observation.items()}, rows)
        return {key: x.numpy() for key, x in found.items()}
