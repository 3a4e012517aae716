"""Sensor dropout for any Gymnasium environment with Dict observations."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from robofuse.dropout.apply import hide_row
from robofuse.dropout.config import Dropout
from robofuse.dropout.laws import Law
from robofuse.dropout.masker import Masker
from robofuse.dropout.spaces import Fill, sensed
from robofuse.errors import InputError
from robofuse.rng import check_seed

Observation = dict[str, Any]


class SensorDropout(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Hides sensors of one environment and says so under `available`.

    `available` is int8 (M,), 1 = delivering, one entry for each key but `available` and `privileged`, in alphabetical
    order; if the environment has one itself, a sensor delivers if both say so. The last observation of an episode has
    the mask of that episode. Masks depend on (seed, episode, step) alone.

    For several environments at once with Stable-Baselines3, `VecSensorDropout` is faster.
    """

    def __init__(
        self,
        env: gym.Env,
        dropout: Dropout | Law | float,
        sensors: Sequence[str] | None = None,
        fill: Fill = "zeros",
        seed: int | None = None,
    ) -> None:
        """Wraps an environment.

        Args:
            env: any environment with a flat Dict observation space.
            dropout: what to hide: a `Dropout`, a law, or a probability.
            sensors: keys that may be hidden; by default all but `available`, `privileged` and goals.
            fill: what hidden readings become: `zeros`, for policies that do not read `available`; or `keep`, as is.
            seed: of the masks until `reset` is given one; by default another in every run.

        Raises:
            ValueError: not a flat Dict, an unknown sensor, or a law that does not fit; the message says what to do.
        """
        gym.utils.RecordConstructorArgs.__init__(self, dropout=dropout, sensors=sensors, fill=fill, seed=seed)
        gym.Wrapper.__init__(self, env)
        self._sensed, self._fill = sensed(env.observation_space, sensors, fill), fill == "zeros"
        seed = int(np.random.default_rng().integers(2**62)) if seed is None else check_seed(seed)
        self._masker = Masker(_given(dropout), self._sensed.hideable, 1, seed)
        self._episode = torch.zeros(1, dtype=torch.int64)
        self.observation_space = self._sensed.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Start an episode; a seed is passed on, and starts the masks again at their episode 0."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._masker.seed, self._episode = check_seed(seed), torch.zeros_like(self._episode)
        self._masker.start(torch.zeros(1, dtype=torch.int64), self._episode)
        self._episode = self._episode + 1
        return self._hide(observation), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._masker.step()
        return self._hide(observation), reward, terminated, truncated, info

    def set_progress(self, progress: float) -> None:
        """Tell the schedule, here and in environments further in, the training progress in [0, 1]."""
        self._masker.progress = progress
        if self.env.has_wrapper_attr("set_progress"):
            self.env.get_wrapper_attr("set_progress")(progress)

    def _hide(self, observation: Observation) -> Observation:
        self._sensed.check(observation)
        return hide_row(observation, self._sensed.masks(self._masker.available)[0], self._sensed.keys, self._fill)


def _given(dropout: Dropout | Law | float | None) -> Dropout | Law | float:
    if dropout is None:
        raise InputError("dropout is missing: give a probability, a robofuse.dropout.Dropout or a law")
    return dropout
