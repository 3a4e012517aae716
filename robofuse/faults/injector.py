"""Breaks the sensors of N environments: one implementation for World and wrappers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from robofuse.faults.fault import Moment, salt_of
from robofuse.faults.memory import Recall, Ring, bits, put_rows, unbits
from robofuse.faults.plan import Plan
from robofuse.faults.strike import Strike
from robofuse.sensors import Sensor
from robofuse.streams import Stream, check_seed, uniform
from robofuse.tensors import take

_NEVER = torch.iinfo(torch.int64).max


class Injector:
    """Faults in N environments, a function of (seed, episode, control step) and the readings.

    Attributes:
        plan: what breaks; strikes of severity 0 are left out.
        keys: the M sensors, in the order of `available`.
        seed: of the faults; to change it, set it and start an episode in every environment.
        struck: bool (N, M), which sensors the last `apply` has broken.
    """

    def __init__(
        self,
        plan: Plan,
        sensors: Sequence[Sensor],
        num: int,
        seed: int,
        dt: float,
        phases: Sequence[str] = (),
        cameras_move: bool = False,
    ) -> None:
        """Everything is healthy until an episode starts.

        Args:
            plan: what breaks.
            sensors: what there is.
            num: N.
            seed: of the faults.
            dt: seconds of a control step.
            phases: of the task, if it has any.
            cameras_move: whether the caller moves cameras as `knocks` says, before it reads them.

        Raises:
            ValueError: the plan does not fit the sensors.
        """
        plan.check(sensors, phases, cameras_move)
        self.plan = replace(plan, strikes=tuple(strike for strike in plan if strike.fault.severity))
        self.keys, self.seed, self._dt, self._phases = [s.key for s in sensors], check_seed(seed), dt, list(phases)
        self._episode, self._step = torch.zeros(num, dtype=torch.int64), torch.zeros(num, dtype=torch.int64)
        self.struck = torch.zeros(num, len(sensors), dtype=torch.bool)
        by_key, count = {sensor.key: sensor for sensor in sensors}, {}
        self._running: list[_Running] = []
        for strike in self.plan:
            named = (strike.sensor, strike.fault.name)
            count[named] = count.get(named, -1) + 1
            back = round(strike.fault.history / dt)
            self._running.append(_Running(strike, by_key[strike.sensor], num, salt_of(*named, count[named]), back))

    def start(self, rows: Tensor, episode: Tensor) -> None:
        """Begin episodes; `rows` int64 (n,) environments, `episode` int64 (n,) numbers."""
        if not self._running or not len(rows):
            return
        self._episode[rows], self._step[rows] = episode, 0
        for running in self._running:
            running.start(rows, self.seed, episode)

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
        rows = torch.arange(len(self._step)) if rows is None else rows
        for running in self._running:
            if not running.strike.fault.moves_camera:
                continue
            since = self._since(running, rows, phase)
            running.since[rows] = since
            struck = (since >= 0).nonzero()[:, 0]
            if len(struck):
                moment = self._moment(running, torch.zeros(len(rows)), {}, rows, struck, since)
                yield running.strike.sensor, rows[struck], *running.strike.fault.offset(moment)

    def _since(self, running: "_Running", rows: Tensor, phase: Tensor | None) -> Tensor:
        strike = running.strike
        reached = None if strike.phase is None or phase is None else phase >= self._phases.index(strike.phase)
        return running.follow(rows, self._step[rows], reached, self.seed, self._episode[rows])

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
        """
        rows = torch.arange(len(self._step)) if rows is None else rows
        arrived, told = dict(readings), torch.ones(len(rows), len(self.keys), dtype=torch.int8)
        self.struck[rows] = False
        for running in self._running:
            strike, column = running.strike, self.keys.index(running.strike.sensor)
            moved = strike.fault.moves_camera
            since = running.since[rows] if moved else self._since(running, rows, phase)
            active = since >= 0
            reading = arrived[strike.sensor]
            # what a fault remembers is what it was given, after the faults before it in the plan
            if strike.fault.holds:
                running.hold(bits(reading), rows, ~active)
            for memory in (running.past, running.recalled):
                if memory is not None:
                    memory.push(bits(reading), rows, self._step[rows])
            hit = active if live is None else active & live[:, column]
            struck = hit.nonzero()[:, 0]
            if not len(struck):
                continue
            self.struck[rows[struck], column] = True
            if strike.told:
                told[struck, column] = 0
            if moved:
                continue  # the camera took its picture from there
            broken = strike.fault.apply(
                take(reading, struck), self._moment(running, reading, readings, rows, struck, since)
            )
            arrived[strike.sensor] = put_rows(reading, struck, broken)
        return arrived, told

    def _moment(
        self,
        running: "_Running",
        reading: Tensor,
        readings: Mapping[str, Tensor],
        rows: Tensor,
        struck: Tensor,
        since: Tensor,
    ) -> Moment:
        worlds, dtype = rows[struck], reading.dtype
        step = self._step[worlds]
        before = unbits(running.held[worlds], dtype) if running.held is not None else take(reading, struck)

        def past(age: Tensor) -> Tensor:
            if running.past is None:
                return take(reading, struck)
            return unbits(running.past.look(worlds, step, age), dtype)

        def other(otherwise: Tensor) -> Tensor:
            if running.recalled is None:
                return otherwise
            return unbits(running.recalled.recall(worlds, step, bits(otherwise)), dtype)

        def beside(name: str) -> Tensor | None:
            return take(readings[name], struck) if name in readings and name != running.sensor.key else None

        return Moment(
            running.sensor, since[struck], step, self._dt, before, past, other, beside, self.seed,
            self._episode[worlds], running.salt,
        )  # fmt: skip


@dataclass
class _Running:
    """One strike in N environments."""

    strike: Strike
    sensor: Sensor
    num: int
    salt: int
    back: int  # control steps that it looks back

    def __post_init__(self) -> None:
        self.held: Tensor | None = None
        self.past = Ring(self.num, self.back + 1) if self.back else None
        self.recalled = Recall(self.num) if self.strike.fault.recalls else None
        self._wait = torch.zeros(self.num, dtype=torch.int64)  # steps after the phase, or the episode's start
        self._first = torch.full((self.num,), _NEVER)  # the first step of the fault, once it is known
        self._began = torch.full((self.num,), -1, dtype=torch.int64)  # of the present burst; −1 between bursts
        self._fresh = torch.ones(self.num, dtype=torch.bool)
        self.since = torch.full((self.num,), -1, dtype=torch.int64)  # of what moves cameras, as `knocks` found it
        self._draw = partial(uniform, stream=Stream.FAULTS, count=1, salt=self.salt + 3)

    def start(self, rows: Tensor, seed: int, episode: Tensor) -> None:
        strike, wait = self.strike, torch.full_like(rows, self.strike.step)
        if strike.until is not None:
            drawn = self._draw(seed=seed, episode=episode, step=1 << 40)[:, 0]
            wait = strike.step + (drawn * (strike.until - strike.step + 1)).long()
        self._wait[rows], self._began[rows], self._fresh[rows] = wait, -1, True
        if self.recalled is not None:
            self.recalled.start(rows)
        self._first[rows] = wait if strike.phase is None else _NEVER

    def follow(self, rows: Tensor, step: Tensor, reached: Tensor | None, seed: int, episode: Tensor) -> Tensor:
        """Control steps since the fault set in, int64 (n,), −1 where it is not there."""
        if reached is not None:
            now = reached & (self._first[rows] == _NEVER)
            self._first[rows] = torch.where(now, step + self._wait[rows], self._first[rows])
        first = self._first[rows]
        there = step >= first
        if self.strike.lasts is not None:
            there &= step - first < self.strike.lasts
        bursts = self.strike.bursts or self.strike.fault.bursts()
        if bursts is None:
            return torch.where(there, step - first, -1)
        on, gap = bursts
        drawn, began = self._draw(seed=seed, episode=episode, step=step)[:, 0], self._began[rows]
        stays = drawn >= 1.0 / on
        # at its first step the process is where it is in the long run
        comes = drawn < torch.where(step == first, on / (on + gap), 1.0 / gap)
        burst = there & torch.where(began >= 0, stays, comes)
        began = torch.where(burst, torch.where(began >= 0, began, step), -1)
        self._began[rows] = began
        return torch.where(burst, step - began, -1)

    def hold(self, reading: Tensor, rows: Tensor, healthy: Tensor) -> None:
        """Remember the last reading before the fault; of an episode that begins with it, the first one."""
        if self.held is None:
            self.held = reading.new_zeros(self.num, *reading.shape[1:])
        keep = (healthy | self._fresh[rows]).nonzero()[:, 0]
        self.held[rows[keep]] = reading[keep]
        self._fresh[rows] = False
