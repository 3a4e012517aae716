"""The last readings of every sensor, for any Gymnasium environment with Dict observations."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from robofuse.memory.spaces import stacked
from robofuse.memory.stack import Stack

Observation = dict[str, Any]


class SensorStack(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Gives of every sensor the last K readings that it delivered, with their `freshness`; see `Stack`.

    It belongs outside of what hides or breaks sensors (`SensorDropout`, `SensorFaults`), whose `available` it reads.
    """

    def __init__(self, env: gym.Env, frames: int = 2, sensors: Sequence[str] | None = None) -> None:
        """Wraps an environment.

        Args:
            env: any environment with a flat Dict observation space.
            frames: K; 1 holds the last reading.
            sensors: keys to stack; by default all but `available`, `privileged` and goals.

        Raises:
            ValueError: not a flat Dict, an unknown sensor or one that is no array; the message says what to do.
        """
        gym.utils.RecordConstructorArgs.__init__(self, frames=frames, sensors=sensors)
        gym.Wrapper.__init__(self, env)
        found = stacked(env.observation_space, sensors, frames)
        self._stack = Stack(found.keys, found.order, 1, frames)
        self.observation_space = found.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Start an episode, of which nothing is known yet."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._stack.start()
        return self._pushed(observation), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._pushed(observation), reward, terminated, truncated, info

    def _pushed(self, observation: Observation) -> Observation:
        found = self._stack.push({key: torch.as_tensor(np.asarray(x))[None] for key, x in observation.items()})
        # what is not stacked, such as a number of a Discrete space, stays what it was
        changed = (*self._stack.keys, *(key for key in found if key not in observation), "available")
        return {key: x[0].numpy().copy() if key in changed else observation[key] for key, x in found.items()}
