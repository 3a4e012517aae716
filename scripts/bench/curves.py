"""What learning curves say: the time until a success rate is reached, medians over seeds, and a picture."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robofuse.files import write_atomic
from robofuse.stats import wilson

WORST = "worst"  # the lowest success with one sensor missing
THRESHOLDS = (("all", 0.8), ("all", 0.9), (WORST, 0.7), (WORST, 0.8))
NEVER = math.inf
_LOOKS = {
    "ours": ("#0072b2", "-"),
    "no-remask": ("#d55e00", (0, (4, 1))),
    "no-dropout": ("#009e73", (0, (1, 1))),
    "zeros": ("#cc79a7", (0, (5, 1, 1, 1))),
    "sb3": ("0.35", (0, (6, 2))),
}


class Point(NamedTuple):
    """A validation.

    Attributes:
        step: control steps of training until then.
        teacher: seconds that the teacher's training took, its validations too; 0 without.
        training: seconds of training until then.
        validation: seconds of validation until then, this one too.
        success: by condition: `all`, and `no-SENSOR` for each sensor.
    """

    step: int
    teacher: float
    training: float
    validation: float
    success: dict[str, float]

    @property
    def seconds(self) -> float:
        """All seconds until the result was there."""
        return self.teacher + self.training + self.validation

    def rate(self, which: str) -> float:
        """Success in one condition, or in the worst one of those that lack a sensor."""
        if which != WORST:
            return self.success[which]
        return min(rate for name, rate in self.success.items() if name.startswith("no-"))


def time_to(curve: Sequence[Point], which: str, threshold: float, episodes: int) -> float:
    """Seconds until the lower end of the 95 % Wilson interval is at least the threshold for the first time.

    Args:
        curve: in order of time.
        which: condition, or `WORST`, whose interval is that of the worst condition at each point.
        threshold: a success rate.
        episodes: of each condition in each validation.

    Returns:
        Seconds, or `NEVER`.
    """
    for point in curve:
        if wilson(round(point.rate(which) * episodes), episodes)[0] >= threshold:
            return point.seconds
    return NEVER


def times(curves: Mapping[str, Mapping[int, Sequence[Point]]], episodes: int) -> list[dict[str, Any]]:
    """A row for each contender and threshold, as JSON can hold it; None stands for never.

    Args:
        curves: contender → seed → its curve.
        episodes: of each condition in each validation.

    Returns:
        Rows of `contender`, `which`, `threshold`, `seconds` (seed → seconds or None), `reached` (number of seeds),
        and `median` over all seeds, never counting as later than any time.
    """
    rows: list[dict[str, Any]] = []
    for name, by_seed in curves.items():
        for which, threshold in THRESHOLDS:
            found = {seed: time_to(curve, which, threshold, episodes) for seed, curve in by_seed.items()}
            rows.append(
                {
                    "contender": name,
                    "which": which,
                    "threshold": threshold,
                    "seconds": {str(seed): _plain(seconds) for seed, seconds in found.items()},
                    "reached": sum(seconds < NEVER for seconds in found.values()),
                    "median": _plain(median(found.values())),
                }
            )
    return rows


def band(curves: Sequence[Sequence[Point]], which: str, points: int = 200) -> NDArray[np.float64]:
    """Seconds, median, least and most success over seeds: (4, points), up to the end of the shortest curve."""
    end = min(curve[-1].seconds for curve in curves)
    grid = np.linspace(0.0, end, points)
    lines = [line(curve, which, grid) for curve in curves]
    return np.stack([grid, np.median(lines, axis=0), np.min(lines, axis=0), np.max(lines, axis=0)])


def line(curve: Sequence[Point], which: str, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Success of one seed at these times: 0 until the teacher is there, and linear between validations."""
    known = [0.0, curve[0].teacher, *(point.seconds for point in curve)]
    return np.interp(seconds, known, [0.0, 0.0, *(point.rate(which) for point in curve)])


def draw(curves: Mapping[str, Mapping[int, Sequence[Point]]], title: str, path: Path) -> Path:
    """Writes a picture: success against seconds, with all sensors and with the worst one missing.

    A line per contender is the median over its seeds, a band their range, and a thin line each seed.
    """
    figure = Figure((11.0, 4.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, which, name in zip(grid, ("all", WORST), ("all sensors", "the worst single sensor missing"), strict=True):
        for contender, by_seed in curves.items():
            colour, dashes = _LOOKS[contender]
            x, middle, low, high = band(list(by_seed.values()), which)
            label = f"{contender} ({len(by_seed)} seed{'s' if len(by_seed) > 1 else ''})"
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            for curve in by_seed.values():
                own = np.linspace(0.0, curve[-1].seconds, 200)
                axes.plot(own, line(curve, which, own), color=colour, lw=0.6, alpha=0.45)
            axes.plot(x, middle, color=colour, ls=dashes, lw=2.0 if contender == "ours" else 1.4, label=label)
        for one, threshold in THRESHOLDS:
            if one == which:
                axes.axhline(threshold, color="0.75", lw=0.8, zorder=0)
        axes.set_title(name, size=10.5, loc="left")
        axes.set_xlabel("seconds, with teacher and validation", size=9)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(left=0.0)
        axes.grid(color="0.92", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    grid[0].set_ylabel("success; each seed, median and range", size=9)
    grid[0].legend(fontsize=8.5, frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Title": title})
    return write_atomic(path, buffer.getvalue())


def _plain(seconds: float) -> float | None:
    return round(seconds, 1) if seconds < NEVER else None
