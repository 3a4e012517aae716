"""The learning curve as a picture, from the tables of a run."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robofuse.evaluate.conditions import Condition
from robofuse.files import write_atomic
from robofuse.train.tables import PROGRESS, VALIDATION, Row, read_rows
from robofuse.train.validation import alone, removed

CURVE = "curve.png"
# Told apart without colour: by marker, by dashes, and by the name at the end of the line.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7f6000", "#56b4e9")
_MARKERS, _DASHES = ("s", "^", "D", "v", "P", "X"), ((4, 1), (1, 1), (5, 1, 1, 1), (3, 2), (6, 2), (2, 1))
_GAP = 0.05  # between names, in units of success


def draw_curve(folder: Path, conditions: Sequence[Condition]) -> Path:
    """Write `curve.png`: success while training, and in validation.

    Args:
        folder: of the run.
        conditions: those of the validation.
    """
    training, validation = read_rows(folder / PROGRESS), read_rows(folder / VALIDATION)
    lost, single = removed(conditions), [name for name in alone(conditions) if name not in removed(conditions)]
    panels = [("each sensor removed", lost)] + ([("each sensor alone", single)] if single else [])
    figure = Figure((1.2 + 5.4 * len(panels), 4.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    last = int(training[-1]["step"]) if training else 1
    unit, word = (1e6, "million ") if last >= 1_000_000 else (1e3, "thousand ") if last >= 10_000 else (1.0, "")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, names) in zip(grid, panels, strict=True):
        ends = []
        if axes is grid[0]:
            points = [(int(row["step"]) / unit, float(row["rollout/success"])) for row in training if _has(row)]
            if points:
                axes.plot(*zip(*points, strict=True), color="0.65", lw=1.2, zorder=1, label="_")
                ends.append((points[-1][1], "training, recent episodes", "0.45"))
        ends += _line(axes, validation, "all", "black", "o", None, unit)
        for index, name in enumerate(names):
            k = index % len(_COLOURS)
            ends += _line(axes, validation, name, _COLOURS[k], _MARKERS[k], _DASHES[k], unit)
        _label(axes, ends, last / unit)
        axes.set_title(f"all sensors and {title}" if names else "all sensors", size=10.5, loc="left")
        axes.set_xlabel(f"{word}control steps, all worlds together", size=9)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(0, last / unit)
        axes.grid(color="0.9", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    grid[0].set_ylabel("success", size=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Title": f"learning curve of {folder.name}"})
    write_atomic(folder / CURVE, buffer.getvalue())
    return folder / CURVE


def _line(
    axes: Axes, rows: Sequence[Row], name: str, colour: str, marker: str, dashes: tuple[int, ...] | None, unit: float
) -> list[tuple[float, str, str]]:
    """Draws a condition; where it ends, its name and colour."""
    points = [(int(row["step"]) / unit, float(row[name])) for row in rows if row.get(name)]
    if not points:
        return []
    style = {"color": colour, "marker": marker, "ms": 4.5, "mfc": colour if name == "all" else "white"}
    (line,) = axes.plot(*zip(*points, strict=True), lw=2.0 if name == "all" else 1.3, clip_on=False, **style)
    if dashes:
        line.set_dashes(dashes)
    return [(points[-1][1], f"{'●■▲◆▼✚✖'['os^DvPX'.index(marker)]} {name}", colour)]


def _label(axes: Axes, ends: list[tuple[float, str, str]], x: float) -> None:
    """Names beside the ends of the lines, pushed apart where they would overlap."""
    ends = sorted(ends, reverse=True)
    places: list[float] = []
    for value, _, _ in ends:
        places.append(min(value, places[-1] - _GAP) if places else value)
    if places and places[-1] < 0.0:  # too many at the bottom: push up from there
        places[-1] = 0.0
        for k in range(len(places) - 2, -1, -1):
            places[k] = max(places[k], places[k + 1] + _GAP)
    for place, (_, name, colour) in zip(places, ends, strict=True):
        axes.annotate(
            name, (x, place), xytext=(9, 0), textcoords="offset points", color=colour, size=8.5, va="center",
            annotation_clip=False,
        )  # fmt: skip


def _has(row: Row) -> bool:
    return bool(row.get("rollout/success"))
