"""Parts of the dashboard that show one moment: cameras, lights, reward."""

from collections.abc import Sequence

import cv2
import numpy as np

from robofuse.envs.rendering.picture import depth_colours, depth_limits
from robofuse.envs.world import CONTROL_RATE
from robofuse.replay.canvas import (
    ACCENT,
    DEAD,
    DIM,
    GREEN,
    LINE,
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
from robofuse.replay.moments import Moment
from robofuse.sensors import Sensor

CAPTION = 22  # rows above a camera's image
_GAP = 12


def heading(image: np.ndarray, box: Box, title: str, note: str = "", right: float | None = None) -> None:
    """A title in capitals on a panel's first line, and a note after it that ends before column `right`."""
    taken = write(image, title, box.x + 12, box.y + 15, 9.0, bold=True)
    room = (box.right if right is None else right) - box.x - taken - 34
    write(image, note, box.x + 22 + taken, box.y + 15, 8.0, DIM, width=room)


def dead_text(since: int) -> str:
    """How long a sensor has been silent."""
    return f"DEAD since {since / CONTROL_RATE:.2f} s"


class Cameras:
    """A tile per rgb and depth sensor, pixels as the policy gets them.

    Attributes:
        height: rows that the tiles take, captions included.
    """

    def __init__(self, sensors: Sequence[Sensor], box: Box, tallest: int) -> None:
        """Arranges the tiles in a box, as large as they get within `tallest` rows; only its place and width count."""
        self._sensors, self._tiles = tuple(sensors), []
        self._limits: dict[str, tuple[float, float]] = {}
        count, side, columns = len(sensors), 0, 1
        for n in range(1, count + 1):
            rows = -(-count // n)
            fits = min((box.width - (n - 1) * _GAP) // n, (tallest - (rows - 1) * _GAP) // rows - CAPTION)
            if fits > side:
                side, columns = fits, n
        pitch = (box.width + _GAP) // columns
        for index in range(count):
            row, column = divmod(index, columns)
            self._tiles.append(Box(box.x + column * pitch, box.y + row * (side + CAPTION + _GAP), pitch - _GAP, side))
        self.height = self._tiles[-1].bottom + CAPTION - box.y if count else 0

    def draw(self, image: np.ndarray, moment: Moment) -> None:
        """Draw what they deliver."""
        for sensor, tile in zip(self._sensors, self._tiles, strict=True):
            place = Box(tile.x, tile.y + CAPTION, tile.width, tile.height)
            height, width = sensor.shape[:2]
            size = f"{width} x {height}"
            notes = [f"{size} pixels", size]
            fill(image, place, PANEL)
            if moment.alive[sensor.key]:
                value = moment.observation[sensor.key]
                if sensor.kind == "depth":
                    limits = self._widen(sensor.key, value[..., 0])
                    value = depth_colours(value[..., 0], limits)
                    near, far = (f"{limit / 1000:.2f}" for limit in limits)
                    notes = [f"{size} pixels, red {near} m to blue {far} m", f"{near} to {far} m", *notes]
                _paste(image, place, value)
            else:
                fill(image, place, DEAD)
                cross(image, place.inside(*[place.height // 10] * 4), RED, 3)
                self._say_dead(image, place, moment.dead_since[sensor.key])
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

    def _say_dead(self, image: np.ndarray, place: Box, since: int) -> None:
        text, size, room = dead_text(since), 11.0, place.width - 20
        while extent(text, size, bold=True) > room and size > 4.0:
            size -= 0.5
        width, height = min(place.width, extent(text, size, bold=True) + 16), round(2.6 * size)
        x, y = place.x + place.width // 2, place.y + place.height // 2
        fill(image, Box(x - width // 2, y - height // 2, width, height), DEAD)
        write(image, text, x, y, size, bold=True, align="center", width=width)


def _paste(image: np.ndarray, place: Box, picture: np.ndarray) -> None:
    """Put a picture into a box, as large as it fits, every pixel a square of the same size."""
    height, width = picture.shape[:2]
    scale = min(place.width / width, place.height / height)
    if scale > 1.0:  # to a whole multiple and back: pixels of one size, at the price of soft edges
        times = int(np.ceil(scale))
        picture = cv2.resize(picture, (width * times, height * times), interpolation=cv2.INTER_NEAREST)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    x, y = place.x + (place.width - size[0]) // 2, place.y + (place.height - size[1]) // 2
    image[y : y + size[1], x : x + size[0]] = picture


class Lights:
    """A light per sensor: green and `on`, or red with a cross and `off`.

    Attributes:
        places: sensor → middle of its light.
    """

    def __init__(self, sensors: Sequence[Sensor], box: Box) -> None:
        """Arranges the lights in a box, below its heading."""
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

    def draw(self, image: np.ndarray, moment: Moment) -> None:
        """Draw the lights."""
        heading(image, self._box, "SENSORS", f"{sum(moment.alive.values())} of {len(moment.alive)} on")
        for key, (x, y) in self.places.items():
            alive = moment.alive[key]
            cv2.circle(image, (x, y), self._radius, GREEN if alive else RED, -1, cv2.LINE_AA)
            if not alive:
                cross(image, Box(x - 3, y - 3, 7, 7), TEXT)
            edge, state = x + self._pitch - 22, "on" if alive else "off"
            if not alive and self._columns == 1:
                state += f" since {moment.dead_since[key] / CONTROL_RATE:.2f} s"
            taken = write(image, state, edge, y, 8.5, DIM if alive else RED, align="right", bold=not alive)
            write(image, key, x + 18, y, 9.0, TEXT, width=edge - taken - x - 24)


class Reward:
    """The weighted reward terms of this step, each beside its own weight, and the return."""

    def __init__(self, weights: dict[str, float], box: Box) -> None:
        """Arranges a row per term in a box, below its heading."""
        self._weights, self._box = weights, box
        self._step = min(22, (box.height - 34) // max(1, len(weights)))

    def draw(self, image: np.ndarray, moment: Moment) -> None:
        """Draw the terms."""
        box = self._box
        text = f"return {moment.total:.2f}"
        taken = write(image, text, box.right - 12, box.y + 15, 9.0, bold=True, align="right")
        heading(image, box, "REWARD", "of this step; full bar: its weight", box.right - taken - 20)
        left, right = box.x + 76, box.right - 70
        for row, (name, weight) in enumerate(self._weights.items()):
            y = box.y + 32 + row * self._step + self._step // 2
            value = moment.terms[name]
            share = min(1.0, abs(value / weight)) if weight else 0.0
            write(image, name, box.x + 12, y, 8.5, TEXT, width=left - box.x - 18)
            bar = Box(left, y - 4, right - left, 8)
            fill(image, bar, LINE)
            fill(image, Box(bar.x, bar.y, round(bar.width * share), bar.height), ACCENT if value >= 0 else SERIES[1])
            write(image, f"{value:+.4f}", box.right - 12, y, 8.5, TEXT if value else DIM, align="right")


def banner(image: np.ndarray, scene: Box, moment: Moment) -> None:
    """How the episode ended, across the scene."""
    if not moment.outcome:
        return
    colour, word = (GREEN, "SUCCESS") if moment.success else (RED, "FAILED")
    stripe = Box(scene.x, scene.bottom - 76, scene.width, 76)
    fade(image, stripe, (0, 0, 0), 0.72)
    fill(image, Box(stripe.x, stripe.y, stripe.width, 3), colour)
    taken = write(image, word, stripe.x + 24, stripe.y + 40, 22.0, colour, bold=True)
    why = f"after {moment.time:.2f} s" if moment.success else f"{moment.outcome}, {moment.time:.2f} s"
    write(image, f"{why}, return {moment.total:.2f}", stripe.x + taken + 48, stripe.y + 41, 11.0, width=370)
