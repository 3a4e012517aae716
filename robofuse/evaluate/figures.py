"""Pictures of results as PNG, which also tell in black and white. Import it late: matplotlib takes its time."""

import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from robofuse.evaluate.findings import Comparison
from robofuse.evaluate.results import ConditionResult
from robofuse.stats import wilson

DPI = 200
_COLOURS = colormaps["YlGnBu"]  # from light to dark all along, so that it prints
_CELL, _TOP, _BOTTOM, _RIGHT = 0.85, 1.15, 0.45, 0.85  # of heat maps, in inches
_LEGEND = "success [%] and its 95 % interval; hatched: not evaluated"
# dark to light, so that they differ without colour too; markers and dashes differ besides
_STYLES = (
    ("#1a1a1a", "-", "o"),
    ("#0072b2", (0, (5, 1.5)), "s"),
    ("#d55e00", (0, (1.5, 1.2)), "^"),
    ("#009e73", (0, (5, 1.5, 1, 1.5)), "D"),
    ("#cc79a7", (0, (3, 3)), "v"),
    ("#8c6d1f", (0, (1, 3)), "P"),
)
_MARKERS = {"all": "*", "missing": "o", "midway": "s", "fault": "x"}
no_mathematics = rc_context({"text.parse_math": False})
"""Decorates what draws names, which may have a $."""


class Grid(NamedTuple):
    """Conditions in which sensors are missing from the start, by the sensors that are live.

    Attributes:
        down: sets of live cameras that were played; `sides` are their names.
        along: sets of the other live sensors; `heads` are their names.
        cells: live sensors → condition.
    """

    down: list[frozenset[str]]
    along: list[frozenset[str]]
    cells: Mapping[frozenset[str], ConditionResult]
    sides: list[str]
    heads: list[str]


def split_keys(keys: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sensors down the side and those along the top: cameras and the rest, or two halves if it is all one kind."""
    cameras = tuple(key for key in keys if key.split("_")[0] in ("rgb", "depth"))
    others = tuple(key for key in keys if key not in cameras)
    if cameras and others:
        return cameras, others
    return tuple(keys[: len(keys) // 2]), tuple(keys[len(keys) // 2 :])


def heat_grid(conditions: Sequence[ConditionResult], keys: Sequence[str]) -> Grid:
    """The heat map's layout: conditions of the groups all and missing that were played, with these sensors."""
    cells = {frozenset(one.live): one for one in conditions if one.group in ("all", "missing") and one.n}
    side, head = split_keys(keys)
    down = [some for some in _sets(side) if any(some == live & {*side} for live in cells)]
    along = [some for some in _sets(head) if any(some == live & {*head} for live in cells)]
    return Grid(down, along, cells, [_label(some, side) for some in down], [_label(some, head) for some in along])


@no_mathematics
def draw_heatmap(
    conditions: Sequence[ConditionResult], keys: Sequence[str], title: str, subtitle: str = ""
) -> bytes | None:
    """Draws success and its 95 % interval in cells: rows are the live cameras, columns the other live sensors.

    Conditions in which more happens than sensors missing from the start are left out. Returns a PNG file, or None where
    there is nothing to draw.
    """
    grid = heat_grid(conditions, keys)
    if not grid.cells:
        return None
    # everything in inches
    left = 0.35 + 0.083 * max(map(len, grid.sides))
    cell = max(1.2, 0.15 + 0.083 * max(map(len, grid.heads)))
    grid_w, grid_h = cell * len(grid.along), _CELL * len(grid.down)
    title, subtitle = shortened(title, 80), shortened(subtitle, 160)
    width = left + max(grid_w, 4.5 - left, 0.085 * len(title) + 1.2 - left, 0.066 * len(subtitle) - left) + _RIGHT
    height = _TOP + grid_h + _BOTTOM
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (left / width, _BOTTOM / height, grid_w / width, grid_h / height)
    axes = figure.add_axes(box, xlim=(0, len(grid.along)), ylim=(len(grid.down), 0))
    for y, cameras in enumerate(grid.down):
        for x, others in enumerate(grid.along):
            one = grid.cells.get(cameras | others)
            if one is None:
                axes.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="0.8", hatch="///", lw=0))
                continue
            colour, ink = shade(one.rate)
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour))
            low, high = (round(100 * end) for end in one.interval)
            style: dict[str, Any] = {"color": ink, "ha": "center", "va": "center"}
            axes.text(x + 0.5, y + 0.42, f"{100 * one.rate:.0f}", size=17, weight="bold", **style)
            axes.text(x + 0.5, y + 0.78, f"{low} – {high}", size=8.5, **style)
    for x in range(1, len(grid.along)):
        axes.axvline(x, color="white", lw=2)
    for y in range(1, len(grid.down)):
        axes.axhline(y, color="white", lw=2)
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(grid.along))], grid.heads, size=10)
    axes.set_yticks([y + 0.5 for y in range(len(grid.down))], grid.sides, size=10)
    axes.tick_params(length=0, pad=5)
    axes.spines[:].set_color("0.6")
    bar = figure.add_axes(((left + grid_w + 0.2) / width, box[1], 0.14 / width, box[3]))
    ramp = [[k / 255] for k in range(255, -1, -1)]
    bar.imshow(ramp, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, 1))
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"], size=8)
    bar.tick_params(length=2)
    bar.spines[:].set_color("0.6")
    figure.text(0.15 / width, 1 - 0.3 / height, title, size=13, weight="bold", va="center")
    figure.text(0.15 / width, 1 - 0.6 / height, subtitle, size=9, color="0.25", va="center")
    figure.text(0.15 / width, 0.22 / height, _LEGEND, size=8, color="0.25", va="center")
    return to_png(figure, title)


@no_mathematics
def draw_curve(curves: Sequence[tuple[int, Mapping[float, ConditionResult]]]) -> bytes:
    """Success against severity, a line with Wilson intervals per policy.

    `curves` are (number of the policy, severity → condition); all of the same fault.
    """
    figure, axes = new_figure(2.3, 1.75, (0.13, 0.2, 0.83, 0.73))
    for index, points in curves:
        x = [severity + 0.012 * (index - (len(curves) - 1) / 2) for severity in points]
        y = [100 * one.rate for one in points.values()]
        ends = [(100 * one.interval[0], 100 * one.interval[1]) for one in points.values()]
        below, above = ([abs(value - end[side]) for value, end in zip(y, ends, strict=True)] for side in (0, 1))
        axes.errorbar(
            x, y, yerr=[below, above], elinewidth=0.8, capsize=1.5, clip_on=False, zorder=3, **line_style(index)
        )
    _percent(axes, "y")
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_xlabel("severity", size=8, labelpad=1)
    return to_png(figure)


@no_mathematics
def draw_legend(labels: Sequence[str]) -> bytes:
    """Which line is which policy."""
    figure, axes = new_figure(0.6 + 0.085 * min(max(map(len, labels)), 40), 0.12 + 0.2 * len(labels))
    axes.set_axis_off()
    lines = [Line2D([], [], **line_style(index)) for index in range(len(labels))]
    axes.legend(
        lines, list(map(shortened, labels)), loc="center", frameon=False, fontsize=9, handlelength=3, borderpad=0
    )
    return to_png(figure)


@no_mathematics
def draw_scatter(comparison: Comparison) -> bytes:
    """Success of the second policy over that of the first, a mark per condition, the diagonal for what is equal."""
    figure, axes = new_figure(3.9, 3.6)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, zorder=1)
    for group, marker in _MARKERS.items():
        for sure in (False, True):
            some = [change for change in comparison.changes if change.group == group and change.sure == sure]
            x, y = [100 * change.first for change in some], [100 * change.second for change in some]
            ink = "#1a1a1a" if sure else "#8a8a8a"
            size = 70 if marker == "*" else 22
            face: dict[str, Any] = {} if marker == "x" else {"facecolors": "none"}
            axes.scatter(x, y, marker=marker, s=size, color=ink, clip_on=False, zorder=3 if sure else 2, **face)
    _percent(axes, "x")
    _percent(axes, "y")
    axes.set_aspect("equal")
    axes.set_xlabel(f"{shortened(comparison.first)}: success [%]", size=8)
    axes.set_ylabel(f"{shortened(comparison.second)}: success [%]", size=8)
    return to_png(figure)


@no_mathematics
def draw_detection(names: Sequence[str], counts: Sequence[tuple[int, int]]) -> bytes:
    """Share of the faults at full severity that the monitor found, a mark with its Wilson interval per line.

    `counts` are (found, affected) of each line; affected is above 0.
    """
    figure, axes = new_figure(4.2, 0.7 + 0.17 * len(names))
    for line, (found, affected) in enumerate(counts):
        low, high = wilson(found, affected)
        axes.plot([100 * low, 100 * high], [line, line], color="0.55", linewidth=1.2, zorder=2)
        axes.plot([100 * found / affected], [line], "o", color="#1a1a1a", markersize=4, clip_on=False, zorder=3)
    axes.set_yticks(range(len(names)), list(map(shortened, names)), size=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _percent(axes, "x")
    axes.set_xlabel("found [%]", size=8)
    axes.grid(axis="both", color="0.9", linewidth=0.6)
    return to_png(figure)


def shade(success: float) -> tuple[str, str]:
    """Background and ink of a cell: the darker, the better, and the ink always readable."""
    colour = _COLOURS(success)
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # of an sRGB colour (WCAG 2)
    return to_hex(colour), "#000" if luminance > 0.18 else "#fff"


def _sets(keys: Sequence[str]) -> list[frozenset[str]]:
    """Every set of the keys, the largest first."""
    return [frozenset(some) for count in range(len(keys), -1, -1) for some in combinations(keys, count)]


def _label(names: frozenset[str], among: Sequence[str]) -> str:
    return " + ".join(sorted(names)) or (f"no {among[0]}" if len(among) == 1 else "none of them")


def line_style(index: int) -> dict[str, Any]:
    """How the lines of policy number `index` look."""
    colour, dashes, marker = _STYLES[index % len(_STYLES)]
    return {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.4}


def new_figure(
    width: float, height: float, box: tuple[float, float, float, float] | None = None
) -> tuple[Figure, Axes]:
    """Of inches, with one pair of axes: in this box of shares, or as large as its labels leave room for."""
    figure = Figure((width, height), dpi=DPI, facecolor="white", layout=None if box else "constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(box) if box else figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=2, pad=2)
    return figure, axes


def shortened(name: str, most: int = 40) -> str:
    """So that it leaves room for the rest."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _percent(axes: Axes, which: str) -> None:
    axes.set(**{f"{which}lim": (0, 100)})
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks([0, 25, 50, 75, 100], ["0", "", "50", "", "100"])
    axes.grid(axis="y" if which == "y" else "x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def to_png(figure: Figure, title: str | None = None) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None, "Title": title})
    return buffer.getvalue()
