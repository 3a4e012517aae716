"""One picture of a frame of a replay: scene, sensors, lights, reward, time and outcome."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from robofuse.envs import World
from robofuse.envs.control import Robot
from robofuse.envs.rendering.picture import depth_colours, depth_limits
from robofuse.faults import Plan
from robofuse.replay.canvas import (
    ACCENT,
    BACKGROUND,
    DIM,
    GREEN,
    LINE,
    OFF,
    PANEL,
    RED,
    SERIES,
    TEXT,
    Box,
    cross,
    extent,
    fade,
    fill,
    frame,
    write,
)
from robofuse.replay.frames import Frame
from robofuse.sensors import MODALITIES, TRUTH, Sensor

WIDTH, HEIGHT = 1280, 720
_MARGIN, _GAP, _TOP = 16, 12, 60
_SCENE = Box(_MARGIN, _TOP, 640, 480)  # a pixel for a pixel of `World.picture`
_LOWER = Box(_MARGIN, _SCENE.bottom + _GAP, 640, HEIGHT - _MARGIN - _SCENE.bottom - _GAP)
_RIGHT = Box(_SCENE.right + _MARGIN, _TOP, WIDTH - _SCENE.right - 2 * _MARGIN, HEIGHT - _MARGIN - _TOP)
_LIGHTS = Box(_LOWER.x, _LOWER.y, 268, _LOWER.height)
_REWARD = Box(_LIGHTS.right + _GAP, _LOWER.y, _LOWER.right - _LIGHTS.right - _GAP, _LOWER.height)
_ORDER = (*MODALITIES, TRUTH)
_CAMERA_ROWS = 310  # the rest of the right side is for plots
_CAPTION = 22  # rows above a camera's image
_PLOT_GAP, _TIME_LABELS = 8, 12  # rows between plots, and below the last one
_SPAN = 5.0  # seconds on the time axis of a plot
_SHIFT = 4  # OpenCV's fixed point: lines are placed to 1/16 pixel


@dataclass(frozen=True)
class Stage:
    """Where a replay plays.

    Attributes:
        sensors: to be shown.
        curves: a plot each.
        weights: largest value of each reward term, by its name.
        max_steps: of an episode; 0 if there is no limit.
        seed: of the scenes.
    """

    sensors: tuple[Sensor, ...]
    curves: tuple["Curves", ...]
    weights: dict[str, float]
    max_steps: int
    seed: int

    @classmethod
    def of(cls, world: World) -> "Stage":
        """A World."""
        sensors = sorted(world.sensors, key=lambda sensor: _ORDER.index(sensor.key.partition("_")[0]))
        curves = choose_curves(sensors, world.robot, world.task.privileged_names)
        return cls(tuple(sensors), tuple(curves), world.task.weights, world.max_steps, world.seed)


class Dashboard:
    """Draws the frames of one stage.

    Attributes:
        lights: a light per sensor; its `places` are their positions.
    """

    def __init__(self, stage: Stage, policy: str, about: str, disabled: Plan | None = None) -> None:
        """Arrange the parts for these sensors.

        Args:
            stage: where the frames come from.
            policy: name of the policy, for the first line.
            about: task, robot and the like, for the first line.
            disabled: the disabled sensors, for the second line.
        """
        self._stage, sensors, curves = stage, stage.sensors, stage.curves
        cameras = [sensor for sensor in sensors if sensor.kind in ("rgb", "depth")]
        self._cameras = Cameras(cameras, _RIGHT, _CAMERA_ROWS if curves else _RIGHT.height)
        self.lights = Lights(sensors, _LIGHTS)
        below = _RIGHT.inside(0, self._cameras.height + _GAP if cameras else 0, 0, 0)
        height = (below.height - _TIME_LABELS - (len(curves) - 1) * _PLOT_GAP) // max(1, len(curves))
        self._plots: list[Plot] = []
        for index, which in enumerate(curves):
            last = index == len(curves) - 1
            y = below.y + index * (height + _PLOT_GAP)
            self._plots.append(Plot(which, Box(below.x, y, below.width, height + last * _TIME_LABELS), last))
        self._ground = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        self._ground[:] = BACKGROUND
        for box in (_LIGHTS, _REWARD, *(plot.box for plot in self._plots)):
            fill(self._ground, box, PANEL)
            frame(self._ground, box)
        self._write_top(policy, about, disabled)

    def _write_top(self, policy: str, about: str, disabled: Plan | None) -> None:
        image = self._ground
        taken = write(image, policy, _MARGIN, 23, 15.0, bold=True, width=400)
        write(image, about, _MARGIN + taken + 16, 25, 9.5, DIM, width=_SCENE.right - _MARGIN - taken - 16)
        text = ", ".join(s.sensor + (f" from step {s.step}" if s.step else "") for s in disabled or ())
        if text:
            taken = write(image, "disabled: ", _MARGIN, 47, 8.5, RED, bold=True)
            write(image, text, _MARGIN + taken + 4, 47, 8.5, RED, width=600 - taken)
        else:
            write(image, "no sensor disabled", _MARGIN, 47, 8.5, DIM)

    def draw(self, shown: Frame) -> np.ndarray:
        """Draw a frame, as RGB uint8 (720, 1280, 3); an episode's frames must come in order, as plots remember."""
        image = self._ground.copy()
        self._draw_time(image, shown)
        _paste(image, _SCENE, shown.scene)
        draw_outcome(image, _SCENE, shown)
        frame(image, _SCENE)
        self._cameras.draw(image, shown)
        self.lights.draw(image, shown)
        draw_reward(image, _REWARD, self._stage.weights, shown)
        for plot in self._plots:
            if shown.step == 0:
                plot.clear()
            plot.add(shown)
            plot.draw(image, shown)
        return image

    def _draw_time(self, image: np.ndarray, shown: Frame) -> None:
        write(image, f"{shown.time:.2f} s", _RIGHT.right, 30, 20.0, bold=True, align="right")
        progress = Box(_RIGHT.x, 44, 440, 4)
        fill(image, progress, LINE)
        share = min(1.0, shown.step / self._stage.max_steps) if self._stage.max_steps else 0.0
        fill(image, Box(progress.x, progress.y, round(progress.width * share), progress.height), TEXT)
        write(image, f"episode {shown.episode}", _RIGHT.x, 24, 11.0, bold=True)
        steps = f"step {shown.step}" + (f" of at most {self._stage.max_steps}" if self._stage.max_steps else "")
        write(image, steps, progress.right, 24, 9.5, DIM, align="right")
        write(image, f"seed {self._stage.seed}", _RIGHT.x + 130, 25, 9.5, DIM)


def draw_title(image: np.ndarray, box: Box, title: str, note: str, right: float) -> None:
    """Draw a title on a panel's first line, and a note after it that ends before column `right`."""
    taken = write(image, title, box.x + 12, box.y + 15, 9.0, bold=True)
    write(image, note, box.x + 22 + taken, box.y + 15, 8.0, DIM, width=right - box.x - taken - 34)


def draw_reward(image: np.ndarray, box: Box, weights: dict[str, float], shown: Frame) -> None:
    """Draw the weighted reward terms of this step, each beside its own weight, and the return."""
    text = f"return {shown.total:.2f}"
    taken = write(image, text, box.right - 12, box.y + 15, 9.0, bold=True, align="right")
    draw_title(image, box, "REWARD", "of this step; full bar: its weight", box.right - taken - 20)
    left, right = box.x + 76, box.right - 70
    pitch = min(22, (box.height - 34) // max(1, len(weights)))
    for row, (name, weight) in enumerate(weights.items()):
        y = box.y + 32 + row * pitch + pitch // 2
        value = shown.terms[name]
        share = min(1.0, abs(value / weight)) if weight else 0.0
        write(image, name, box.x + 12, y, 8.5, TEXT, width=left - box.x - 18)
        bar = Box(left, y - 4, right - left, 8)
        fill(image, bar, LINE)
        fill(image, Box(bar.x, bar.y, round(bar.width * share), bar.height), ACCENT if value >= 0 else SERIES[1])
        write(image, f"{value:+.4f}", box.right - 12, y, 8.5, TEXT if value else DIM, align="right")


def draw_outcome(image: np.ndarray, scene: Box, shown: Frame) -> None:
    """Draw across the scene how the episode ended, if it did."""
    if not shown.outcome:
        return
    colour, word = (GREEN, "SUCCESS") if shown.success else (RED, "FAILED")
    stripe = Box(scene.x, scene.bottom - 76, scene.width, 76)
    fade(image, stripe, (0, 0, 0), 0.72)
    fill(image, Box(stripe.x, stripe.y, stripe.width, 3), colour)
    taken = write(image, word, stripe.x + 24, stripe.y + 40, 22.0, colour, bold=True)
    why = f"after {shown.time:.2f} s" if shown.success else f"{shown.outcome}, {shown.time:.2f} s"
    write(image, f"{why}, return {shown.total:.2f}", stripe.x + taken + 48, stripe.y + 41, 11.0, width=370)


def off_text(seconds: float) -> str:
    """Since when a sensor has been off."""
    return f"OFF since {seconds:.2f} s"


class Lights:
    """A light per sensor: green and `on`, or red with a cross and `off`.

    Attributes:
        places: sensor → centre of its light.
    """

    def __init__(self, sensors: Sequence[Sensor], box: Box) -> None:
        """Arrange the lights in a box, below its title."""
        self._box = box
        self._columns = 1 if len(sensors) <= 6 else 2
        rows = -(-len(sensors) // self._columns)
        self._pitch = (box.width - 12) // self._columns
        step = min(28.0, (box.height - 36) / rows)
        self._radius = round(min(8.0, 0.4 * step))
        self.places = {}
        for index, sensor in enumerate(sensors):
            column, row = divmod(index, rows)
            self.places[sensor.key] = (box.x + 22 + column * self._pitch, round(box.y + 30 + (row + 0.5) * step))

    def draw(self, image: np.ndarray, shown: Frame) -> None:
        """Draw the lights."""
        draw_title(image, self._box, "SENSORS", f"{sum(shown.on.values())} of {len(shown.on)} on", self._box.right)
        for key, (x, y) in self.places.items():
            on = shown.on[key]
            cv2.circle(image, (x, y), self._radius, GREEN if on else RED, -1, cv2.LINE_AA)
            if not on:
                cross(image, Box(x - 3, y - 3, 7, 7), TEXT)
            edge, state = x + self._pitch - 22, "on" if on else "off"
            if not on and self._columns == 1:
                state += f" since {shown.off_since[key] * shown.dt:.2f} s"
            taken = write(image, state, edge, y, 8.5, DIM if on else RED, align="right", bold=not on)
            write(image, key, x + 18, y, 9.0, TEXT, width=edge - taken - x - 24)


class Cameras:
    """A tile per rgb and depth sensor, with the pixels that the policy gets.

    Attributes:
        height: rows that the tiles take, with captions.
    """

    def __init__(self, sensors: Sequence[Sensor], box: Box, tallest: int) -> None:
        """Arrange the tiles from the top left of a box in its width, as large as possible within `tallest` rows."""
        self._sensors, self._tiles = tuple(sensors), []
        self._limits: dict[str, tuple[float, float]] = {}
        count, side, columns = len(sensors), 0, 1
        for n in range(1, count + 1):
            rows = -(-count // n)
            fits = min((box.width - (n - 1) * _GAP) // n, (tallest - (rows - 1) * _GAP) // rows - _CAPTION)
            if fits > side:
                side, columns = fits, n
        pitch = (box.width + _GAP) // columns
        for index in range(count):
            row, column = divmod(index, columns)
            self._tiles.append(Box(box.x + column * pitch, box.y + row * (side + _CAPTION + _GAP), pitch - _GAP, side))
        self.height = self._tiles[-1].bottom + _CAPTION - box.y if count else 0

    def draw(self, image: np.ndarray, shown: Frame) -> None:
        """Draw the readings."""
        for sensor, tile in zip(self._sensors, self._tiles, strict=True):
            place = Box(tile.x, tile.y + _CAPTION, tile.width, tile.height)
            height, width = sensor.shape[:2]
            size = f"{width} x {height}"
            notes = [f"{size} pixels", size]  # the longest that there is room for is written
            fill(image, place, PANEL)
            if shown.on[sensor.key]:
                value = shown.observation[sensor.key]
                if sensor.kind == "depth":
                    limits = self._widen(sensor.key, value[..., 0])
                    value = depth_colours(value[..., 0], limits)
                    near, far = (f"{limit / 1000:.2f}" for limit in limits)
                    notes = [f"{size} pixels, red {near} m to blue {far} m", f"{near} to {far} m", *notes]
                _paste(image, place, value)
            else:
                fill(image, place, OFF)
                cross(image, place.inside(*[place.height // 10] * 4), RED, 3)
                _write_off(image, place, shown.off_since[sensor.key] * shown.dt)
            frame(image, place)
            taken = write(image, sensor.key, tile.x + 1, tile.y + 10, 9.0, bold=True, width=tile.width)
            room = tile.width - taken - 12
            note = next((note for note in notes if extent(note, 8.0) <= room), "")
            write(image, note, tile.x + taken + 12, tile.y + 10, 8.0, DIM)

    def _widen(self, key: str, millimetres: np.ndarray) -> tuple[float, float]:
        # the range only grows, so that a colour keeps its meaning while the picture moves
        nearest, farthest = depth_limits(millimetres)
        if farthest > nearest:
            near, far = self._limits.get(key, (nearest, farthest))
            self._limits[key] = min(near, nearest), max(far, farthest)
        return self._limits.get(key, (0.0, 1.0))


def _write_off(image: np.ndarray, place: Box, since: float) -> None:
    text, size, room = off_text(since), 11.0, place.width - 20
    while extent(text, size, bold=True) > room and size > 4.0:
        size -= 0.5
    width, height = min(place.width, extent(text, size, bold=True) + 16), round(2.6 * size)
    x, y = place.x + place.width // 2, place.y + place.height // 2
    fill(image, Box(x - width // 2, y - height // 2, width, height), OFF)
    write(image, text, x, y, size, bold=True, align="center", width=width)


def _paste(image: np.ndarray, place: Box, picture: np.ndarray) -> None:
    """Put a picture into a box, as large as possible, every pixel a square of the same size."""
    height, width = picture.shape[:2]
    scale = min(place.width / width, place.height / height)
    if scale > 1.0:  # to a whole multiple and back: pixels of one size, with soft edges
        times = int(np.ceil(scale))
        picture = cv2.resize(picture, (width * times, height * times), interpolation=cv2.INTER_NEAREST)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    x, y = place.x + (place.width - size[0]) // 2, place.y + (place.height - size[1]) // 2
    image[y : y + size[1], x : x + size[0]] = picture


class Curves(NamedTuple):
    """What one plot shows of one sensor.

    Attributes:
        sensor: the sensor.
        title: what the curves are, with the unit.
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
    """The plots of these sensors: one of proprioception, of force and of torque, and one of distances in the truth.

    Args:
        sensors: of the world.
        robot: of the world.
        truth: names of the elements of the privileged vector.
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
            distances = [name for name in truth if name.endswith(("_dx", "_dy", "_dz"))]
            names = tuple(distances or truth)[: len(SERIES)]
            columns = tuple((truth.index(name),) for name in names)
            chosen.append(Curves(sensor, f"{len(names)} of {sensor.shape[0]} values", names, columns, 0.1))
    return chosen


class Plot:
    """Curves of one sensor over the last seconds; they stop where it is off.

    Attributes:
        box: its place.
    """

    def __init__(self, curves: Curves, box: Box, time_labels: bool) -> None:
        """An empty plot in a box; `time_labels` writes the seconds below the axis."""
        self._curves, self.box, self._time_labels = curves, box, time_labels
        self._area = box.inside(46, 26, 12, 20 if time_labels else 8)
        self.clear()

    def clear(self) -> None:
        """Forget the past, as a new episode begins."""
        self._times: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._last: np.ndarray | None = None
        self._low, self._high = -self._curves.least, self._curves.least

    def add(self, shown: Frame) -> None:
        """Add the sensor's reading, if it is on."""
        sensor = self._curves.sensor
        if not shown.on[sensor.key]:
            return
        readings = np.atleast_2d(shown.observation[sensor.key]).astype(np.float64)
        age = np.zeros(1)
        if sensor.kind == "window":
            if self._last is not None and np.array_equal(readings, self._last):
                return  # the last delivery is held
            self._last = readings
            # a window overlaps the one before: only its new part is added
            new = round(sensor.sample_rate / sensor.rate) if shown.step and sensor.rate else 1
            readings = readings[-new:]
            age = np.arange(len(readings) - 1, -1, -1) / (sensor.sample_rate or 1.0)
        values = np.stack([readings[:, list(columns)].sum(axis=1) for columns in self._curves.columns], axis=1)
        finite = np.isfinite(values).all(axis=1)
        if not finite.any():
            return
        values, age = values[finite], age[finite]
        self._times.append(shown.time - sensor.latency - age)
        self._values.append(values)
        # the range only grows, so that the curves do not jump
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))

    def draw(self, image: np.ndarray, shown: Frame) -> None:
        """Draw the axes, and the curves up to this frame."""
        area = self._area
        start = max(0.0, shown.time - _SPAN)
        ticks = nice_ticks(self._low, self._high)
        low, high = ticks[0], ticks[-1]

        def x_of(time: np.ndarray | float) -> np.ndarray:
            return area.x + (np.asarray(time) - start) / _SPAN * (area.width - 1)

        def y_of(value: np.ndarray | float) -> np.ndarray:
            return area.y + (high - np.asarray(value)) / (high - low) * (area.height - 1)

        def upright(time: float, colour: tuple[int, int, int], thickness: int = 1) -> int:
            x = round(float(x_of(time)))
            cv2.line(image, (x, area.y), (x, area.bottom - 1), colour, thickness)
            return x

        off = shown.off_since.get(self._curves.sensor.key)
        since = None if off is None else off * shown.dt
        fill(image, area, PANEL if since is None else OFF)
        for tick in ticks:
            y = round(float(y_of(tick)))
            cv2.line(image, (area.x, y), (area.right - 1, y), LINE, 1)
            write(image, f"{tick:g}", area.x - 6, y, 7.0, DIM, align="right")
        for second in range(math.ceil(start), math.floor(start + _SPAN) + 1):
            x = upright(second, LINE)
            if self._time_labels:
                label = f"{second} s" if second == math.ceil(start) else str(second)
                write(image, label, x, area.bottom + 9, 7.0, DIM, align="center")
        if self._times:
            times, values = np.concatenate(self._times), np.concatenate(self._values)
            recent = times >= start
            for index, colour in enumerate(SERIES[: values.shape[1]]):
                points = np.stack([x_of(times[recent]), y_of(values[recent, index])], axis=1)
                fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
                cv2.polylines(image, [fixed], False, colour, 1, cv2.LINE_AA, _SHIFT)
        upright(shown.time, DIM)
        if since is not None:
            text, y = off_text(since), area.y + area.height // 2
            width = extent(text, 8.5, bold=True) + 12
            x = upright(max(start, since), RED, 2)
            left = min(x + 6, area.right - width)
            fill(image, Box(left, y - 9, width, 18), OFF)
            write(image, text, left + 6, y, 8.5, TEXT, bold=True)
        self._draw_legend(image)

    def _draw_legend(self, image: np.ndarray) -> None:
        box, y = self.box, self.box.y + 13
        right = box.right - 12
        for name, colour in reversed(list(zip(self._curves.names, SERIES, strict=False))):
            taken = write(image, name, right, y, 8.0, TEXT, align="right")
            cv2.line(image, (right - taken - 20, y), (right - taken - 6, y), colour, 2, cv2.LINE_AA)
            right -= taken + 34
        taken = write(image, self._curves.sensor.key, box.x + 12, y, 9.0, bold=True)
        write(image, self._curves.title, box.x + 22 + taken, y, 8.0, DIM, width=right - box.x - taken - 22)


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` + 1 round numbers, ascending, that enclose a range: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [index * step for index in range(first, last + 1)]
