"""Breaks the sensors of N environments, each under its own plan: one implementation for World and wrappers."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.faults.event import FaultEvent
from robofuse.faults.fault import FaultContext, salt_of
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.faults.running import ActiveFault
from robofuse.rng import check_seed
from robofuse.sensors import Sensor
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
        num_envs: int,
        seed: int,
        dt: float,
        phases: Sequence[str] = (),
        cameras_move: bool = False,
    ) -> None:
        """Everything is healthy until an episode starts.

        Args:
            faults: what breaks.
            sensors: what there is.
            num_envs: N.
            seed: of the faults.
            dt: seconds of a control step.
            phases: of the task, if it has any.
            cameras_move: whether the caller moves cameras as `knocks` says, before it reads them.

        Raises:
            ValueError: the faults do not fit the sensors.
        """
        faults.check(sensors, phases, cameras_move)
        self.faults, self.keys, self.seed = faults, [sensor.key for sensor in sensors], check_seed(seed)
        self.affected = torch.zeros(num_envs, len(sensors), dtype=torch.bool)
        self._sensors, self._dt, self._phases = {s.key: s for s in sensors}, dt, list(phases)
        self._episode, self._step = torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs, dtype=torch.int64)
        self._under: list[Plan] = [Plan()] * num_envs
        self._of: list[list[ActiveFault]] = [[] for _ in range(num_envs)]  # the strikes of each environment's plan
        self._running: dict[tuple[int, int, FaultEvent], ActiveFault] = {}  # by place in the plan, which comes first

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
        self._episode[rows], self._step[rows], self.affected[rows] = episode, 0, False
        begins: dict[ActiveFault, list[int]] = {}
        for place, (row, plan) in enumerate(zip(rows.tolist(), plans, strict=True)):
            if plan is not self._under[row]:
                self._change(row, plan)
            for active in self._of[row]:
                begins.setdefault(active, []).append(place)
        for active, places in begins.items():
            active.start(rows[places], self.seed, episode[places])

    def _change(self, row: int, plan: Plan) -> None:
        """The environment is under this plan from now on."""
        self._under[row], count, now = plan, dict[tuple[str, str], int](), list[ActiveFault]()
        for place, event in enumerate(event for event in plan if event.fault.severity):
            named = (event.sensor, event.fault.name)
            index = count[named] = count.get(named, -1) + 1
            active = self._running.get((place, index, event))
            if active is None:
                sensor = self._sensors[event.sensor]
                active = ActiveFault(event, sensor, len(self._under), salt_of(*named, index), self._dt, self._phases)
                self._running[place, index, event] = active
            now.append(active)
        for active in self._of[row]:
            active.leave(row)
        for active in now:
            active.join(row)
        self._of[row] = now
        # what no environment has any more is forgotten; first strikes of plans come first
        self._running = {key: self._running[key] for key in sorted(self._running, key=lambda key: key[0])}
        self._running = {key: active for key, active in self._running.items() if len(active)}

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        self._step += 1

    def camera_offsets(
        self, rows: Tensor | None = None, phase: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Where cameras are out of place, for what `apply` will be given next; call it before cameras are read.

        Args:
            rows: int64 (n,) the environments; all by default.
            phase: int64 (n,), which of the phases the task is in.

        Yields:
            Key of the camera's sensor; int64 (m,) environments; shift [m] and turn [rad], (m, 3), see `Fault.offset`.
        """
        for active in self._running.values():
            if not active.event.fault.moves_camera:
                continue
            places, env_ids = active.among(rows)
            since = self._since(active, places, env_ids, phase)
            active.since[env_ids] = since
            affected = (since >= 0).nonzero()[:, 0]
            if len(affected):
                context = self._context(active, env_ids[affected], since[affected])
                yield active.event.sensor, env_ids[affected], *active.event.fault.offset(context)

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
        self.affected[slice(None) if rows is None else rows] = False
        fresh: set[str] = set()  # sensors of which `arrived` holds a copy
        for active in self._running.values():
            places, env_ids = active.among(rows)
            if not len(places):
                continue
            event, key, column = active.event, active.event.sensor, self.keys.index(active.event.sensor)
            moved = event.fault.moves_camera
            since = active.since[env_ids] if moved else self._since(active, places, env_ids, phase)
            hit = since >= 0
            # what a fault remembers is what it was given, after the faults before it in the plan
            active.remember(arrived[key], places, env_ids, ~hit, self._step[env_ids])
            hit = hit if live is None else hit & live[places, column]
            at = hit.nonzero()[:, 0]
            if not len(at):
                continue
            places, env_ids = places[at], env_ids[at]
            self.affected[env_ids, column] = True
            if event.is_announced:
                told[places, column] = 0
            if moved:
                continue  # the camera took its picture from there
            given = take(arrived[key], places)
            shape, dtype = given.shape, given.dtype
            context = self._context(active, env_ids, since[at], arrived[key], readings, places)
            broken = event.fault.apply(given, context)
            if broken.shape != shape:
                raise InputError(f"{event} made {tuple(broken.shape)} of readings of shape {tuple(shape)}")
            broken = broken.to(dtype)
            if len(places) == count:
                arrived[key] = broken.contiguous()
            else:
                if key not in fresh:
                    arrived[key] = arrived[key].clone()
                put(arrived[key], places, broken)
            fresh.add(key)
        return arrived, told

    def _since(self, active: ActiveFault, places: Tensor, env_ids: Tensor, phase: Tensor | None) -> Tensor:
        here = None if phase is None else phase[places]
        return active.follow(env_ids, self._step[env_ids], here, self.seed, self._episode[env_ids])

    def _context(
        self,
        active: ActiveFault,
        env_ids: Tensor,
        since: Tensor,
        arrived: Tensor | None = None,
        readings: Mapping[str, Tensor] | None = None,
        places: Tensor | None = None,
    ) -> FaultContext:
        """For environments `env_ids`, whose readings stand at `places`; knocks come before there are any."""
        step = self._step[env_ids]

        def present() -> Tensor:
            assert arrived is not None
            assert places is not None
            return take(arrived, places)

        def beside(name: str) -> Tensor | None:
            if readings is None or places is None or name not in readings or name == active.sensor.key:
                return None
            return take(readings[name], places)

        return FaultContext(
            active.sensor,
            since,
            step,
            self._dt,
            before=lambda: active.before(env_ids) if active.event.fault.holds else present(),
            past=lambda age: active.past(env_ids, step, age) if active.event.fault.history else present(),
            other=lambda otherwise: active.other(env_ids, step, otherwise),
            beside=beside,
            seed=self.seed,
            episode=self._episode[env_ids],
            salt=active.salt,
        )
