"""Pictures of a study as PNG. Import it late: matplotlib takes its time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robofuse.evaluate.figures import line_style, new_figure, no_mathematics, shortened, to_png
from robofuse.study.results import Cells
from robofuse.study.words import is_share

MOST_LINES = 6  # that differ in marker and dashes
_ACROSS = 4  # panels beside each other
_INK, _DOTS, _BASELINE = "#1a1a1a", "#5a86ad", "#d55e00"


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
        scale = 100.0 if is_share(metric) else 1.0
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
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_yticks(range(len(methods)), names if index % across == 0 else [""] * len(methods), size=7.5)
        if is_share(metric) and all(cells[one, metric].scores.min() >= 0 for one in methods if (one, metric) in cells):
            axes.set_xlim(0, 100)
        axes.set_title(f"{metric} [%]" if is_share(metric) else metric, size=8.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7.5, length=2, pad=2)
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
    return to_png(figure)


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
    axes.set_ylabel(f"{metric} [%]" if is_share(metric) else metric, size=8)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=3)
    return to_png(figure)
