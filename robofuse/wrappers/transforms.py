"""What the wrappers do to the observations of N environments: mask sensors, break them, or stack their readings.

A transform knows nothing of Gymnasium or Stable-Baselines3. It is told when episodes begin and that a control step has
passed, and it changes a batch of observations. `gym.py` and `sb3.py` call it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.dropout import Dropout, Law, Masker, mask_arrays
from robofuse.errors import InputError
from robofuse.faults import Injector, Mix, Plan
from robofuse.memory import Stack
from robofuse.rng import check_seed
from robofuse.sensors import AVAILABLE, FRESHNESS, Kind, Sensor
from robofuse.wrappers.spaces import SensorSpace, breakable_sensors, sensor_space, stacked_space

Arrays = dict[str, np.ndarray]


class Transform(ABC):
    """Changes the observations of N environments.

    Attributes:
        sensed: the sensors of the environments, and their space with `available`.
        space: of one environment's changed observations.
    """

    def __init__(self, sensed: SensorSpace) -> None:
        """Nothing changes until episodes start."""
        self.sensed, self.space = sensed, sensed.space

    def reseed(self, seed: int) -> None:
        """Takes another seed, if anything is random; episodes must then start in all environments."""
        return

    @abstractmethod
    def start(self, env_ids: Tensor, episode: Tensor) -> None:
        """Episodes with these numbers int64 (n,) begin in environments int64 (n,)."""

    def step(self) -> None:
        """A control step has passed in every environment."""
        return

    @abstractmethod
    def apply(self, observation: Mapping[str, np.ndarray], env_ids: Tensor) -> Arrays:
        """Changes observations, key → (n, …), of environments int64 (n,); call it once per step and environment.

        Returns fresh arrays where something has changed, the given ones elsewhere.
        """


class MaskingTransform(Transform):
    """Sensor dropout."""

    def __init__(
        self,
        space: gym.Space,
        dropout: Dropout | Law | float,
        sensors: Sequence[str] | None,
        fill: str,
        num_envs: int,
        seed: int,
    ) -> None:
        """Arguments as those of `SensorDropout`; `space` is one environment's."""
        super().__init__(sensor_space(space, sensors, fill))
        if dropout is None:
            raise InputError("dropout is missing: give a probability, a robofuse.dropout.Dropout or a law")
        self.masker, self._fill = Masker(dropout, self.sensed.chosen, num_envs, seed), fill == "zeros"
        self._columns = [self.sensed.keys.index(key) for key in self.sensed.chosen]

    def reseed(self, seed: int) -> None:
        self.masker.seed = check_seed(seed)

    def start(self, env_ids: Tensor, episode: Tensor) -> None:
        self.masker.start(env_ids, episode)

    def step(self) -> None:
        self.masker.step()

    def apply(self, observation: Mapping[str, np.ndarray], env_ids: Tensor) -> Arrays:
        """Masks sensors, and says so under `available`."""
        available = np.ones((len(env_ids), len(self.sensed.keys)), np.int8)
        available[:, self._columns] = self.masker.available[env_ids].numpy()
        return mask_arrays(observation, available, self.sensed.keys, self._fill)


class BreakingTransform(Transform):
    """Sensor faults."""

    def __init__(
        self,
        space: gym.Space,
        plan: Plan | Mix | str,
        kinds: Mapping[str, Kind] | None,
        sensors: Sequence[Sensor] | None,
        dt: float,
        num_envs: int,
        seed: int,
    ) -> None:
        """Arguments as those of `SensorFaults`; `space` is one environment's."""
        super().__init__(sensor_space(space, None, "keep"))
        found, left_out = breakable_sensors(self.sensed, kinds or {})
        known = {sensor.key: sensor for sensor in sensors or ()}
        # a wrapper in between may have left keys out, or moved the channels
        sensors = tuple(replace(known.get(one.key, one), shape=one.shape, dtype=one.dtype) for one in found)
        try:
            plan = Plan.parse(plan, sensors) if isinstance(plan, str) else plan
        except InputError as error:
            for key, why in left_out.items():
                if f"unknown sensor {key!r}" in str(error):  # there is such a key: say why it cannot break
                    names = ", ".join(sensor.key for sensor in sensors)
                    raise InputError(f"{why}; sensors that can break: {names}") from None
            raise
        self._injector = Injector(plan, sensors, num_envs, seed, dt)
        plans = plan.plans if isinstance(plan, Mix) else (plan,)
        self._affected = frozenset(event.sensor for each in plans for event in each if event.fault.severity)
        self._columns = [self.sensed.keys.index(sensor.key) for sensor in sensors]

    @property
    def affected(self) -> np.ndarray:
        """Which sensors faults have broken in the last observations, bool (N, M)."""
        broken = self._injector.affected.numpy()
        found = np.zeros((len(broken), len(self.sensed.keys)), bool)
        found[:, self._columns] = broken
        return found

    def reseed(self, seed: int) -> None:
        self._injector.seed = check_seed(seed)

    def start(self, env_ids: Tensor, episode: Tensor) -> None:
        self._injector.start(env_ids, episode)

    def step(self) -> None:
        self._injector.step()

    def apply(self, observation: Mapping[str, np.ndarray], env_ids: Tensor) -> Arrays:
        """Breaks sensors; those whose faults are announced become zeros, and 0 under `available`."""
        available = np.ones((len(env_ids), len(self.sensed.keys)), np.int8)
        broken: dict[str, np.ndarray] = {}
        if self._affected:
            readings = {key: torch.from_numpy(np.ascontiguousarray(observation[key])) for key in self._injector.keys}
            live = None
            if AVAILABLE in observation:
                live = torch.from_numpy(observation[AVAILABLE] > 0)[:, self._columns]
            found, announced = self._injector.apply(readings, env_ids, live)
            broken = {key: found[key].numpy() for key in self._affected}
            available[:, self._columns] = announced.numpy()
        return mask_arrays({**observation, **broken}, available, self.sensed.keys)


class StackingTransform(Transform):
    """The last readings that every sensor delivered."""

    def __init__(self, space: gym.Space, frames: int, sensors: Sequence[str] | None, num_envs: int) -> None:
        """Arguments as those of `SensorStack`; `space` is one environment's."""
        super().__init__(sensor_space(space, sensors, "keep"))
        self.space = stacked_space(self.sensed, frames)
        self._stack = Stack(self.sensed.chosen, self.sensed.keys, num_envs, frames)

    def start(self, env_ids: Tensor, episode: Tensor) -> None:
        self._stack.start(env_ids)

    def apply(self, observation: Mapping[str, np.ndarray], env_ids: Tensor) -> Arrays:
        taken = {key: observation[key] for key in (*self._stack.keys, AVAILABLE) if key in observation}
        found = self._stack.push({key: torch.from_numpy(np.ascontiguousarray(x)) for key, x in taken.items()}, env_ids)
        return {**observation, **{key: found[key].numpy() for key in (*self._stack.keys, FRESHNESS, AVAILABLE)}}
