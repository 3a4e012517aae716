"""What a training shows and writes for people: a bar, tables in CSV files and TensorBoard, and the learning curve."""

import csv
import io
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import progress
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.logger import KVWriter
from torch.utils.tensorboard.writer import SummaryWriter

from robofuse.evaluate.conditions import Condition
from robofuse.files import append, write_atomic
from robofuse.policies import FusionPPO
from robofuse.sensors import AVAILABLE
from robofuse.train.checkpoint import TrainState
from robofuse.train.trackers import Tracker
from robofuse.train.validate import alone, removed

PROGRESS, VALIDATION, CURVE = "progress.csv", "validation.csv", "curve.png"
SPENT = ("seconds", "validation_seconds")  # columns of validation.csv: spent on training and on validation until then
Row = dict[str, Any]
_PREFIX = {"one removed": "no-", "one alone": "only-"}
_PAUSE = 10.0  # seconds between lines where there is no terminal
# Lines can be told apart without colour: by marker, by dashes, and by the name at the end of the line.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7f6000", "#56b4e9")
_MARKERS, _DASHES = ("s", "^", "D", "v", "P", "X"), ((4, 1), (1, 1), (5, 1, 1, 1), (3, 2), (6, 2), (2, 1))
_GAP = 0.05  # between names, in units of success


class Status(NamedTuple):
    """What a training tells its display.

    Attributes:
        step: control steps done.
        success: of the last episodes, NaN before any has ended.
        speed: control steps per second of training since this process began, without validation.
        validation: success by condition, if there was a validation just now.
        best: whether it is the best now: no earlier one was better beyond chance.
        note: what goes on before the first step, else empty.
    """

    step: int
    success: float
    speed: float
    validation: dict[str, float] | None = None
    best: bool = False
    note: str = ""


class Display:
    """A bar on a terminal, and a line now and then elsewhere; a context manager."""

    def __init__(self, console: Console, steps: int, done: int, conditions: Sequence[Condition]) -> None:
        """Nothing is shown yet.

        Args:
            console: where to.
            steps: all of them.
            done: of them at the start.
            conditions: of the validations.
        """
        self._console, self._steps, self._conditions = console, steps, conditions
        self._start, self._said, self._from = time.monotonic(), -math.inf, done
        columns = (
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.TextColumn("{task.percentage:>3.0f} %"),
            progress.TextColumn("{task.description}"),
        )
        self._bar = progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, status: Status) -> None:
        """Shows the state after an update or a validation."""
        if status.validation is not None:
            self._console.print(self._validation(status), highlight=False, soft_wrap=True)
            return
        if status.note:
            self._bar.update(self._task, description=status.note)
            self._print_seldom(status.note)
            return
        success = "–" if math.isnan(status.success) else f"{status.success:.0%}"
        spent = time.monotonic() - self._start
        left = spent * max(self._steps - status.step, 0) / max(status.step - self._from, 1)
        text = f"success {success}, {status.speed:,.0f} steps/s, {_duration(left)} left"
        self._bar.update(self._task, completed=status.step, description=text)
        self._print_seldom(f"{status.step:,} of {self._steps:,} steps: {text}")

    def _print_seldom(self, text: str) -> None:
        """Prints a line now and then where there is no terminal."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said > _PAUSE:
            self._said = now
            self._console.print(text, highlight=False, soft_wrap=True)

    def _validation(self, status: Status) -> str:
        success = status.validation or {}
        parts = [f"all {success['all']:.0%}"]
        for title, names in (("one removed", removed(self._conditions)), ("one alone", alone(self._conditions))):
            shown = [
                f"{name.partition('-')[2]} {success[name]:.0%}" for name in names if name.startswith(_PREFIX[title])
            ]
            if shown:
                parts.append(f"{title}: {', '.join(shown)}")
        return f"validation at {status.step:,}: {'; '.join(parts)}{'; kept as the best' if status.best else ''}"


def validation_table(
    conditions: Sequence[Condition], best: tuple[int, dict[str, float]], last: tuple[int, dict[str, float]]
) -> Table:
    """Success by condition, of the best and the last policy."""
    table = Table("sensors", f"best (step {best[0]:,})", f"last (step {last[0]:,})", title="validation")
    for condition in conditions:
        name = condition.name
        table.add_row(name, f"{best[1][name]:.0%}", f"{last[1][name]:.0%}")
    return table


class CsvTable:
    """A CSV file with a column `step` that grows by rows, and can be cut back to a step.

    Attributes:
        rows: all of them, values as text.
    """

    def __init__(self, path: Path, until: int) -> None:
        """Opens a table, or begins one.

        Args:
            path: the file.
            until: rows of later steps are dropped, as are lines that were cut off.
        """
        self._path, self.rows = path, [row for row in read_rows(path) if int(row["step"]) <= until]
        self._names = list(dict.fromkeys(name for row in self.rows for name in row))
        if path.exists():
            self._write_all()

    def add(self, row: Mapping[str, object]) -> None:
        """Append a row; new columns are fine."""
        plain = {name: "" if value is None else str(value) for name, value in row.items()}
        self.rows.append(plain)
        new = [name for name in plain if name not in self._names]
        self._names += new
        if new or not self._path.exists():
            self._write_all()
        else:
            append(self._path, self._text([plain]))

    def _write_all(self) -> None:
        head = ",".join(self._names) + "\n" if self._names else ""
        write_atomic(self._path, head + self._text(self.rows))

    def _text(self, rows: Iterable[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n", restval="").writerows(rows)
        return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Rows of a table, without a last one that was cut off."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if (row.get("step") or "").isdigit()]


class ProgressLog(KVWriter):
    """SB3's logger into `progress.csv`, TensorBoard, and a tracker if there is one."""

    def __init__(self, folder: Path, until: int, tracker: Tracker | None = None) -> None:
        """Opens them; what an interrupted run recorded after step `until` is dropped, but for what a tracker has."""
        self._tracker = tracker
        self.table = CsvTable(folder / PROGRESS, until)
        self._events = SummaryWriter(str(folder), purge_step=until + 1)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """See SB3."""
        self.table.add({"step": step, **key_values})
        for name, value in key_values.items():
            if value is not None and "tensorboard" not in (key_excluded.get(name) or ()):
                self._events.add_scalar(name, value, step)
        self._events.flush()
        if self._tracker is not None:
            self._tracker.write(key_values, step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Further values for TensorBoard and the tracker."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.write(values, step)

    def close(self) -> None:
        """See SB3."""
        self._events.close()
        if self._tracker is not None:
            self._tracker.close()


def log_update(model: FusionPPO, state: TrainState, speed: float, before: Mapping[str, float]) -> None:
    """Logs what an update does not log itself, and writes the row.

    Args:
        model: after the update.
        state: after it.
        speed: control steps per second of this update.
        before: `model.seconds` as it was before it.
    """
    log, recent = model.logger, list(model.ep_info_buffer or ())
    log.record("rollout/success", recent_success(model))
    log.record("rollout/return", float(np.mean([one["r"] for one in recent])) if recent else None)
    log.record("rollout/length", float(np.mean([one["l"] for one in recent])) if recent else None)
    log.record("rollout/available", float(model.rollout_buffer.stored[AVAILABLE].float().mean()))
    log.record("time/seconds", round(state.seconds, 3))
    log.record("time/validation_seconds", round(state.validation_seconds, 3))
    log.record("time/steps_per_second", round(speed, 1))
    everything = state.seconds + state.validation_seconds
    log.record("time/steps_per_second_with_validation", round(state.step / everything, 1))
    for part, total in model.seconds.items():
        log.record(f"time/{part}_seconds", round(total - before[part], 4))
    log.dump(state.step)


def recent_success(model: FusionPPO) -> float | None:
    """Success of the last episodes, None before any has ended."""
    recent = model.ep_success_buffer
    return float(np.mean(recent)) if recent else None


def draw_curve(folder: Path, conditions: Sequence[Condition]) -> Path:
    """Writes `curve.png`: success while training, and in validation.

    Args:
        folder: of the run.
        conditions: those of the validation.
    """
    training, validation = read_rows(folder / PROGRESS), read_rows(folder / VALIDATION)
    without, single = removed(conditions), [name for name in alone(conditions) if name not in removed(conditions)]
    panels = [("each sensor removed", without)] + ([("each sensor alone", single)] if single else [])
    figure = Figure((1.2 + 5.4 * len(panels), 4.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    last = int(training[-1]["step"]) if training else 1
    unit, word = (1e6, "million ") if last >= 1_000_000 else (1e3, "thousand ") if last >= 10_000 else (1.0, "")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, names) in zip(grid, panels, strict=True):
        ends = []
        if axes is grid[0]:
            points = [
                (int(row["step"]) / unit, float(row["rollout/success"]))
                for row in training
                if row.get("rollout/success")
            ]
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
    """Draws the line of a condition; returns where it ends, its name and colour."""
    points = [(int(row["step"]) / unit, float(row[name])) for row in rows if row.get(name)]
    if not points:
        return []
    style = {"color": colour, "marker": marker, "ms": 4.5, "mfc": colour if name == "all" else "white"}
    (line,) = axes.plot(*zip(*points, strict=True), lw=2.0 if name == "all" else 1.3, clip_on=False, **style)
    if dashes:
        line.set_dashes(dashes)
    return [(points[-1][1], f"{'●■▲◆▼✚✖'['os^DvPX'.index(marker)]} {name}", colour)]


def _label(axes: Axes, ends: list[tuple[float, str, str]], x: float) -> None:
    """Writes names beside the ends of the lines, pushed apart where they would overlap."""
    ends = sorted(ends, reverse=True)
    heights: list[float] = []
    for value, _, _ in ends:
        heights.append(min(value, heights[-1] - _GAP) if heights else value)
    if heights and heights[-1] < 0.0:  # too many at the bottom: push up from there
        heights[-1] = 0.0
        for k in range(len(heights) - 2, -1, -1):
            heights[k] = max(heights[k], heights[k + 1] + _GAP)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            name, (x, height), xytext=(9, 0), textcoords="offset points", color=colour, size=8.5, va="center",
            annotation_clip=False,
        )  # fmt: skip


def _duration(seconds: float) -> str:
    minutes = seconds / 60.0
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
