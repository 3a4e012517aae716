"""Draws text and boxes with OpenCV. Images are RGB, uint8 (H, W, 3); places are (x, y) from the top left [pixels]."""

from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[int, int, int]

BACKGROUND: Colour = (16, 19, 24)
PANEL: Colour = (27, 31, 38)
LINE: Colour = (58, 64, 75)
TEXT: Colour = (232, 235, 240)
DIM: Colour = (152, 160, 173)
GREEN: Colour = (52, 199, 110)
RED: Colour = (240, 62, 62)
OFF: Colour = (52, 24, 27)
ACCENT: Colour = (86, 160, 233)
# Okabe and Ito's colours for the colour-blind, less black, lightened for a dark ground
SERIES: tuple[Colour, ...] = ((86, 180, 233), (240, 178, 50), (40, 190, 140), (240, 228, 66), (221, 140, 186))

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BOLD = cv2.FONT_HERSHEY_DUPLEX
_CAPITALS = 22.0  # height of a capital at scale 1 [pixels]
_SMALLEST = 6.0


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom are the first column and row outside."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column outside."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row outside."""
        return self.y + self.height

    def inside(self, left: int, top: int, right: int, bottom: int) -> "Box":
        """The box without these margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)

    def of(self, image: np.ndarray) -> np.ndarray:
        """This part of an image, a view."""
        return image[self.y : self.bottom, self.x : self.right]


def write(
    image: np.ndarray,
    text: str,
    x: float,
    y: float,
    size: float = 9.0,
    colour: Colour = TEXT,
    *,
    bold: bool = False,
    align: str = "left",
    width: float | None = None,
) -> int:
    """Write a line of ASCII; smaller, and then cut, where it would be wider than `width`.

    Args:
        image: is drawn on.
        text: to write.
        x: its left edge, right edge or middle, by `align`.
        y: the middle of its capitals.
        size: height of a capital [pixels].
        colour: of the letters.
        bold: heavier letters.
        align: `left`, `right` or `center`.
        width: largest width [pixels].

    Returns:
        Its width [pixels].
    """
    font = _BOLD if bold else _FONT
    taken = extent(text, size, bold=bold)
    while width is not None and taken > width:
        if size > _SMALLEST:
            size = max(_SMALLEST, min(size - 0.5, size * width / taken))
        elif len(text) > 3:
            text = text[: -4 if text.endswith("..") else -3] + ".."
        else:
            break
        taken = extent(text, size, bold=bold)
    left = x - taken * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    place = (round(left), round(y + size / 2))
    cv2.putText(image, text, place, font, size / _CAPITALS, colour, 1, cv2.LINE_AA)
    return taken


def extent(text: str, size: float, *, bold: bool = False) -> int:
    """The width of a line of text [pixels]."""
    return cv2.getTextSize(text, _BOLD if bold else _FONT, size / _CAPITALS, 1)[0][0]


def fill(image: np.ndarray, box: Box, colour: Colour) -> None:
    """Paint a box."""
    box.of(image)[:] = colour


def frame(image: np.ndarray, box: Box, colour: Colour = LINE) -> None:
    """Draw the edge of a box, one pixel wide, inside it."""
    cv2.rectangle(image, (box.x, box.y), (box.right - 1, box.bottom - 1), colour, 1)


def fade(image: np.ndarray, box: Box, colour: Colour, share: float) -> None:
    """Blend a box with a colour; `share` 1 paints over it."""
    part = box.of(image)
    part[:] = (part * (1.0 - share) + np.array(colour) * share).astype(np.uint8)


def cross(image: np.ndarray, box: Box, colour: Colour, thickness: int = 2) -> None:
    """Draw the diagonals of a box."""
    right, bottom = box.right - 1, box.bottom - 1
    cv2.line(image, (box.x, box.y), (right, bottom), colour, thickness, cv2.LINE_AA)
    cv2.line(image, (box.x, bottom), (right, box.y), colour, thickness, cv2.LINE_AA)
