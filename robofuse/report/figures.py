"""Pictures that also tell in black and white, as PNG."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robofuse.report.compare import Comparison
from robofuse.report.evaluation import Condition
from robofuse.report.findings import Curve
from robofuse.stats import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 200
# dark to light, so that they differ without colour too; markers and dashes differ besides
_STYLES = (
    ("#1a1a1a", "-", "o"),
    ("#0072b2", (0, (5, 1.5)), "s"),
    ("#d55e00", (0, (1.5, 1.2)), "^"),
    ("#009e73", (0, (5, 1.5, 1, 1.5)), "D"),
    ("#cc79a7", (0, (3, 3)), "v"),
    ("#8c6d1f", (0, (1, 3)), "P"),
)
_MARKERS = {"all": "*", "dead": "o", "dying": "s", "fault": "x"}


def style(index: int) -> dict[str, Any]:
    """How the lines of policy number `index` look."""
    colour, dashes, marker = _STYLES[index % len(_STYLES)]
    return {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.4}


def draw_curve(curves: Sequence[tuple[int, Curve]]) -> bytes:
    """Success against severity, a line with Wilson intervals per policy; severity 0 is the clean success.

    Args:
        curves: (number of the policy, its curve); all of the same fault.
    """
    figure, axes = _figure(2.3, 1.75, (0.13, 0.2, 0.83, 0.73))
    for index, curve in curves:
        points = {0.0: curve.clean, **curve.points} if curve.clean else dict(curve.points)
        x = [severity + 0.012 * (index - (len(curves) - 1) / 2) for severity in points]
        y = [100 * one.success for one in points.values()]
        ends = [(100 * one.interval[0], 100 * one.interval[1]) for one in points.values()]
        below, above = ([abs(value - end[side]) for value, end in zip(y, ends, strict=True)] for side in (0, 1))
        axes.errorbar(x, y, yerr=[below, above], elinewidth=0.8, capsize=1.5, clip_on=False, zorder=3, **style(index))
    _percent(axes, "y")
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_xlabel("severity", size=8, labelpad=1)
    return _png(figure)


def draw_heat(cells: Sequence[Sequence[Condition | None]], down: Sequence[str], along: Sequence[str]) -> bytes:
    """Success and its 95 % interval by live sensors; what was not played stays white and says so.

    Args:
        cells: conditions, row by row.
        down: what the rows are.
        along: what the columns are.
    """
    from matplotlib.patches import Rectangle

    figure, axes = _figure(1.4 + 1.35 * len(along), 0.5 + 0.75 * len(down))
    for y, line in enumerate(cells):
        for x, one in enumerate(line):
            colour, ink = shade(one.success) if one else ("white", "#444")
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
            text = f"{100 * one.success:.0f}" if one else "not played" if down[y] != along[x] else ""
            axes.text(x + 0.5, y + 0.4, text, size=14 if one else 8, color=ink, ha="center", va="center")
            if one:
                span = " to ".join(f"{100 * end:.0f}" for end in one.interval)
                axes.text(x + 0.5, y + 0.78, span, size=8, color=ink, ha="center", va="center")
    axes.set(xlim=(0, len(along)), ylim=(len(down), 0))
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(along))], [_plain(name) for name in along])
    axes.set_yticks([y + 0.5 for y in range(len(down))], [_plain(name) for name in down])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _png(figure)


def draw_legend(labels: Sequence[str]) -> bytes:
    """Which line is which policy."""
    from matplotlib.lines import Line2D

    figure, axes = _figure(0.6 + 0.085 * min(max(map(len, labels)), 40), 0.12 + 0.2 * len(labels))
    axes.set_axis_off()
    lines = [Line2D([], [], **style(index)) for index in range(len(labels))]
    texts = [_plain(label) for label in labels]
    axes.legend(lines, texts, loc="center", frameon=False, fontsize=9, handlelength=3, borderpad=0)
    return _png(figure)


def draw_scatter(comparison: Comparison) -> bytes:
    """Success of the second policy over that of the first, a mark per condition, the diagonal for what is equal."""
    figure, axes = _figure(3.9, 3.6)
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
    for label, name in ((axes.set_xlabel, comparison.first), (axes.set_ylabel, comparison.second)):
        label(f"{_plain(name)}: success [%]", size=8)
    return _png(figure)


def draw_detection(names: Sequence[str], counts: Sequence[tuple[int, int]]) -> bytes:
    """Share of the faults at full severity that the monitor found, a mark with its Wilson interval per line.

    Args:
        names: of the lines.
        counts: (found, struck) of each; struck is above 0.
    """
    figure, axes = _figure(4.2, 0.7 + 0.17 * len(names))
    for line, (found, affected) in enumerate(counts):
        low, high = wilson(found, affected)
        axes.plot([100 * low, 100 * high], [line, line], color="0.55", linewidth=1.2, zorder=2)
        axes.plot([100 * found / affected], [line], "o", color="#1a1a1a", markersize=4, clip_on=False, zorder=3)
    axes.set_yticks(range(len(names)), [_plain(name) for name in names], size=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _percent(axes, "x")
    axes.set_xlabel("found [%]", size=8)
    axes.grid(axis="both", color="0.9", linewidth=0.6)
    return _png(figure)


def shade(success: float) -> tuple[str, str]:
    """Background and ink of a cell: the darker, the better, at any contrast readable."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colour = colormaps["YlGnBu"](0.9 * success)
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return to_hex(colour), "#000" if luminance > 0.18 else "#fff"


def _figure(width: float, height: float, box: tuple[float, float, float, float] | None = None) -> "tuple[Figure, Axes]":
    """Of inches, with one pair of axes: in this box of shares, or as large as its labels leave room for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=_DPI, facecolor="white", layout=None if box else "constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(box) if box else figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=2, pad=2)
    return figure, axes


def _plain(name: str) -> str:
    """So that matplotlib reads no mathematics into it, and it leaves room for the rest."""
    short = name if len(name) <= 40 else f"{name[:39]}…"
    return short.replace("$", r"\$")


def _percent(axes: "Axes", which: str) -> None:
    axes.set(**{f"{which}lim": (0, 100)})
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks([0, 25, 50, 75, 100], ["0", "", "50", "", "100"])
    axes.grid(axis="y" if which == "y" else "x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
