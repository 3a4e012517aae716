"""Windows of single samples, as a force sensor gives them, spaced as in training; and how fast things come."""

import logging
from collections import deque

import numpy as np

from robofuse.sensors import Sensor

_WATCHED = 9  # so many periods are looked at
OFF = 1.25  # their median is this much longer or shorter than in training
_UNEVEN = 0.5  # the middle half of them differs by this part of their median
_log = logging.getLogger("robofuse.deploy")


class Pace:
    """How fast something comes, from its last periods."""

    def __init__(self) -> None:
        """Of nothing yet."""
        self._periods: deque[float] = deque(maxlen=_WATCHED)

    def add(self, period: float) -> tuple[float, float] | None:
        """One more period [s]; once enough were seen, their median and the spread of their middle half [s]."""
        self._periods.append(period)
        if len(self._periods) < _WATCHED:
            return None
        ordered = sorted(self._periods)  # NumPy would take 30 times as long for so few
        return ordered[_WATCHED // 2], ordered[-1 - _WATCHED // 4] - ordered[_WATCHED // 4]


class Window:
    """Makes windows of single samples: each place takes the sample whose stamp is nearest to when it was in training.

    So samples that are lost, late, or come at another rate leave the spacing as it was. Before the first sample, and
    before a gap as long as the window, stands the oldest that is there, as in a new episode of the simulator. Without a
    known rate a window holds the last samples as they came.
    """

    def __init__(self, sensor: Sensor) -> None:
        """Of a sensor of kind `window`."""
        self._sensor, self._count = sensor, sensor.shape[0]
        rate = sensor.sample_rate or sensor.rate
        self._period = 1.0 / rate if rate > 0 else 0.0
        self._ages = self._period * np.arange(self._count - 1, -1, -1)  # oldest first
        self._samples: deque[tuple[float, np.ndarray]] = deque(maxlen=None if self._period else self._count)
        self._pace, self._told = Pace(), False

    def add(self, sample: np.ndarray, stamp: float) -> np.ndarray:
        """The window (1, W, C) with one more sample (C,), measured at `stamp` [s], not before the last one."""
        if self._samples and stamp == self._samples[-1][0]:
            self._samples.pop()
        elif self._samples:
            self._watch(stamp - self._samples[-1][0])
        self._samples.append((stamp, sample.copy()))
        if not self._period:
            rows = [held for _, held in self._samples]
            return np.stack([rows[0]] * (self._count - len(rows)) + rows)[None]
        while self._samples[0][0] < stamp - self._ages[0] - 0.5 * self._period:
            self._samples.popleft()
        stamps = np.array([when for when, _ in self._samples])
        wanted = stamp - self._ages
        after = np.searchsorted(stamps, wanted).clip(0, len(stamps) - 1)
        before = (after - 1).clip(0)
        nearest = np.where(wanted - stamps[before] < stamps[after] - wanted, before, after)
        return np.stack([self._samples[i][1] for i in nearest])[None]

    def forget(self) -> None:
        """Drop all samples."""
        self._samples.clear()

    def _watch(self, period: float) -> None:
        """Warn once of samples that come otherwise than in training."""
        pace = None if self._told or not self._period else self._pace.add(period)
        if pace is None:
            return
        median, spread = pace
        if spread > _UNEVEN * median:
            what = "they are unevenly spaced; stamp them when they are measured, not when they arrive"
        elif median >= OFF * self._period:
            what = "samples stand in the window more than once"
        elif median <= self._period / OFF:
            limit = 0.5 / self._period
            what = f"the window takes some of them: filter out what is faster than {limit:.3g} Hz before you feed them"
        else:
            return
        self._told = True
        _log.warning(
            f"{self._sensor.key!r} comes sample by sample at {1.0 / median:.3g} Hz, and the policy was trained with "
            f"{1.0 / self._period:.3g} Hz: {what}"
        )
