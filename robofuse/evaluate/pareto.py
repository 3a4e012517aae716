"""The picture of a budget: success against milliseconds, with a label beside every mark. Import it late."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from robofuse.evaluate.figures import DPI, new_figure, no_mathematics, shortened, to_png

_BLUE, _TEXT = "#0072b2", 7.0
_REACHES = (7, 12, 18, 26, 36, 48, 62, 78, 96)  # of labels from their marks, in points; then directions
_ALONG = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # the line from mark to label
_AROUND = ((1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1))
Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, low, right, high


class Priced(NamedTuple):
    """A set of sensors in the picture of a budget.

    Attributes:
        label: which sensors.
        ms: milliseconds that an action takes.
        success: share of the episodes that succeed; `interval` is where it may lie.
        efficient: whether no other set is better in everything.
        chosen: whether it is the one for the budget.
    """

    label: str
    ms: float
    success: float
    interval: tuple[float, float]
    efficient: bool
    chosen: bool = False


@no_mathematics
def draw_budget(points: Sequence[Priced], title: str, subtitle: str = "", ms: float | None = None) -> bytes:
    """Success against milliseconds, a mark with its interval per set of sensors; `ms` is the budget.

    Marks of efficient sets are full. The line is the highest success that so many milliseconds give.
    """
    figure, axes = new_figure(7.6, 5.0, (0.07, 0.09, 0.91, 0.77))
    front, best = [], -1.0
    for point in sorted(points, key=lambda one: (one.ms, -one.success)):
        if point.success > best:
            front.append(point)
            best = point.success
    most = max(one.ms for one in points)
    right = 1.25 * max(most, ms if ms is not None and ms < 2 * most else 0)  # a wide budget need not be seen
    corners = [(one.ms, one.success) for one in front]
    for (_, success), (x, _) in pairwise([*corners, (right, best)]):  # steps: level, then up
        corners.append((x, success))
    corners.sort()
    axes.plot([x for x, _ in corners], [100 * y for _, y in corners], color=_BLUE, linewidth=1.2, zorder=2)
    for one in points:
        axes.plot([one.ms] * 2, [100 * end for end in one.interval], color="0.8", linewidth=0.9, zorder=1)
        look: dict[str, Any] = {"markerfacecolor": _BLUE if one.efficient else "white", "zorder": 4}
        look |= {"markeredgecolor": _BLUE if one.efficient else "0.45", "markersize": 9 if one.chosen else 5}
        axes.plot([one.ms], [100 * one.success], "o", **look)
    if ms is not None:
        axes.axvline(ms, color="#d55e00", linewidth=1, linestyle=(0, (4, 2)), zorder=1)
    axes.set(xlim=(0, right), ylim=(-4, 108))
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("milliseconds that an action takes", size=9, labelpad=2)
    axes.set_ylabel("success [%]", size=9, labelpad=2)
    figure.text(0.02, 0.955, shortened(title, 80), size=12, weight="bold", va="center")
    figure.text(0.02, 0.905, shortened(subtitle, 120), size=8.5, color="0.25", va="center")
    budget = [] if ms is None else [((ms, -1.0), (ms, 2.0))]
    _label(axes, points, [*pairwise(corners), *budget])
    return to_png(figure, title)


def _label(axes: Axes, points: Sequence[Priced], lines: Sequence[tuple[Place, Place]]) -> None:
    """Writes labels where they cover least, with a line to the mark; those of efficient sets choose first.

    `lines` are the ends of what is drawn besides, upright or level.
    """
    unit = DPI / 72  # pixels per point
    marks = {one: _place(axes, one.ms, one.success) for one in points}
    taken = [_box(place, place, 4 * unit) for place in marks.values()]
    taken += [_box(*(_place(axes, one.ms, end) for end in one.interval), margin=unit) for one in points]
    taken += [_box(_place(axes, *a), _place(axes, *b), 1.5 * unit) for a, b in lines]
    labels: list[Box] = []
    left, low, right, high = axes.bbox.extents
    for one in sorted(points, key=lambda one: (not one.chosen, not one.efficient, one.ms)):
        x, y = marks[one]
        width, height = (0.58 * _TEXT * len(one.label) + 3) * unit, 1.3 * _TEXT * unit
        tried = []
        for reach, (dx, dy) in product(_REACHES, _AROUND):
            u, v = x + reach * dx * unit, y + reach * dy * unit
            side = 0.0 if dx > 0.5 else 1.0 if dx < -0.5 else 0.5  # of the text, at which the line ends
            box = (u - side * width, v - height / 2, u + (1 - side) * width, v + height / 2)
            beyond = max(left - box[0], box[2] - right, low - box[1], box[3] - high, 0.0)
            covered = sum(_overlap(box, other) for other in taken) + beyond * height
            # the line to the mark had better cross no other mark or label
            crossed = [(x + t * (u - x), y + t * (v - y)) for t in _ALONG if reach > _REACHES[0]]
            near = (abs(x - a) + abs(y - b) for other, (a, b) in marks.items() if other is not one for x, y in crossed)
            covered += 20 * unit**2 * sum(apart < 5 * unit for apart in near)
            covered += 20 * unit**2 * sum(_overlap(_box(at, at, unit), label) > 0 for at in crossed for label in labels)
            tried.append((covered, reach, dx, dy, side, box, crossed))
        _, reach, dx, dy, side, box, crossed = min(tried, key=lambda one: one[:2])
        labels.append(box)
        taken += [box, *(_box(place, place, unit) for place in crossed)]
        axes.annotate(
            one.label,
            (one.ms, 100 * one.success),
            (reach * dx, reach * dy),
            textcoords="offset points",
            ha=("left", "center", "right")[int(2 * side)],
            va="center",
            size=_TEXT,
            color="black" if one.efficient else "0.35",
            weight="bold" if one.chosen else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            zorder=5,
        )


def _place(axes: Axes, ms: float, success: float) -> Place:
    """In pixels."""
    x, y = axes.transData.transform((ms, 100 * success))
    return float(x), float(y)


def _box(one: Place, other: Place, margin: float) -> Box:
    """Around two corners."""
    (a, b), (c, d) = one, other
    return min(a, c) - margin, min(b, d) - margin, max(a, c) + margin, max(b, d) + margin


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width, height = (min(one[side + 2], other[side + 2]) - max(one[side], other[side]) for side in (0, 1))
    return width * height if width > 0 and height > 0 else 0.0
