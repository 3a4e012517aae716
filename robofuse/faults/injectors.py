"""Faults in N environments, each of which has its own plan."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from robofuse.faults.injector import Injector
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.sensors import Sensor
from robofuse.streams import check_seed
from robofuse.tensors import put, take


class Injectors:
    """As an `Injector`, but environments may break in different ways at the same time.

    Attributes:
        faults: what breaks unless `start` is told otherwise.
        keys: the M sensors, in the order of `available`.
        seed: of the faults; to change it, set it and start an episode in every environment.
        struck: bool (N, M), which sensors the last `apply` has broken.
    """

    def __init__(
        self,
        faults: Plan | Mix,
        sensors: Sequence[Sensor],
        num: int,
        seed: int,
        dt: float,
        phases: Sequence[str] = (),
        cameras_move: bool = False,
    ) -> None:
        """Everything is healthy until an episode starts; arguments and errors as of `Injector`."""
        faults.check(sensors, phases, cameras_move)
        self.faults, self.keys, self.seed = faults, [sensor.key for sensor in sensors], check_seed(seed)
        self.struck = torch.zeros(num, len(sensors), dtype=torch.bool)
        self._sensors, self._num = tuple(sensors), num
        self._rest = (dt, tuple(phases), cameras_move)
        self._under: list[Plan] = [Plan()] * num
        self._injectors: dict[Plan, Injector] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing can break until the next episode starts."""
        return not self._injectors

    def start(self, rows: Tensor, episode: Tensor, plans: Sequence[Plan] | None = None) -> None:
        """Begin episodes.

        Args:
            rows: int64 (n,), environments.
            episode: int64 (n,), their numbers.
            plans: n, what breaks in each; by default what `faults` says.
        """
        if plans is None:
            plans = self.faults.draw(self.seed, episode) if isinstance(self.faults, Mix) else [self.faults] * len(rows)
        for row, plan in zip(rows.tolist(), plans, strict=True):
            self._under[row] = plan
        self.struck[rows] = False
        known, self._injectors = self._injectors, {}  # what no environment has any more is forgotten
        for plan in dict.fromkeys(self._under):
            if len(plan):
                self._injectors[plan] = known.get(plan) or Injector(
                    plan, self._sensors, self._num, self.seed, *self._rest
                )
        for plan, injector in self._injectors.items():
            injector.seed = self.seed
            chosen = torch.tensor([i for i, other in enumerate(plans) if other == plan], dtype=torch.int64)
            injector.start(rows[chosen], episode[chosen])

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        for injector in self._injectors.values():
            injector.step()

    def knocks(
        self, rows: Tensor | None = None, phase: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """As `Injector.knocks`."""
        rows = torch.arange(self._num) if rows is None else rows
        for plan, places in self._lanes(rows).items():
            if any(strike.fault.moves_camera for strike in plan):
                at = torch.tensor(places)
                yield from self._injectors[plan].knocks(rows[at], None if phase is None else phase[at])

    def apply(
        self, readings: Mapping[str, Tensor], rows: Tensor | None = None, live: Tensor | None = None,
        phase: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        """As `Injector.apply`."""
        rows = torch.arange(self._num) if rows is None else rows
        arrived, told = dict(readings), torch.ones(len(rows), len(self.keys), dtype=torch.int8)
        self.struck[rows] = False
        own: set[str] = set()  # sensors of which `arrived` holds a copy
        for plan, places in self._lanes(rows).items():
            injector, at = self._injectors[plan], torch.tensor(places)
            everyone = len(places) == len(rows)
            here, chosen = (
                rows[at],
                {key: x if everyone else take(x, at) for key, x in readings.items() if key in self.keys},
            )
            broken, told[at] = injector.apply(
                chosen, here, None if live is None else live[at], None if phase is None else phase[at]
            )
            self.struck[here] = injector.struck[here]
            for key in {strike.sensor for strike in plan}:
                if everyone:
                    arrived[key] = broken[key]
                    continue
                if key not in own:
                    arrived[key] = arrived[key].clone()
                    own.add(key)
                put(arrived[key], at, broken[key])
        return arrived, told

    def _lanes(self, rows: Tensor) -> dict[Plan, list[int]]:
        """Which of the rows are under which plan, of those under any."""
        lanes: dict[Plan, list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            plan = self._under[row]
            if len(plan):
                lanes.setdefault(plan, []).append(place)
        return lanes
