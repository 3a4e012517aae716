"""Somebody else's Dict observations: which keys are sensors that can break, and arrays to tensors and back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.dropout.spaces import sensed
from robofuse.errors import InputError
from robofuse.faults.injector import Injector
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.sensors import AVAILABLE, Kind, Sensor, infer_sensors

_DT = 0.05  # seconds, of robofuse's own environments


class Breaker:
    """`Injector` for arrays.

    Attributes:
        sensed: the space with `available`, and its keys.
        struck: keys of the sensors that can break.
        injector: says when.
    """

    def __init__(
        self,
        space: gym.Space,
        plan: Plan | Mix | str,
        kinds: Mapping[str, Kind] | None,
        sensors: Sequence[Sensor] | None,
        dt: float | None,
        num_envs: int,
        seed: int,
    ) -> None:
        """Arguments as of the wrappers."""
        self.sensed = sensed(space, None, "keep")
        found, left_out = _sensors(self.sensed.space, self.sensed.keys, kinds or {})
        known = {sensor.key: sensor for sensor in sensors or ()}
        # a wrapper in between may have left keys out, or moved the channels
        sensors = tuple(replace(known.get(one.key, one), shape=one.shape, dtype=one.dtype) for one in found)
        try:
            plan = Plan.parse(plan, sensors) if isinstance(plan, str) else plan
        except ValueError as error:
            for key, why in left_out.items():
                if f"unknown sensor {key!r}" in str(error):  # there is such a key: say why it cannot break
                    names = ", ".join(sensor.key for sensor in sensors)
                    raise InputError(f"{why}; sensors that can break: {names}") from None
            raise
        self.injector = Injector(plan, sensors, num_envs, seed, dt or _DT)
        plans = plan.plans if isinstance(plan, Mix) else (plan,)
        self.affected = frozenset(event.sensor for each in plans for event in each if event.fault.severity)
        self._columns = [self.sensed.keys.index(sensor.key) for sensor in sensors]

    def apply(
        self, observation: Mapping[str, np.ndarray], rows: Tensor | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Observations (n, …), broken, and what `available` tells of the faults, int8 (n, M)."""
        count = len(next(iter(observation.values())))
        told = np.ones((count, len(self.sensed.keys)), np.int8)
        if not self.affected:
            return dict(observation), told
        readings = {key: torch.from_numpy(np.ascontiguousarray(observation[key])) for key in self.injector.keys}
        live = None
        if AVAILABLE in observation:
            live = torch.from_numpy(np.asarray(observation[AVAILABLE]) > 0)[:, self._columns]
        broken, announced = self.injector.apply(readings, rows, live)
        told[:, self._columns] = announced.numpy()
        return {**observation, **{key: broken[key].numpy() for key in self.affected}}, told


def _sensors(
    space: gym.spaces.Dict, keys: tuple[str, ...], kinds: Mapping[str, Kind]
) -> tuple[tuple[Sensor, ...], dict[str, str]]:
    """The sensors that can break, numbers of a kind that can be told; and key → why, of those that cannot."""
    unknown = [key for key in kinds if key not in keys]
    if unknown:
        raise InputError(f"kinds names {unknown[0]!r}, which is no sensor; sensors: {', '.join(keys)}")
    found: list[Sensor] = []
    left_out: dict[str, str] = {}
    for key in keys:
        part = space[key]
        if not isinstance(part, gym.spaces.Box) or not part.shape or (len(part.shape) < 3 and part.dtype.kind != "f"):
            left_out[key] = f"no fault is known for {key!r}, {part}; faults break vectors of floats, and images"
            continue
        try:
            (sensor,) = infer_sensors(gym.spaces.Dict({key: part}), {key: kinds[key]} if key in kinds else None)
            found.append(sensor)
        except ValueError as error:
            if key in kinds:
                raise
            left_out[key] = str(error)
    return tuple(found), left_out
