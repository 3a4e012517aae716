"""Readings over time, in scrolling plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from robofuse.envs.control import Robot
from robofuse.replay.canvas import DEAD, DIM, LINE, PANEL, RED, SERIES, TEXT, Box, extent, fill, write
from robofuse.replay.moments import Moment
from robofuse.replay.panels import dead_text
from robofuse.sensors import TRUTH, Sensor

SPAN = 5.0  # seconds on the time axis
_SHIFT = 4  # OpenCV's fixed point: lines are placed to 1/16 pixel


@dataclass(frozen=True)
class Curves:
    """What one plot shows of one sensor.

    Attributes:
        sensor: whose readings.
        title: what they are, with the unit.
        names: one per curve.
        columns: the elements of a reading that are added up for each curve.
        least: half of the smallest range of the vertical axis.
    """

    sensor: Sensor
    title: str
    names: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    least: float


def choose_curves(sensors: Sequence[Sensor], robot: Robot, truth: Sequence[str]) -> list[Curves]:
    """The plots of these sensors: proprioception in one, force and torque in one each, of the truth what is away.

    Args:
        sensors: of the world.
        robot: whose proprioception it is.
        truth: what the first entries of the privileged vector are, see `Task`.
    """
    chosen = []
    for sensor in sensors:
        if sensor.key == "proprio":
            names = robot.proprio_names
            hand = tuple((names.index(f"hand_{axis}"),) for axis in "xyz")
            fingers = tuple(names.index(finger) for finger in robot.model.fingers)
            title = f"hand and finger gap [m], of {len(names)} values"
            chosen.append(Curves(sensor, title, ("x", "y", "z", "gap"), (*hand, fingers), 0.1))
        elif sensor.key == "force":
            columns = tuple((index,) for index in range(8))
            names = ("x", "y", "z", "tip 1", "tip 2")
            chosen.append(Curves(sensor, "wrist and fingertips [N]", names, columns[:3] + columns[6:], 5.0))
            chosen.append(Curves(sensor, "wrist torque [N m]", ("x", "y", "z"), columns[3:6], 0.5))
        elif sensor.key == TRUTH:
            away = [name for name in truth if name.endswith(("_dx", "_dy", "_dz"))]
            names = tuple(away or truth)[: len(SERIES)]
            columns = tuple((truth.index(name),) for name in names)
            chosen.append(Curves(sensor, f"{len(names)} of {sensor.shape[0]} values", names, columns, 0.1))
    return chosen


class Plot:
    """Curves of one sensor over the last seconds; they stop where it dies.

    Attributes:
        box: where it is drawn.
    """

    def __init__(self, curves: Curves, box: Box, control_rate: float, time_labels: bool) -> None:
        """Makes an empty plot.

        Args:
            curves: what to show.
            box: where.
            control_rate: moments per second.
            time_labels: write the seconds below the axis.
        """
        self._curves, self.box = curves, box
        self._area = box.inside(46, 26, 12, 20 if time_labels else 8)
        self._period, self._time_labels = 1.0 / control_rate, time_labels
        self.clear()

    def clear(self) -> None:
        """Forget the past: a new episode begins."""
        self._times: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._last: np.ndarray | None = None
        self._low, self._high = -self._curves.least, self._curves.least

    def add(self, moment: Moment) -> None:
        """Take in what the sensor delivered, if it did."""
        key = self._curves.sensor.key
        if not moment.alive[key]:
            return
        readings = np.atleast_2d(moment.observation[key]).astype(np.float64)
        sensor = self._curves.sensor
        if sensor.kind == "window":
            if self._last is not None and np.array_equal(readings, self._last):
                return  # it delivers seldom, and holds what it has
            self._last = readings
            # a window overlaps the one before: only what is new since then
            readings = readings[-round(sensor.sample_rate / sensor.rate) if moment.step else -1 :]
            age = np.arange(len(readings) - 1, -1, -1) / sensor.sample_rate
        else:
            age = np.zeros(1)
        values = np.stack([readings[:, list(columns)].sum(axis=1) for columns in self._curves.columns], axis=1)
        sound = np.isfinite(values).all(axis=1)  # of a reading that is not a number there is nothing to draw
        if not sound.any():
            return
        values, age = values[sound], age[sound]
        self._times.append(moment.time - sensor.latency - age)
        self._values.append(values)
        # the range only grows, so that the curves do not jump
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))

    def draw(self, image: np.ndarray, moment: Moment) -> None:
        """Draw the axes, and the curves up to this moment."""
        key, area = self._curves.sensor.key, self._area
        start = max(0.0, moment.time - SPAN)
        ticks = nice_ticks(self._low, self._high)
        low, high = ticks[0], ticks[-1]

        def x_of(time: np.ndarray | float) -> np.ndarray:
            return area.x + (np.asarray(time) - start) / SPAN * (area.width - 1)

        def y_of(value: np.ndarray | float) -> np.ndarray:
            return area.y + (high - np.asarray(value)) / (high - low) * (area.height - 1)

        since = moment.dead_since.get(key)
        fill(image, area, PANEL if since is None else DEAD)
        for tick in ticks:
            y = round(float(y_of(tick)))
            cv2.line(image, (area.x, y), (area.right - 1, y), LINE, 1)
            write(image, f"{tick:g}", area.x - 6, y, 7.0, DIM, align="right")
        for second in range(math.ceil(start), math.floor(start + SPAN) + 1):
            x = round(float(x_of(second)))
            cv2.line(image, (x, area.y), (x, area.bottom - 1), LINE, 1)
            if self._time_labels:
                label = f"{second} s" if second == math.ceil(start) else str(second)
                write(image, label, x, area.bottom + 9, 7.0, DIM, align="center")
        if self._times:
            times, values = np.concatenate(self._times), np.concatenate(self._values)
            shown = times >= start
            for index, colour in enumerate(SERIES[: values.shape[1]]):
                points = np.stack([x_of(times[shown]), y_of(values[shown, index])], axis=1)
                fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
                cv2.polylines(image, [fixed], False, colour, 1, cv2.LINE_AA, _SHIFT)
        now = round(float(x_of(moment.time)))
        cv2.line(image, (now, area.y), (now, area.bottom - 1), DIM, 1)
        if since is not None:
            self._mark_death(image, dead_text(since), round(float(x_of(max(start, since * self._period)))))
        self._title(image)

    def _mark_death(self, image: np.ndarray, text: str, x: int) -> None:
        area = self._area
        cv2.line(image, (x, area.y), (x, area.bottom - 1), RED, 2)
        width = extent(text, 8.5, bold=True) + 12
        left = min(x + 6, area.right - width)
        fill(image, Box(left, area.y + area.height // 2 - 9, width, 18), DEAD)
        write(image, text, left + 6, area.y + area.height // 2, 8.5, TEXT, bold=True)

    def _title(self, image: np.ndarray) -> None:
        box, y = self.box, self.box.y + 13
        right = box.right - 12
        for name, colour in reversed(list(zip(self._curves.names, SERIES, strict=False))):
            taken = write(image, name, right, y, 8.0, TEXT, align="right")
            cv2.line(image, (right - taken - 20, y), (right - taken - 6, y), colour, 2, cv2.LINE_AA)
            right -= taken + 34
        taken = write(image, self._curves.sensor.key, box.x + 12, y, 9.0, bold=True)
        write(image, self._curves.title, box.x + 22 + taken, y, 8.0, DIM, width=right - box.x - taken - 22)


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose a range, about `count` intervals.

    Args:
        low: smallest value.
        high: largest value, above `low`.
        count: how many intervals to aim at.

    Returns:
        Ascending, at least two.
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [index * step for index in range(first, last + 1)]


def stack_plots(curves: Sequence[Curves], box: Box, control_rate: float) -> list[Plot]:
    """Plots below each other that fill a box; the last one has the seconds."""
    if not curves:
        return []
    labels, gap = 12, 8
    height = (box.height - labels - (len(curves) - 1) * gap) // len(curves)
    plots = []
    for index, which in enumerate(curves):
        last = index == len(curves) - 1
        place = Box(box.x, box.y + index * (height + gap), box.width, height + (labels if last else 0))
        plots.append(Plot(which, place, control_rate, last))
    return plots
