"""Breaks the sensors of N environments, each under its own plan, for World and the wrappers.

`env_ids` are environments, from 0 to N − 1; `rows` are rows of a batch of readings, which may be of some environments
only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.faults.base import FaultContext, FaultEvent, salt_of
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.rng import Stream, check_seed, uniform
from robofuse.sensors import Sensor
from robofuse.tensors import Worlds, by_number, chosen, numbers_of, put, take, write

_NEVER = torch.iinfo(torch.int64).max
_RECALLED = 128  # steps of an episode that `FaultContext.other` can recall; beyond them the last one stays


class Injector:
    """Faults in N environments, a function of (seed, episode, control step) and the readings.

    Attributes:
        faults: what breaks unless `start` is given other plans.
        keys: the M sensors, in the order of `available`.
        seed: of the faults; to change it, set it and start an episode in every environment.
        affected: bool (N, M), which sensors the last `apply` has broken.
    """

    def __init__(
        self,
        faults: Plan | Mix,
        sensors: Sequence[Sensor],
        num_envs: int,
        seed: int,
        dt: float,
        phases: Sequence[str] = (),
        cameras_move: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Everything is healthy until an episode starts. InputError if the faults do not fit the sensors or phases.

        Args:
            faults: what breaks.
            sensors: what there is.
            num_envs: N.
            seed: of the faults.
            dt: seconds of a control step.
            phases: of the task, if it has any.
            cameras_move: whether the caller moves cameras as `camera_offsets` says, before it reads them.
            device: of the readings. While something may break, it is waited for at every step.
        """
        self._check = partial(Plan.check, sensors=sensors, phases=phases, cameras_move=cameras_move)
        self.check(faults.plans if isinstance(faults, Mix) else (faults,))
        self.faults, self.keys, self.seed = faults, [sensor.key for sensor in sensors], check_seed(seed)
        self.affected = torch.zeros(num_envs, len(sensors), dtype=torch.bool, device=device)
        self._sensors, self._dt, self._phases = {s.key: s for s in sensors}, dt, list(phases)
        self._episode, self._step = torch.zeros(2, num_envs, dtype=torch.int64, device=device)
        self._plan_of: list[Plan] = [Plan()] * num_envs
        self._faults_of: list[list[ActiveFault]] = [[] for _ in range(num_envs)]
        # by place in the plan, which comes first; index among those of the same name; and event
        self._active: dict[tuple[int, int, FaultEvent], ActiveFault] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing can break until the next episode starts."""
        return not self._active

    def check(self, plans: Iterable[Plan]) -> None:
        """Checks that plans fit the sensors and phases that there are; InputError says what does not."""
        for plan in {id(plan): plan for plan in plans}.values():  # most are the same
            self._check(plan)

    def start(self, worlds: Tensor, episode: Tensor, plans: Sequence[Plan] | None = None) -> None:
        """Begins the episodes with numbers `episode`, int64 (n,), in these environments.

        `plans` says what breaks in each of those that begin, in their order; by default what `faults` says.
        """
        write(self._episode, worlds, episode)
        write(self._step, worlds, 0)
        write(self.affected, worlds, False)
        if plans is None and self.idle and self.faults == Plan():
            return  # without a look at which they are
        env_ids = numbers_of(worlds)
        episode = self._episode[env_ids]
        if plans is None:
            faults, count = self.faults, len(env_ids)
            plans = faults.draw(self.seed, episode) if isinstance(faults, Mix) else [faults] * count
        self._change_plans(env_ids.tolist(), plans)
        begins: dict[ActiveFault, list[int]] = {}
        for row, env_id in enumerate(env_ids.tolist()):
            for active in self._faults_of[env_id]:
                begins.setdefault(active, []).append(row)
        for active, rows in begins.items():
            active.start(env_ids[rows], self.seed, episode[rows])

    def change(self, env_ids: Tensor, plans: Sequence[Plan]) -> None:
        """Changes what breaks in the episodes that environments int64 (n,) are in, from their next readings on.

        Events that an environment's plan before had, too, go on with what they remember, also at another severity. The
        others begin as if their plan had been there from the start, but have seen no reading of before.
        """
        before = {env_id: self._faults_of[env_id] for env_id in env_ids.tolist()}
        self._change_plans(list(before), plans)
        for env_id, faults in before.items():
            here = torch.tensor([env_id], device=env_ids.device)
            had = {active.identity: active for active in faults}
            for active in self._faults_of[env_id]:
                old = had.get(active.identity)
                if old is None:
                    active.start(here, self.seed, self._episode[here])
                elif old is not active:
                    active.take_over(old, here)

    def _change_plans(self, env_ids: list[int], plans: Sequence[Plan]) -> None:
        faults_of_plan: dict[int, list[ActiveFault]] = {}
        leave: dict[ActiveFault, list[int]] = {}
        join: dict[ActiveFault, list[int]] = {}
        for env_id, plan in zip(env_ids, plans, strict=True):
            if plan is self._plan_of[env_id]:
                continue
            if id(plan) not in faults_of_plan:
                faults_of_plan[id(plan)] = self._faults_of_plan(plan)
            for active in self._faults_of[env_id]:
                leave.setdefault(active, []).append(env_id)
            self._plan_of[env_id], self._faults_of[env_id] = plan, faults_of_plan[id(plan)]
            for active in self._faults_of[env_id]:
                join.setdefault(active, []).append(env_id)
        for active, these in leave.items():
            active.set_here(these, False)
        for active, these in join.items():
            active.set_here(these, True)
        if leave or join:  # what no environment has any more is forgotten; first events of plans come first
            ordered = sorted(self._active.items(), key=lambda item: item[0][0])
            self._active = {key: active for key, active in ordered if len(active.env_ids)}

    def _faults_of_plan(self, plan: Plan) -> list["ActiveFault"]:
        counts, found = dict[tuple[str, str], int](), list[ActiveFault]()
        for place, event in enumerate(event for event in plan if event.fault.severity):
            named = (event.sensor, event.fault.name)
            index = counts[named] = counts.get(named, -1) + 1
            if (place, index, event) not in self._active:
                sensor, salt = self._sensors[event.sensor], salt_of(*named, index)
                active = ActiveFault(event, sensor, self._step, salt, self._dt, self._phases)
                self._active[place, index, event] = active
            found.append(self._active[place, index, event])
        return found

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        self._step += 1
        if self.idle:
            self.affected.zero_()  # after a change nothing may be left to `apply`

    def camera_offsets(
        self, worlds: Worlds = None, phase: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """How far cameras are out of place, for the next `apply`; call it before cameras are read.

        `worlds` are n environments; `phase` int64 (n,), in which phase of the task each is.

        Yields:
            Key of the camera's sensor; int64 (m,) environments; shift [m] and turn [rad], (m, 3), see `Fault.offset`.
        """
        for active in self._active.values():
            if not active.event.fault.moves_camera:
                continue
            rows, having = active.among(worlds)
            since = self._since(active, rows, having, phase)
            active.since[having] = since
            broken = (since >= 0).nonzero()[:, 0]
            if len(broken):
                context = self._context(active, having[broken], since[broken])
                yield active.event.sensor, having[broken], *active.event.fault.offset(context)

    def apply(
        self, readings: Mapping[str, Tensor], worlds: Worlds = None, live: Tensor | None = None,
        phase: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        """Breaks healthy readings; call it once for every control step of an environment.

        Args:
            readings: key → (n, …); not changed.
            worlds: the n environments they come from.
            live: bool (n, M), sensors that deliver at all; faults change nothing of others.
            phase: int64 (n,), in which phase of the task each environment is.

        Returns:
            The same keys, with fresh tensors where anything broke; int8 (n, M), 0 where an announced fault is.

        Raises:
            InputError: a fault returned another shape than it was given.
        """
        count = len(chosen(self._step, worlds))
        arrived = dict(readings)
        available = torch.ones(count, len(self.keys), dtype=torch.int8, device=self.affected.device)
        write(self.affected, worlds, False)
        copied: set[str] = set()  # sensors of which `arrived` holds a copy
        for active in self._active.values():
            rows, having = active.among(worlds)
            if not len(rows):
                continue
            event, key, column = active.event, active.event.sensor, self.keys.index(active.event.sensor)
            moved = event.fault.moves_camera
            since = active.since[having] if moved else self._since(active, rows, having, phase)
            # what a fault remembers is what it was given, after the faults before it in the plan
            active.remember(lambda: take(arrived[key], rows), having, since < 0, self._step[having])  # noqa: B023
            broken = (since >= 0) if live is None else (since >= 0) & live[rows, column]
            broken = broken.nonzero()[:, 0]
            if not len(broken):
                continue
            rows, having, since = rows[broken], having[broken], since[broken]
            self.affected[having, column] = True
            if event.is_announced:
                available[rows, column] = 0
            if moved:
                continue  # the camera took its picture from there
            given = take(arrived[key], rows)
            shape, dtype = given.shape, given.dtype
            result = event.fault.apply(given, self._context(active, having, since, arrived[key], readings, rows))
            if result.shape != shape:
                raise InputError(f"{event} made {tuple(result.shape)} of readings of shape {tuple(shape)}")
            result = result.to(dtype)
            if len(rows) == count:
                arrived[key] = result.contiguous()
            else:
                if key not in copied:
                    arrived[key] = arrived[key].clone()
                put(arrived[key], rows, result)
            copied.add(key)
        return arrived, available

    def _since(self, active: "ActiveFault", rows: Tensor, env_ids: Tensor, phase: Tensor | None) -> Tensor:
        here = None if phase is None else phase[rows]
        return active.follow(env_ids, self._step[env_ids], here, self.seed, self._episode[env_ids])

    def _context(
        self,
        active: "ActiveFault",
        env_ids: Tensor,
        since: Tensor,
        arrived: Tensor | None = None,
        readings: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
    ) -> FaultContext:
        """For environments `env_ids`, whose readings are `rows`; without readings when cameras are moved."""
        step = self._step[env_ids]

        def present() -> Tensor:
            assert arrived is not None
            assert rows is not None
            return take(arrived, rows)

        def beside(key: str) -> Tensor | None:
            if readings is None or rows is None or key not in readings or key == active.event.sensor:
                return None
            return take(readings[key], rows)

        return FaultContext(
            active.sensor,
            since,
            step,
            self._dt,
            _before=lambda: active.held.look(env_ids) if active.held else present(),
            _past=lambda age: active.ring.look(env_ids, step, age) if active.ring else present(),
            _other=lambda otherwise: active.recall.look(env_ids, step, otherwise) if active.recall else otherwise,
            _beside=beside,
            _seed=self.seed,
            _episode=self._episode[env_ids],
            _salt=active.salt,
        )


class ActiveFault:
    """One event in those of N environments whose plan has it: since when it is there, and what it remembers.

    Attributes:
        event: what happens, and when.
        sensor: to which.
        salt: of its random numbers.
        since: int64 (N,), of faults that move cameras: what `camera_offsets` found.
        held: the last healthy reading, if the fault reads it.
        ring: the last readings, likewise.
        recall: the readings of the episode before, likewise.
    """

    def __init__(
        self, event: FaultEvent, sensor: Sensor, like: Tensor, salt: int, dt: float, phases: list[str]
    ) -> None:
        """In none of N environments yet; `like` is int64 (N,) of their device, `dt` the seconds of a control step."""
        self.event, self.sensor, self.salt = event, sensor, salt
        fault = event.fault
        self.held = _Held(like) if fault.holds else None
        self.ring = _Ring(like, round(fault.history / dt) + 1) if fault.history else None
        self.recall = _Recall(like) if fault.recalls else None
        self.since = torch.full_like(like, -1)
        self._phase = None if event.phase is None else phases.index(event.phase)
        self._bursts = event.bursts or fault.bursts()
        self._wait = torch.zeros_like(like)  # steps after the phase, or the episode's start
        self._first = torch.full_like(like, _NEVER)  # the first step of the fault, once it is known
        self._began = torch.full_like(like, -1)  # of the present burst; −1 between bursts
        self._draw = partial(uniform, stream=Stream.FAULTS, count=1, salt=salt + 3)
        self._here = torch.zeros_like(like, dtype=torch.bool)
        self._env_ids: Tensor | None = None

    @property
    def env_ids(self) -> Tensor:
        """The environments that have it, int64 (m,)."""
        if self._env_ids is None:
            self._env_ids = self._here.nonzero()[:, 0]
        return self._env_ids

    @property
    def identity(self) -> tuple[int, FaultEvent]:
        """The same for one event in two plans, whatever its severity and its place in each."""
        return self.salt, replace(self.event, fault=replace(self.event.fault, severity=1.0))

    def set_here(self, env_ids: list[int], here: bool) -> None:
        """Whether the environments' plans have it."""
        self._here[env_ids], self._env_ids = here, None

    def among(self, worlds: Worlds) -> tuple[Tensor, Tensor]:
        """Those of n environments that have it: their rows in what is computed for these, and their numbers."""
        numbers = by_number(worlds)
        if numbers is None:
            env_ids = self.env_ids if worlds is None else numbers_of(worlds & self._here)
            return env_ids, env_ids
        rows = numbers_of(self._here[numbers])
        return rows, numbers[rows]

    def start(self, env_ids: Tensor, seed: int, episode: Tensor) -> None:
        """Begin episodes."""
        event, wait = self.event, torch.full_like(env_ids, self.event.step)
        if event.until is not None:
            drawn = self._draw(seed=seed, episode=episode, step=1 << 40)[:, 0]
            wait = event.step + (drawn * (event.until - event.step + 1)).long()
        self._wait[env_ids], self._began[env_ids] = wait, -1
        self._first[env_ids] = wait if event.phase is None else _NEVER
        for memory in (self.held, self.ring, self.recall):
            if memory is not None:
                memory.start(env_ids)

    def take_over(self, old: "ActiveFault", env_ids: Tensor) -> None:
        """In these environments, goes on where `old`, of the same identity, has come to."""
        for name in ("since", "_wait", "_first", "_began"):
            getattr(self, name)[env_ids] = getattr(old, name)[env_ids]
        for mine, other in ((self.held, old.held), (self.ring, old.ring), (self.recall, old.recall)):
            if mine is not None and other is not None:
                _copy_rows(other, mine, env_ids, len(self.since))

    def follow(self, env_ids: Tensor, step: Tensor, phase: Tensor | None, seed: int, episode: Tensor) -> Tensor:
        """Control steps since the fault set in, int64 (m,), −1 where it is not there."""
        if self._phase is not None and phase is not None:
            now = (phase >= self._phase) & (self._first[env_ids] == _NEVER)
            self._first[env_ids] = torch.where(now, step + self._wait[env_ids], self._first[env_ids])
        since = step - self._first[env_ids]
        there = since >= 0
        if self.event.duration is not None:
            there &= since < self.event.duration
        if self._bursts is None:
            return torch.where(there, since, -1)
        on, gap = self._bursts
        drawn, began = self._draw(seed=seed, episode=episode, step=step)[:, 0], self._began[env_ids]
        stays = drawn >= 1.0 / on
        # at its first step the process is where it is in the long run
        comes = drawn < torch.where(since == 0, on / (on + gap), 1.0 / gap)
        burst = there & torch.where(began >= 0, stays, comes)
        began = torch.where(burst, torch.where(began >= 0, began, step), -1)
        self._began[env_ids] = began
        return torch.where(burst, step - began, -1)

    def remember(self, read: Callable[[], Tensor], env_ids: Tensor, healthy: Tensor, step: Tensor) -> None:
        """What the sensor reads at a control step, (m, …); `healthy` bool (m,), where the fault is not there."""
        if self.held or self.ring or self.recall:
            readings = read()
            if self.held:
                self.held.push(readings, env_ids, healthy)
            for memory in (self.ring, self.recall):
                if memory:
                    memory.push(readings, env_ids, step)


def _copy_rows(source: object, target: object, env_ids: Tensor, num_envs: int) -> None:
    """What one memory holds of these environments, copied to another of the same class: tensors of N × any rows."""
    for name, theirs in vars(source).items():
        if not isinstance(theirs, Tensor):
            continue
        mine = getattr(target, name)
        if mine is None:
            setattr(target, name, mine := torch.zeros_like(theirs))
        shape = (num_envs, -1, *theirs.shape[1:])
        put(mine.view(shape), env_ids, take(theirs.view(shape), env_ids))


class _Held:
    """The last reading of one sensor before it broke, in each of N environments."""

    def __init__(self, like: Tensor) -> None:
        self._num_envs, self._last = len(like), None
        self._fresh = torch.ones_like(like, dtype=torch.bool)  # nothing was read in this episode

    def start(self, env_ids: Tensor) -> None:
        self._fresh[env_ids] = True

    def push(self, readings: Tensor, env_ids: Tensor, healthy: Tensor) -> None:
        """Readings (m, …) are kept if healthy, or the first ones of their episode."""
        if self._last is None:
            self._last = readings.new_zeros(self._num_envs, *readings.shape[1:])
        keep = (healthy | self._fresh[env_ids]).nonzero()[:, 0]
        if len(keep):
            put(self._last, env_ids[keep], readings if len(keep) == len(readings) else take(readings, keep))
            self._fresh[env_ids] = False

    def look(self, env_ids: Tensor) -> Tensor:
        assert self._last is not None
        return take(self._last, env_ids)


class _Ring:
    """The last readings of one sensor in each of N environments."""

    def __init__(self, like: Tensor, length: int) -> None:
        self._num_envs, self._length, self._ring = len(like), length, None
        self._first = torch.full_like(like, -1)  # the step of the first reading of this episode; −1 before it

    def start(self, env_ids: Tensor) -> None:
        self._first[env_ids] = -1

    def push(self, readings: Tensor, env_ids: Tensor, step: Tensor) -> None:
        first = self._first[env_ids]
        self._first[env_ids] = torch.where(first < 0, step, first)
        if self._ring is None:
            # untouched memory costs nothing: only the rows that are used
            self._ring = readings.new_empty(self._num_envs * self._length, *readings.shape[1:])
        put(self._ring, env_ids * self._length + step % self._length, readings)

    def look(self, env_ids: Tensor, step: Tensor, age: Tensor) -> Tensor:
        """Readings of `age` control steps ago, never from before the first one."""
        assert self._ring is not None
        age = age.clamp(min=0, max=self._length - 1).minimum(step - self._first[env_ids])
        return take(self._ring, env_ids * self._length + (step - age) % self._length)


class _Recall:
    """The first readings of the present episode and of the one before, in each of N environments."""

    def __init__(self, like: Tensor) -> None:
        self._num_envs, self._both = len(like), None
        self._now = torch.zeros_like(like)  # which half is the present episode
        self._count = torch.stack([self._now, self._now], 1)
        self._begin = self._count.clone()  # the step of the first reading

    def start(self, env_ids: Tensor) -> None:
        """What was the present episode is the one before."""
        self._now[env_ids] = 1 - self._now[env_ids]
        self._count[env_ids, self._now[env_ids]] = 0

    def push(self, readings: Tensor, env_ids: Tensor, step: Tensor) -> None:
        if self._both is None:
            self._both = readings.new_empty(self._num_envs * 2 * _RECALLED, *readings.shape[1:])
        fits = (step < _RECALLED).nonzero()[:, 0]
        now = self._now[env_ids]
        begin, fresh = self._begin[env_ids, now], self._count[env_ids, now] == 0
        self._begin[env_ids, now] = torch.where(fresh, step, begin)
        put(self._both, ((env_ids * 2 + now) * _RECALLED + step)[fits], take(readings, fits))
        self._count[env_ids, now] = (step + 1).clamp(max=_RECALLED)

    def look(self, env_ids: Tensor, step: Tensor, otherwise: Tensor) -> Tensor:
        """What the episode before read at these steps; `otherwise` where there was none."""
        assert self._both is not None
        old = 1 - self._now[env_ids]
        count = self._count[env_ids, old]
        begin = self._begin[env_ids, old]
        known = (count > begin).nonzero()[:, 0]
        found = (env_ids * 2 + old) * _RECALLED + step.minimum(count - 1).maximum(begin)
        otherwise = otherwise.clone()
        put(otherwise, known, take(self._both, found[known]))
        return otherwise
