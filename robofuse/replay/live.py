"""A policy at work whose sensors are broken and mended while one watches: the session, without a page to look at.

`page.py` shows it in a browser. The session is what `robofuse.play.play` asks for actions, so all that is shown is what
the policy reads, and a switch acts between two control steps.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import InputError
from robofuse.faults import FaultEvent, Plan, blackout
from robofuse.faults.catalogue import faults_for, find_fault
from robofuse.memory.stateful import StatefulPolicy, stateful
from robofuse.play import NOT_FINITE, Actor, PlayStep, Watch, play
from robofuse.replay.frames import Frame
from robofuse.sensors import AVAILABLE, Sensor

if TYPE_CHECKING:
    from robofuse import monitor as monitors

SPEEDS = {"half": 0.5, "real time": 1.0, "fast": inf}
"""How fast to play, in multiples of real time."""
_HOLD = 1.5  # seconds that the outcome of an episode stays, in real time
_SHOWN = 1.0 / 25.0  # seconds between two moments that are shown, at least
_NAP = 0.05  # longest wait without a look whether to stop [s]: a signal does not end one
_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Switch:
    """What is done to one sensor.

    Attributes:
        off: whether it is switched off: an announced blackout, whatever else is chosen.
        fault: name of a fault of `robofuse.faults`, or empty. A blackout that is chosen here is not announced.
        severity: of the fault, from 0 to 1.
    """

    off: bool = False
    fault: str = ""
    severity: float = 0.5

    def events(self, sensor: Sensor, step: int) -> tuple[FaultEvent, ...]:
        """What it does, from a control step on."""
        if self.off:
            return (blackout(sensor.key, step),)
        if not self.fault:
            return ()
        kind = find_fault(self.fault, sensor.kind)
        return (FaultEvent(sensor.key, kind(self.severity), step, announced=False if kind.erases else None),)


def fitting_faults(sensor: Sensor) -> list[str]:
    """Names of the faults to choose from: all that fit, but for those that need the episode before."""
    return [name for name, kind in faults_for(sensor.kind).items() if not kind.recalls]


class Opinion(NamedTuple):
    """What the monitor thinks of a sensor.

    Attributes:
        trusted: whether it is.
        why: the checks that find it suspicious, see `robofuse.monitor.CHECKS`; `broken` for what is plain to see.
    """

    trusted: bool
    why: tuple[str, ...]


class Moment(NamedTuple):
    """What there is to be seen before a control step, or at the end of an episode.

    Attributes:
        frame: what the policy reads, and how the episode goes; without a picture.
        affected: sensor → whether a fault has changed this reading, announced or not.
        opinions: sensor → the monitor's; empty without a monitor.
        plan: what breaks.
        succeeded: episodes that ended with success.
        finished: episodes that came to their end.
    """

    frame: Frame
    affected: dict[str, bool]
    opinions: dict[str, Opinion]
    plan: Plan
    succeeded: int
    finished: int


class Live:
    """Plays episodes until it is stopped; everything but `run` may be called from any thread, at any time.

    Attributes:
        world: where.
        sensors: its sensors by key.
        planned: those that a plan breaks until their switch is touched.
        finished: episodes that came to their end.
        succeeded: those that ended with success.
        steps: control steps of all episodes.
    """

    def __init__(
        self,
        policy: Actor,
        world: World,
        show: Callable[[Moment], None],
        *,
        planned: Plan | None = None,
        monitor: "monitors.Monitor | None" = None,
        first: int = 0,
    ) -> None:
        """A session that waits to `run`.

        Args:
            policy: acts.
            world: of one, made with `auto_reset=False`.
            show: is given what is to be seen, on the thread that runs.
            planned: what breaks in every episode, each sensor until somebody touches its switch; where that is no more
                than a sensor that is off from the start, its switch is off.
            monitor: masks the sensors that it does not trust.
            first: number of the first episode.

        Raises:
            InputError: the World has several worlds.
        """
        if world.num_envs != 1:
            raise InputError(f"a live replay is of one world, got a World of {world.num_envs}")
        self.world, self._policy, self._show = world, policy, show
        self.sensors = {sensor.key: sensor for sensor in world.sensors}
        self.finished = self.succeeded = self.steps = 0
        events = {key: tuple(event for event in planned or () if event.sensor == key) for key in self.sensors}
        off = [key for key, these in events.items() if these == (blackout(key),)]
        self._planned, self._next = {key: these for key, these in events.items() if these and key not in off}, first
        self.planned = frozenset(self._planned)
        self._listener = None if monitor is None else _Listener(monitor)
        self._wanted = {key: Switch(off=True) if key in off else None for key in self.sensors}
        self._since: dict[str, tuple[Switch | None, int]] = dict.fromkeys(self.sensors, (None, 0))  # as applied
        self._plan = Plan()
        self._changed = threading.Condition()
        self._stopped = self._new = self._paused = False
        self._asked: Callable[[], bool] = lambda: False
        self._speed, self._due, self._last_shown = 1.0, 0.0, -inf
        self._actor: StatefulPolicy | None = None
        self._terms, self._total, self._off_since = dict[str, float](), 0.0, dict[str, int]()

    def set(self, key: str, switch: Switch | None) -> None:
        """Break or mend a sensor from the next observation on; None leaves it to what was planned.

        Raises:
            InputError: no such sensor, no such fault of it, or a severity out of range.
        """
        if key not in self.sensors:
            raise InputError(f"unknown sensor {key!r}; sensors: {', '.join(self.sensors)}")
        if switch is not None:
            replace(switch, off=False).events(self.sensors[key], 0)
        with self._changed:
            self._wanted[key] = switch
            self._changed.notify_all()

    def switch(self, key: str) -> Switch | None:
        """What was last asked for."""
        return self._wanted[key]

    def new_scene(self) -> None:
        """Leave this episode, which does not count, and begin the next one."""
        with self._changed:
            self._new = True
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Hold on before the next control step, or go on."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def set_speed(self, speed: float) -> None:
        """Multiples of real time; `inf` for as fast as it goes."""
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def stop(self) -> None:
        """End after the present step."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Play until `stop` is called, or `stopped()`, which is asked every 50 ms, says so."""
        self._asked = stopped
        while not self._over:
            self._new = False
            with closing(play(self, self.world, self._jobs(), monitor=self._listener)) as steps:
                for played in steps:
                    self._after(played)
                    if self._over or self._new:
                        break

    # what `play` asks of an actor

    def stateful(self, num_envs: int) -> StatefulPolicy:
        """The session itself, with a policy that remembers nothing yet."""
        self._actor = stateful(self._policy, num_envs)
        return self

    def start(self, env_ids: Tensor, /) -> None:
        """An episode begins."""
        assert self._actor is not None
        self._actor.start(env_ids)
        self._terms, self._total, self._off_since = dict.fromkeys(self.world.task.weights, 0.0), 0.0, {}
        self._due = time.monotonic()

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Show what the policy reads, wait until the step is due, throw the switches, and act."""
        assert self._actor is not None
        self._present(observation, int(self.world.elapsed[0]))
        self._wait(1.0 / CONTROL_RATE)
        self._apply()
        return self._actor.act(observation)

    @property
    def _over(self) -> bool:
        return self._stopped or self._asked()

    def _jobs(self) -> Iterator[tuple[int, Plan | None]]:
        """The episodes; each is asked for when it is to begin, so that its plan has the switches as they are then."""
        while True:
            with self._changed:
                self._since = {key: (switch, 0) for key, switch in self._wanted.items()}
            self._plan = self._make_plan()
            self._next += 1
            yield self._next - 1, self._plan

    def _make_plan(self) -> Plan:
        events = list[FaultEvent]()
        for key, (switch, step) in self._since.items():
            events += self._planned.get(key, ()) if switch is None else switch.events(self.sensors[key], step)
        return Plan(tuple(events))

    def _apply(self) -> None:
        """Bring the switches to the world: what is new begins with the next observation."""
        step = int(self.world.elapsed[0]) + 1
        if not self._thrown():
            return
        with self._changed:
            wanted = dict(self._wanted)
        for key, switch in wanted.items():
            old, since = self._since[key]
            self._since[key] = switch, since if _goes_on(old, switch) else step
        self._plan = self._make_plan()
        self.world.break_sensors(self._plan)
        self._last_shown = -inf  # what comes of it is shown however soon

    def _thrown(self) -> bool:
        """Whether somebody has touched a switch that the world does not know of yet."""
        return any(self._wanted[key] != switch for key, (switch, _) in self._since.items())

    def _wait(self, seconds: float) -> None:
        """Until so much time of the simulation has passed since the last call; longer in a pause.

        Once a switch is thrown the step comes at once, and the next one when it would have come anyway.
        """
        with self._changed:
            while not (self._over or self._new or (self._thrown() and not self._paused)):
                left = inf if self._paused else self._due + seconds / self._speed - time.monotonic()
                if left <= 0.0:
                    break
                self._changed.wait(min(left, _NAP))
            self._due = max(self._due + seconds / self._speed, time.monotonic() - _NAP)  # short delays are made up for

    def _after(self, played: PlayStep) -> None:
        """A step was taken, or the episode broke off before it."""
        last = next(iter(played.ended), None)
        taken = last is None or last.error != NOT_FINITE
        observation = played.observation
        if taken:
            self.steps += 1
            self._total += float(played.step.reward[0])
            self._terms = {name: float(term[0]) for name, term in played.step.terms.items()}
            observation = dict(played.step.observation)
        if last is None:
            return
        self.finished += 1
        self.succeeded += last.success
        if not bool(played.trusted.all()):
            observation = mask_sensors(observation, observation[AVAILABLE] & played.trusted, list(self.sensors))
        outcome = "success" if last.success else last.error or "out of time"
        self._present(observation, last.steps, outcome)
        if not self._new:
            self._due = time.monotonic()
            self._wait(_HOLD)

    def _present(self, observation: Mapping[str, Tensor], step: int, outcome: str = "") -> None:
        on = dict(zip(self.sensors, (observation[AVAILABLE][0] > 0).tolist(), strict=True))
        self._off_since = {key: self._off_since.get(key, step) for key, works in on.items() if not works}
        now = time.monotonic()
        if not outcome and step and now - self._last_shown < _SHOWN:
            return
        self._last_shown = now
        seen = {key: value[0].cpu().numpy() for key, value in observation.items()}
        episode = int(self.world.episode[0])
        frame = Frame(episode, step, seen, on, self._off_since, self._terms, self._total, _NO_PICTURE, outcome)
        affected = dict(zip(self.sensors, self.world.affected[0].tolist(), strict=True))
        opinions = self._listener.opinions(list(self.sensors)) if self._listener else {}
        self._show(Moment(frame, affected, opinions, self._plan, self.succeeded, self.finished))


class _Listener:
    """A monitor whose verdicts are told."""

    def __init__(self, monitor: "monitors.Monitor") -> None:
        self._monitor, self._watch = monitor, monitor.stateful(1)

    @property
    def card(self) -> dict[str, Any]:
        return self._monitor.card

    def stateful(self, num_envs: int, /) -> Watch:
        self._watch = self._monitor.stateful(num_envs)
        return self._watch

    def opinions(self, keys: list[str]) -> dict[str, Opinion]:
        from robofuse.monitor import CHECKS

        watch, found = self._watch, {}
        for m, key in enumerate(keys):
            checks = torch.nonzero(watch.level[0, m] > self._monitor.limit)[:, 0].tolist()
            why = (*(("broken",) if watch.broken[0, m] else ()), *(CHECKS[check] for check in checks))
            found[key] = Opinion(bool(watch.trusted[0, m]), why)
        return found


def _goes_on(old: Switch | None, new: Switch | None) -> bool:
    """Whether what was there is still there, perhaps at another severity."""
    if old is None or new is None:
        return old is new
    return (old.off, old.off or old.fault) == (new.off, new.off or new.fault)
