"""Pictures of a study as PNG. Import it late: matplotlib takes its time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from robofuse.evaluate.figures import line_style, new_figure, no_mathematics, shortened, to_png
from robofuse.study.declare import Study
from robofuse.study.results import Cells
from robofuse.study.words import headed, is_share, written

MOST_LINES = 6  # that differ in marker and dashes
_ACROSS = 4  # panels beside each other
_INK, _UNSURE, _DOTS, _BASELINE = "#1a1a1a", "#8a8a8a", "#5a86ad", "#d55e00"
_RATIO = 8.0  # a ratio of scores from which an axis is logarithmic
_FAR = 4.0  # multiples of the median difference beyond which one is off the axis


@no_mathematics
def draw_score(cells: Cells, methods: Sequence[str], study: Study) -> bytes:
    """The score of every method, and beside it how it differs from the baseline: grey if the interval holds 0.

    Differences that would squeeze all others are written at the edge.
    """
    names = [shortened(method, 36) for method in methods]
    apart = {line: cells[method, study.score].difference for line, method in enumerate(methods)}
    paired = any(apart.values())
    left = 0.25 + 0.072 * max(map(len, names))
    figure, axes = new_figure(left + (5.6 if paired else 4.2), 0.75 + 0.22 * len(methods))
    if paired:
        figure.delaxes(axes)
        axes = figure.add_subplot(1, 2, 1)
    _draw_panel(axes, cells, methods, study.score, study.baseline)
    axes.set_yticks(range(len(methods)), names, size=8)
    if not paired:
        return to_png(figure)
    scale = 100.0 if is_share(study.score) else 1.0
    axes = figure.add_subplot(1, 2, 2)
    axes.axvline(0.0, color=_BASELINE, lw=0.8, ls=(0, (4, 3)), zorder=1)
    ends = {line: max(abs(found.low), abs(found.high)) for line, found in apart.items() if found}
    most = _FAR * float(np.median([*ends.values()]))
    for line, found in apart.items():
        if found is None:
            continue
        value, low, high = (scale * number for number in found)
        ink = _INK if low > 0.0 or high < 0.0 else _UNSURE
        if ends[line] > most > 0.0:
            side = int(value > 0.0)
            text = written(study.score, found.value, sign=True)
            text, where = (f"{text} →", "right") if side else (f"← {text}", "left")
            axes.text(side, line, text, transform=axes.get_yaxis_transform(), size=8, ha=where, va="center", color=ink)
            continue
        axes.plot([low, high], [line, line], color=ink, lw=1.6, zorder=3)
        axes.plot([value], [line], "D", color=ink, markersize=4, zorder=4, clip_on=False)
    unit = "points" if is_share(study.score) else study.score
    better = "less" if study.is_lower_better(study.score) else "more"
    axes.set_title(f"difference, {better} is better [{unit}]", size=8.5, loc="left")
    _finish_panel(axes, len(methods))
    return to_png(figure)


@no_mathematics
def draw_methods(cells: Cells, methods: Sequence[str], metrics: Sequence[str], baseline: str) -> bytes:
    """A panel per metric, a line per method: interquartile mean, its interval, and a dot for every seed and task.

    A dashed line goes through the baseline.
    """
    across = min(len(metrics), _ACROSS)
    down = math.ceil(len(metrics) / across)
    names = [shortened(method, 36) for method in methods]
    left = 0.25 + 0.072 * max(map(len, names))
    wide, high = (2.1 if across > 1 else 4.2), 0.55 + 0.21 * len(methods)
    figure, first = new_figure(left + wide * across, high * down + 0.1)
    figure.delaxes(first)
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(down, across, index + 1)
        _draw_panel(axes, cells, methods, metric, baseline)
        if index % across == 0:
            axes.set_yticks(range(len(methods)), names, size=7.5)
    return to_png(figure)


def _draw_panel(axes: Axes, cells: Cells, methods: Sequence[str], metric: str, baseline: str) -> None:
    """A metric of all methods, without their names."""
    scale = 100.0 if is_share(metric) else 1.0
    scores = np.concatenate([cells[one, metric].scores.ravel() for one in methods if (one, metric) in cells])
    for line, method in enumerate(methods):
        cell = cells.get((method, metric))
        if cell is None:
            continue
        dots = scale * cell.scores.ravel()
        spread = np.linspace(-0.24, 0.24, len(dots)) if len(dots) > 1 else np.zeros(1)
        axes.plot(dots, line + spread, "o", color=_DOTS, markersize=2.6, alpha=0.75, mew=0, zorder=2, clip_on=False)
        ink = _BASELINE if method == baseline else _INK
        if cell.low is not None and cell.high is not None:
            axes.plot([scale * cell.low, scale * cell.high], [line, line], color=ink, lw=1.6, zorder=3)
        axes.plot([scale * cell.middle], [line], "D", color=ink, markersize=4, zorder=4, clip_on=False)
        if method == baseline:
            axes.axvline(scale * cell.middle, color=_BASELINE, lw=0.8, ls=(0, (4, 3)), zorder=1)
    if is_share(metric):
        if scores.min() >= 0.0:
            axes.set_xlim(0, 100)
    elif scores.min() > 0.0 and scores.max() > _RATIO * scores.min():  # one method far off would hide the others
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    if not is_share(metric):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1000.0 else f"{x:g}"))
    axes.set_title(headed(metric), size=8.5, loc="left")
    _finish_panel(axes, len(methods))


def _finish_panel(axes: Axes, methods: int) -> None:
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylim(methods - 0.4, -0.6)
    axes.set_yticks(range(methods), [""] * methods)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5, length=2, pad=2)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


@no_mathematics
def draw_budgets(by_budget: Mapping[str, Cells], methods: Sequence[str], metric: str) -> bytes:
    """A metric over the budgets, a line with intervals per method, at most `MOST_LINES`."""
    figure, axes = new_figure(5.6, 3.0)
    scale = 100.0 if is_share(metric) else 1.0
    for index, method in enumerate(methods[:MOST_LINES]):
        shift = 0.05 * (index - (min(len(methods), MOST_LINES) - 1) / 2)
        found = [
            (x + shift, cells[method, metric])
            for x, cells in enumerate(by_budget.values())
            if (method, metric) in cells
        ]
        middles = [scale * cell.middle for _, cell in found]
        ends = [
            (cell.middle, cell.middle) if cell.low is None or cell.high is None else (cell.low, cell.high)
            for _, cell in found
        ]
        errors = [[abs(y - scale * end[side]) for y, end in zip(middles, ends, strict=True)] for side in (0, 1)]
        style: dict[str, Any] = line_style(index) | {"label": shortened(method)}
        axes.errorbar([x for x, _ in found], middles, yerr=errors, elinewidth=0.9, capsize=2, **style)
    axes.set_xticks(range(len(by_budget)), [shortened(name, 16) for name in by_budget])
    axes.set_ylabel(headed(metric), size=8)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=3)
    return to_png(figure)
