"""What an evaluation says on the terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from robofuse.evaluate.results import ConditionResult


def condition_table(rows: Sequence[ConditionResult]) -> Table:
    """A line per condition: success, its interval, retention, the difference from all sensors, length."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("condition", no_wrap=True)
    for name in ("success", "95 %", "retention", "points vs all (95 %)", "steps", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    kind = None
    for row in rows:
        here = (row.group == "midway", len(row.live))
        if kind not in (None, here) and len(rows) > 6:
            table.add_row()
        kind, change = here, row.change
        table.add_row(
            Text(row.condition),
            _percent(row.success),
            f"{100 * row.interval[0]:.0f} to {100 * row.interval[1]:.0f}" if row.n else "–",
            _percent(row.retention),
            "–" if change is None else f"{_points(change.value)} ({_points(change.low)} to {_points(change.high)})",
            "–" if row.steps is None else f"{row.steps:.0f}",
            str(row.n),
        )
    return table


def fault_table(rows: Sequence[ConditionResult]) -> Table:
    """A line per fault of a sensor: success at each severity, and what a monitor found at the highest."""
    faults = [row for row in rows if row.group == "fault"]
    severities = sorted({row.severity for row in faults if row.severity is not None})
    watched = any(row.watched for row in faults)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fault", no_wrap=True)
    for severity in severities:
        table.add_column(f"at {severity:g}", justify="right", no_wrap=True)
    for name in ("found", "after") if watched else ():
        table.add_column(name, justify="right", no_wrap=True)
    lines: dict[str, list[ConditionResult]] = {}
    for row in faults:
        shown = "" if row.severity is None else f"{row.severity:g}"
        name = row.plan.replace(f"({shown})", "").replace(f"({shown}, ", "(") if shown else row.plan
        lines.setdefault(name, []).append(row)
    for name, several in lines.items():
        by_severity = {row.severity: row for row in several if row.severity is not None}
        cells = [_percent(by_severity[s].success) if s in by_severity else "" for s in severities]
        if not by_severity:
            cells[-1:] = [_percent(several[0].success)]
        worst = several[-1]
        found = [_percent(worst.detected), "–" if worst.delay is None else f"{worst.delay:g} steps"] if watched else []
        table.add_row(Text(name), *cells, *found)
    return table


@contextmanager
def episode_bar(done: int, left: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr with speed and the time left; call what it gives after every episode."""
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), _Pace(done))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        playing = progress.add_task("episodes", total=done + left, completed=done)
        yield lambda: progress.advance(playing)


class _Pace(ProgressColumn):
    """Episodes per second and the time left, over all of this call: episodes of equal length end in waves."""

    def __init__(self, done: int) -> None:
        super().__init__()
        self._done = done

    def render(self, task: Task) -> Text:
        elapsed, count = task.finished_time or task.elapsed or 0.0, task.completed - self._done
        if not count or not elapsed:
            return Text("")
        left = timedelta(seconds=round((task.remaining or 0) / count * elapsed))
        return Text(f"{count / elapsed:.1f} a second, {left} left", style="progress.data.speed")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    """Percentage points with their sign, and no sign at zero."""
    rounded = round(100 * value)
    return f"{rounded:+d}" if rounded else "0"
