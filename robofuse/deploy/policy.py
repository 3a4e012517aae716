"""A policy on a robot."""

import copy
import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robofuse.checks import whole
from robofuse.deploy.inputs import Recall, announced, checked, finite, known
from robofuse.deploy.model import read
from robofuse.deploy.watchdog import Blind, Status, Watchdog
from robofuse.deploy.windows import OFF, Pace
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE

_MOST_THREADS = 256
_log = logging.getLogger("robofuse.deploy")


class Policy:
    """An exported policy.

    With a watchdog: `feed` every reading with its time stamp, as it arrives, and `act(now)`. A sensor is hidden if its
    last reading is stale, is stamped later than now or holds NaN or Inf, or if it was never fed. Without the watchdog:
    call it with a whole observation. Either way, sensors that are switched `off` on purpose are hidden, whatever they
    deliver, and their encoders do not run.

    A policy that remembers (`remembers`) takes every `act`, or every call, for the next control step: call it at the
    rate that it was trained at, and `reset` where an episode begins.

    All methods may be called from any thread at any time. Usually every driver feeds from a thread of its own, and one
    control loop acts, on the latest whole reading of every sensor.

    Attributes:
        name: of the policy.
        sensors: what it reads, in the order of `available`: shape, dtype, unit, rate.
        required: keys of the sensors that it cannot do without, as it was not trained to.
        action: `low` and `high` of the action, or `n` choices; plain JSON.
        world: what it was trained in, with its cameras; plain JSON.
        card: how it was trained and how well it does; plain JSON.
        digest: SHA-256 that stands in the file, of all that is in it.
        rate: actions per second in training; 0 if that is not known.
        entries: sensor, or `action`, → what each of its numbers is, with its unit and how much of it a 1 is, where that
            is known.
    """

    def __init__(
        self,
        source: str | Path | bytes,
        *,
        timeouts: Mapping[str, float] | None = None,
        skew: float = 0.01,
        threads: int = 1,
        off: Collection[str] = (),
    ) -> None:
        """Read the file; it can hold no code but the operators of onnxruntime.

        Args:
            source: path of a file of `robofuse export`, or its bytes.
            timeouts: key → age [s] from which on a reading is stale. By default the sensor's latency and 2.5 periods of
                its rate in training: one reading may be lost, and the next be half a period late. If a sensor turns
                out to be slower, the logger `robofuse.deploy` says so once, with the timeout that it needs.
            skew: how far a stamp may lie after now [s], as clocks differ, and a reading may arrive between asking the
                clock and acting; `act()` without `now` asks it in the right order. A sensor whose stamp lies further
                ahead is hidden.
            threads: for the network, up to 256; more than one gains nothing at 64×64.
            off: keys of sensors to switch off, see the property.

        Raises:
            InputError: no such file; it is cut off, damaged or not of `robofuse export`; timeouts of unknown sensors;
                sensors that cannot be switched off.
            StateError: onnxruntime is not installed or too old.
        """
        model = read(source, whole(threads, "threads", 1, _MOST_THREADS))
        self.name, self.sensors, self.required = model.name, model.sensors, model.required
        self.action, self.world, self.card = dict(model.action), dict(model.world), dict(model.card)
        self.rate, self.entries, self.digest = model.rate, dict(model.entries), model.digest
        self._session, self._recall = model.session, Recall(model.sensors, model.frames, model.memory)
        self._watchdog = Watchdog(self.sensors, timeouts or {}, skew)
        self.off = off
        self._start_pace()

    def _start_pace(self) -> None:
        self._pace, self._told = Pace(), False
        self._acted: float | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors, in the order of `available`."""
        return tuple(sensor.key for sensor in self.sensors)

    @property
    def remembers(self) -> bool:
        """Whether actions depend on earlier readings."""
        return bool(self._recall.frames or self._recall.size)

    @property
    def timeouts(self) -> dict[str, float | None]:
        """Key → seconds after which a reading is stale; None where no rate is known, and it must be given."""
        return dict(self._watchdog.timeouts)

    @property
    def off(self) -> tuple[str, ...]:
        """Keys of the sensors that are switched off on purpose, to save their time or power; assign others at any time.

        An action that is under way ends as it began; the next one obeys. Readings fed of such a sensor are dropped
        unseen, so its driver may go on; once it is switched on again, its last reading is the one from before, which
        will be stale, until the next comes.

        Raises:
            InputError: assigning unknown keys, sensors that the policy cannot do without, or all sensors.
        """
        return self._off

    @off.setter
    def off(self, keys: Collection[str]) -> None:
        if isinstance(keys, str) or not isinstance(keys, Collection):
            raise InputError(f"off must be a collection of keys of sensors, such as ({self.keys[0]!r},), got {keys!r}")
        for key in keys:
            known(key, self.keys)
        needed = [key for key in self.required if key in keys]
        if needed:
            free = ", ".join(key for key in self.keys if key not in self.required) or "none"
            raise InputError(
                f"policy {self.name!r} was not trained to do without {', '.join(needed)}; what can be switched off: "
                f"{free}"
            )
        if set(keys) == set(self.keys):
            raise InputError(f"all sensors are switched off; leave at least one of {', '.join(self.keys)}")
        # in one assignment, as other threads read it
        self._off = tuple(key for key in self.keys if key in keys)

    def __call__(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The action for a whole observation; fed readings are neither used nor changed.

        Args:
            observation: key → array of the sensor's shape and dtype, without a batch. `available`, (M,) of 0 or 1, says
                which sensors deliver; without it all do. Hidden sensors may be missing, and are not read; so may those
                that are switched off, whatever `available` says.

        Returns:
            float32, shape of the action, within its bounds; or an int64 () of a Discrete.

        Raises:
            InputError: a live sensor is missing, has another shape or dtype, or holds NaN or Inf; an unknown key; a
                hidden sensor that the policy cannot do without.
        """
        for key in observation:
            if key != AVAILABLE:
                known(key, self.keys)
        live: dict[str, np.ndarray] = {}
        off = self._off
        for sensor, delivers in zip(self.sensors, announced(observation, self.keys), strict=True):
            if not delivers or sensor.key in off:
                continue
            if sensor.key not in observation:
                raise InputError(
                    f"{sensor.key!r} is missing; give {sensor.dtype} of shape {sensor.shape}, or say in {AVAILABLE!r} "
                    f"that it is hidden (sensors in order: {', '.join(self.keys)})"
                )
            live[sensor.key] = checked(sensor, observation[sensor.key])
            if not finite(live[sensor.key]):
                raise InputError(f"{sensor.key!r} is live and holds NaN or Inf; hide it with a 0 in {AVAILABLE!r}")
        lacking = [key for key in self.required if key not in live]
        if lacking:
            raise InputError(f"policy {self.name!r} was not trained to do without {', '.join(lacking)}")
        return self._run(live)

    def feed(self, key: str, reading: np.ndarray, stamp: float) -> None:
        """Store a reading; one of a sensor that is switched off is dropped without a look at it.

        Args:
            key: of the sensor.
            reading: array of the sensor's shape and dtype, without a batch; it is copied. If it holds NaN or Inf, the
                sensor is hidden until a better one comes. Of a window (W, C), also one sample (C,): its window is made
                of the samples whose stamps are nearest to the spacing of training, and the logger `robofuse.deploy`
                says once if they come slower, faster or less evenly.
            stamp: when it was measured [s], on the clock of `act`; not before that of the last one.

        Raises:
            OutOfOrder: the stamp is older than the last one's, as of a frame that was overtaken on its way: catch it
                and go on. A last reading that `act` or `status` found to be of the future is replaced by any stamp.
            InputError: unknown key, another shape or dtype, a stamp that is no number, or a sensor of unknown rate
                without a timeout. The last reading stays, in every case.
        """
        if key not in self._off:
            self._watchdog.feed(key, reading, stamp)

    def act(self, now: float | None = None) -> np.ndarray:
        """The action from the last reading of each sensor that is not hidden; returns as `__call__`.

        Args:
            now: the time [s] on the clock of the stamps; by default `time.monotonic()`, asked after the readings were
                taken, so that none that arrives meanwhile seems to be of the future.

        Raises:
            InputError: `now` is no number.
            Blind: no sensor delivers, or one does not that the policy cannot do without; says why of each.
        """
        states, live = self._watchdog.look(now, self._off)
        self._watch_pace(time.monotonic() if now is None else now)
        lacking = [key for key in self.required if key not in live]
        if lacking or not live:
            if self.remembers:  # its memory takes this step too, with the sensors that deliver
                self._run(live)
            what = f"policy {self.name!r} cannot do without {', '.join(lacking)}" if lacking else "no sensor delivers"
            why = "; ".join(f"{key}: {state.why}" for key, state in states.items() if not state.live)
            raise Blind(f"{what} ({why})")
        return self._run(live)

    def status(self, now: float | None = None) -> dict[str, Status]:
        """The state of each sensor at `now`, as in `act`."""
        return self._watchdog.look(now, self._off)[0]

    def fork(self) -> "Policy":
        """The same policy for another robot: the network and what is `off` are shared, readings and memory are not."""
        other = copy.copy(self)
        other._watchdog = self._watchdog.fork()
        other._recall = self._recall.fresh()
        other._start_pace()
        return other

    def reset(self) -> None:
        """Forget all readings, as before another episode or with another clock."""
        self._watchdog.reset()
        self._acted = None
        self._recall = self._recall.fresh()  # a new one, as an action of the old episode may be under way in a thread

    def _watch_pace(self, now: float) -> None:
        """Warn once if a policy that counts its steps takes them at another rate than in training."""
        before, self._acted = self._acted, now
        if not (self.remembers and self.rate and before is not None and now > before) or self._told:
            return
        pace = self._pace.add(now - before)
        if pace is not None and not 1.0 / OFF < pace[0] * self.rate < OFF:
            self._told = True
            _log.warning(
                f"act is called {1.0 / pace[0]:.3g} times a second; {self.name!r}, which remembers, was trained with "
                f"{self.rate:g}"
            )

    def _run(self, live: Mapping[str, np.ndarray]) -> np.ndarray:
        recall = self._recall
        return recall.remember(self._session.run(None, recall.inputs(live)))[0]
