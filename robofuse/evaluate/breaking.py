"""Breaks the sensors of N worlds by a plan for each of them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from robofuse.envs import World
from robofuse.envs.tensors import put, take
from robofuse.envs.world import CONTROL_RATE
from robofuse.faults import Injector, Plan
from robofuse.sensors import AVAILABLE


class Faults:
    """What arrives of the observations of a World whose worlds play episodes under different plans.

    Attributes:
        struck: bool (N, M), which sensors the last `apply` has broken.
    """

    def __init__(self, world: World) -> None:
        """Nothing fails until a plan starts."""
        self._world, self._keys = world, [sensor.key for sensor in world.sensors]
        self._playing: dict[Plan, list[int]] = {}  # the worlds of every plan that does anything
        self._injectors: dict[Plan, Injector] = {}
        self.struck = torch.zeros(world.num_worlds, len(self._keys), dtype=torch.bool)

    def start(self, plans: Mapping[int, Plan]) -> None:
        """Worlds have begun an episode under a plan each; those that had another must have ended it."""
        for lane, plan in plans.items():
            if not len(plan):
                continue
            if plan not in self._injectors:
                self._injectors[plan] = self._injector(plan)
            self._playing.setdefault(plan, []).append(lane)
            row = torch.tensor([lane])
            self._injectors[plan].start(row, self._world.episode[row])

    def end(self, lanes: Iterable[int]) -> None:
        """Episodes have ended; what no world plays any more is forgotten."""
        gone = set(lanes)
        self._playing = {
            plan: left for plan, all_ in self._playing.items() if (left := [lane for lane in all_ if lane not in gone])
        }
        self._injectors = {plan: self._injectors[plan] for plan in self._playing}

    def step(self) -> None:
        """Every world has advanced by a control step."""
        for injector in self._injectors.values():
            injector.step()

    def apply(self, observation: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """What arrives; call it once per control step.

        Args:
            observation: key → (N, …), of all worlds; not changed.

        Returns:
            The same keys, with fresh tensors where anything broke; int8 (N, M), `available` without what is announced
            to be broken. What is not available has not been hidden.
        """
        arrived, available = dict(observation), observation[AVAILABLE].clone()
        phases = self._world.task.phase() if self._world.task.phases else None
        self.struck.zero_()
        copied: set[str] = set()
        for plan, lanes in self._playing.items():
            rows, injector = torch.tensor(lanes), self._injectors[plan]
            readings = {key: take(observation[key], rows) for key in self._keys}
            phase = None if phases is None else phases[rows]
            broken, told = injector.apply(readings, rows, available[rows] > 0, phase)
            available[rows] &= told
            self.struck[rows] = injector.struck[rows]
            for key in {strike.sensor for strike in plan}:
                if key not in copied:
                    arrived[key] = arrived[key].clone()
                    copied.add(key)
                put(arrived[key], rows, broken[key])
        return arrived, available

    def _injector(self, plan: Plan) -> Injector:
        world = self._world
        return Injector(plan, world.sensors, world.num_worlds, world.seed, 1.0 / CONTROL_RATE, world.task.phases)
