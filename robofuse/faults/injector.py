"""Breaks the sensors of N environments, each under its own plan: one implementation for World and wrappers."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from robofuse.faults.fault import Moment, salt_of
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.faults.running import Running
from robofuse.faults.strike import Strike
from robofuse.sensors import Sensor
from robofuse.streams import check_seed
from robofuse.tensors import put, take


class Injector:
    """Faults in N environments, a function of (seed, episode, control step) and the readings.

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
        """Everything is healthy until an episode starts.

        Args:
            faults: what breaks.
            sensors: what there is.
            num: N.
            seed: of the faults.
            dt: seconds of a control step.
            phases: of the task, if it has any.
            cameras_move: whether the caller moves cameras as `knocks` says, before it reads them.

        Raises:
            ValueError: the faults do not fit the sensors.
        """
        faults.check(sensors, phases, cameras_move)
        self.faults, self.keys, self.seed = faults, [sensor.key for sensor in sensors], check_seed(seed)
        self.struck = torch.zeros(num, len(sensors), dtype=torch.bool)
        self._sensors, self._dt, self._phases = {s.key: s for s in sensors}, dt, list(phases)
        self._episode, self._step = torch.zeros(num, dtype=torch.int64), torch.zeros(num, dtype=torch.int64)
        self._under: list[Plan] = [Plan()] * num
        self._of: list[list[Running]] = [[] for _ in range(num)]  # the strikes of each environment's plan
        self._running: dict[tuple[int, int, Strike], Running] = {}  # by place in the plan, which comes first

    @property
    def idle(self) -> bool:
        """Whether nothing can break until the next episode starts."""
        return not self._running

    def start(self, rows: Tensor, episode: Tensor, plans: Sequence[Plan] | None = None) -> None:
        """Begin episodes.

        Args:
            rows: int64 (n,), environments.
            episode: int64 (n,), their numbers.
            plans: n, what breaks in each; by default what `faults` says.
        """
        if plans is None:
            plans = self.faults.draw(self.seed, episode) if isinstance(self.faults, Mix) else [self.faults] * len(rows)
        self._episode[rows], self._step[rows], self.struck[rows] = episode, 0, False
        begins: dict[Running, list[int]] = {}
        for place, (row, plan) in enumerate(zip(rows.tolist(), plans, strict=True)):
            if plan is not self._under[row]:
                self._change(row, plan)
            for running in self._of[row]:
                begins.setdefault(running, []).append(place)
        for running, places in begins.items():
            running.start(rows[places], self.seed, episode[places])

    def _change(self, row: int, plan: Plan) -> None:
        """The environment is under this plan from now on."""
        self._under[row], count, now = plan, dict[tuple[str, str], int](), list[Running]()
        for place, strike in enumerate(strike for strike in plan if strike.fault.severity):
            named = (strike.sensor, strike.fault.name)
            index = count[named] = count.get(named, -1) + 1
            running = self._running.get((place, index, strike))
            if running is None:
                sensor = self._sensors[strike.sensor]
                running = Running(strike, sensor, len(self._under), salt_of(*named, index), self._dt, self._phases)
                self._running[place, index, strike] = running
            now.append(running)
        for running in self._of[row]:
            running.leave(row)
        for running in now:
            running.join(row)
        self._of[row] = now
        # what no environment has any more is forgotten; first strikes of plans come first
        self._running = {key: self._running[key] for key in sorted(self._running, key=lambda key: key[0])}
        self._running = {key: running for key, running in self._running.items() if len(running)}

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        self._step += 1

    def knocks(
        self, rows: Tensor | None = None, phase: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Where cameras are out of place, for what `apply` will be given next; call it before cameras are read.

        Args:
            rows: int64 (n,) the environments; all by default.
            phase: int64 (n,), which of the phases the task is in.

        Yields:
            Key of the camera's sensor; int64 (m,) environments; shift [m] and turn [rad], (m, 3), see `Fault.offset`.
        """
        for running in self._running.values():
            if not running.strike.fault.moves_camera:
                continue
            places, lanes = running.among(rows)
            since = self._since(running, places, lanes, phase)
            running.since[lanes] = since
            struck = (since >= 0).nonzero()[:, 0]
            if len(struck):
                moment = self._moment(running, lanes[struck], since[struck])
                yield running.strike.sensor, lanes[struck], *running.strike.fault.offset(moment)

    def apply(
        self, readings: Mapping[str, Tensor], rows: Tensor | None = None, live: Tensor | None = None,
        phase: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        """What arrives of healthy readings; call it once for every control step of an environment.

        Args:
            readings: key → (n, …); not changed.
            rows: int64 (n,) the environments they come from; all by default.
            live: bool (n, M), sensors that deliver at all; faults change nothing of others.
            phase: int64 (n,), which of the phases the task is in.

        Returns:
            The same keys, with fresh tensors where anything broke; int8 (n, M), 0 where an announced fault is.

        Raises:
            ValueError: a fault returned another shape than it was given.
        """
        count = len(self._under) if rows is None else len(rows)
        arrived, told = dict(readings), torch.ones(count, len(self.keys), dtype=torch.int8)
        self.struck[slice(None) if rows is None else rows] = False
        fresh: set[str] = set()  # sensors of which `arrived` holds a copy
        for running in self._running.values():
            places, lanes = running.among(rows)
            if not len(places):
                continue
            strike, key, column = running.strike, running.strike.sensor, self.keys.index(running.strike.sensor)
            moved = strike.fault.moves_camera
            since = running.since[lanes] if moved else self._since(running, places, lanes, phase)
            hit = since >= 0
            # what a fault remembers is what it was given, after the faults before it in the plan
            running.remember(arrived[key], places, lanes, ~hit, self._step[lanes])
            hit = hit if live is None else hit & live[places, column]
            at = hit.nonzero()[:, 0]
            if not len(at):
                continue
            places, lanes = places[at], lanes[at]
            self.struck[lanes, column] = True
            if strike.told:
                told[places, column] = 0
            if moved:
                continue  # the camera took its picture from there
            given = take(arrived[key], places)
            shape, dtype = given.shape, given.dtype
            moment = self._moment(running, lanes, since[at], arrived[key], readings, places)
            broken = strike.fault.apply(given, moment)
            if broken.shape != shape:
                raise ValueError(f"{strike} made {tuple(broken.shape)} of readings of shape {tuple(shape)}")
            broken = broken.to(dtype)
            if len(places) == count:
                arrived[key] = broken.contiguous()
            else:
                if key not in fresh:
                    arrived[key] = arrived[key].clone()
                put(arrived[key], places, broken)
            fresh.add(key)
        return arrived, told

    def _since(self, running: Running, places: Tensor, lanes: Tensor, phase: Tensor | None) -> Tensor:
        here = None if phase is None else phase[places]
        return running.follow(lanes, self._step[lanes], here, self.seed, self._episode[lanes])

    def _moment(
        self,
        running: Running,
        lanes: Tensor,
        since: Tensor,
        arrived: Tensor | None = None,
        readings: Mapping[str, Tensor] | None = None,
        places: Tensor | None = None,
    ) -> Moment:
        """For environments `lanes`, whose readings stand at `places`; knocks come before there are any."""
        step = self._step[lanes]

        def present() -> Tensor:
            assert arrived is not None
            assert places is not None
            return take(arrived, places)

        def beside(name: str) -> Tensor | None:
            if readings is None or places is None or name not in readings or name == running.sensor.key:
                return None
            return take(readings[name], places)

        return Moment(
            running.sensor,
            since,
            step,
            self._dt,
            before=lambda: running.before(lanes) if running.strike.fault.holds else present(),
            past=lambda age: running.past(lanes, step, age) if running.strike.fault.history else present(),
            other=lambda otherwise: running.other(lanes, step, otherwise),
            beside=beside,
            seed=self.seed,
            episode=self._episode[lanes],
            salt=running.salt,
        )
