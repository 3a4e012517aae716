"""Keeps the last reading of every sensor, and decides whether it may still be used."""

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from robofuse.checks import at_least_zero
from robofuse.deploy.inputs import checked, finite, known
from robofuse.deploy.windows import OFF, Pace, Window
from robofuse.errors import InputError, StateError
from robofuse.sensors import Sensor

PERIODS = 2.5  # one reading may be lost, and the next be half a period late
_log = logging.getLogger("robofuse.deploy")


class Blind(StateError):
    """No sensor delivers, or not one that the policy cannot do without: stop the robot."""


class OutOfOrder(InputError):
    """A reading was measured before the last one: a driver drops it and goes on."""


class Status(NamedTuple):
    """The state of a sensor.

    Attributes:
        live: whether an action would read it.
        age: seconds since the stamp of its last reading; infinite if there was none, negative if it is of the future.
        why: why it is hidden; empty if it is live.
    """

    live: bool
    age: float
    why: str = ""


class _Fed(NamedTuple):
    reading: np.ndarray  # (1, …), a copy that nobody writes to
    stamp: float
    finite: bool


class Watchdog:
    """Hides sensors whose last reading is too old, of the future, or holds NaN or Inf.

    Readings may be fed from any thread: a stored one is never changed, only replaced by a later one.

    Attributes:
        timeouts: key → seconds, None where the rate is unknown.
    """

    def __init__(self, sensors: Sequence[Sensor], timeouts: Mapping[str, float], skew: float) -> None:
        """Arguments as of `robofuse.deploy.Policy`."""
        self._sensors = {sensor.key: sensor for sensor in sensors}
        self._fed: dict[str, _Fed] = {}
        self._ahead: dict[str, _Fed] = {}  # what was found to be of the future
        self._paces: dict[str, Pace] = {}
        self._windows = {key: Window(one) for key, one in self._sensors.items() if one.kind == "window"}
        self._told: set[str] = set()
        self._lock = threading.Lock()  # between comparing stamps and storing; nobody waits for a copy or a network
        at_least_zero(skew, "skew")
        self._skew = float(skew)
        self.timeouts: dict[str, float | None] = {
            key: sensor.latency + PERIODS / sensor.rate if sensor.rate > 0 else None
            for key, sensor in self._sensors.items()
        }
        if not isinstance(timeouts, Mapping):
            raise InputError(f"timeouts must map keys of sensors to seconds, got {timeouts!r}")
        self._chosen = dict(timeouts)
        for key, seconds in timeouts.items():
            known(key, list(self._sensors))
            good = isinstance(seconds, int | float | np.number) and not isinstance(seconds, bool)
            if not good or not seconds > 0:  # infinite is allowed
                raise InputError(f"the timeout of {key!r} must be more than 0 seconds, got {seconds!r}")
            self.timeouts[key] = float(seconds)

    def feed(self, key: str, reading: Any, stamp: float) -> None:  # noqa: ANN401
        """Store a copy of a reading, or of one more sample of a window; errors leave the last one as it was."""
        known(key, list(self._sensors))
        if self.timeouts[key] is None:
            raise InputError(
                f"nothing is known of the rate of {key!r}, so not when it is stale; say timeouts={{{key!r}: seconds}}"
            )
        stamp = _seconds(stamp, f"the stamp of {key!r}")
        sensor, window = self._sensors[key], self._windows.get(key)
        if window is not None and isinstance(reading, np.ndarray) and reading.shape == sensor.shape[1:]:
            sample, fed = checked(replace(sensor, shape=sensor.shape[1:]), reading)[0], None
        else:
            held = checked(sensor, reading).copy()
            sample, fed = None, _Fed(held, stamp, finite(held))
        with self._lock:
            before = self._fed.get(key)
            if before is None or stamp >= before.stamp or before is self._ahead.get(key):
                if window is not None and (sample is None or before is None or stamp < before.stamp):
                    window.forget()
                if window is not None and sample is not None:
                    held = window.add(sample, stamp)
                    fed = _Fed(held, stamp, finite(held))
                elif before is not None:
                    self._watch_rate(key, stamp - before.stamp)
                assert fed is not None
                self._fed[key] = fed
                return
        raise OutOfOrder(
            f"the stamp of {key!r} is {before.stamp - stamp:.3g} s older than that of the reading before; feed them in "
            "order, drop it (except OutOfOrder), or reset() to start anew with another clock"
        )

    def look(self, now: float | None, off: Collection[str] = ()) -> tuple[dict[str, Status], dict[str, np.ndarray]]:
        """The state of every sensor, and the readings (1, …) of the live ones, at `now` or at `time.monotonic()`.

        Sensors whose keys are in `off` are hidden, as they are switched off.
        """
        with self._lock:
            fed = dict(self._fed)
        # asked after the readings were taken, so that none of them seems to be of the future
        now, states = time.monotonic() if now is None else _seconds(now, "now"), {}
        for key, timeout in self.timeouts.items():
            states[key] = self._status(fed.get(key), timeout, now)
            if states[key].age < -self._skew:
                self._ahead[key] = fed[key]  # its stamp must not keep out the next reading
            if key in off:
                states[key] = Status(False, states[key].age, "switched off")
        return states, {key: fed[key].reading for key, state in states.items() if state.live}

    def fork(self) -> "Watchdog":
        """Another one of the same sensors and timeouts, without readings."""
        return Watchdog(list(self._sensors.values()), self._chosen, self._skew)

    def reset(self) -> None:
        """Forget all readings and stamps."""
        with self._lock:
            self._fed, self._ahead, self._paces = {}, {}, {}
            for window in self._windows.values():
                window.forget()

    def _status(self, fed: _Fed | None, timeout: float | None, now: float) -> Status:
        if fed is None or timeout is None:
            return Status(False, float("inf"), "never fed")
        age = now - fed.stamp
        if age < -self._skew:
            return Status(False, age, f"its stamp lies {-age:.3g} s after now; take both from one clock, in seconds, "
                          f"or allow for more than {self._skew:g} s between two clocks with skew=…")  # fmt: skip
        if age > timeout:
            return Status(False, age, f"stale: {age:.3g} s old, timeout {timeout:.3g} s")
        return Status(True, age) if fed.finite else Status(False, age, "its last reading holds NaN or Inf")

    def _watch_rate(self, key: str, period: float) -> None:
        """Warn once if a sensor is slower than in training, as it is then hidden now and then."""
        if key in self._told or key in self._chosen or period <= 0.0:
            return
        sensor, pace = self._sensors[key], self._paces.setdefault(key, Pace()).add(period)
        if pace is None or pace[0] * sensor.rate < OFF:
            return
        median = pace[0]
        self._told.add(key)
        _log.warning(
            f"{key!r} arrives at {1.0 / median:.3g} Hz, and the policy was trained with {sensor.rate:g} Hz: it is "
            f"hidden whenever it is older than {self.timeouts[key]:.3g} s. If that is its rate, say "
            f"timeouts={{{key!r}: {sensor.latency + PERIODS * median:.3g}}}"
        )


def _seconds(value: Any, what: str) -> float:  # noqa: ANN401
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise InputError(f"{what} must be a finite number of seconds, got {value!r}")
    return float(value)
