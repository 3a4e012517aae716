"""What evaluations say on the terminal: figures, tables of conditions, faults and policies, and a bar."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from robofuse.evaluate.findings import score_matrix
from robofuse.evaluate.folder import csv_text
from robofuse.evaluate.results import ConditionResult
from robofuse.stats import Estimate, bootstrap, paired_difference, probability_of_improvement

DASH = "–"
COMPARISON = "comparison.csv"
_MANY = 40  # conditions; a longer table says less than one of their groups
Results = Mapping[str, ConditionResult]  # condition → its result


def condition_table(rows: Sequence[ConditionResult]) -> Table:
    """A line per condition: success, its interval, retention, the difference from all sensors, length, peak force."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("condition", no_wrap=True)
    felt = any(row.peak_force is not None for row in rows)
    for name in ("success", "95 %", "retention", "points vs all (95 %)", "steps", *(["peak N"] if felt else []), "n"):
        table.add_column(name, justify="right", no_wrap=True)
    kind = None
    for row in rows:
        here = (row.group == "midway", len(row.live))
        if kind not in (None, here) and len(rows) > 6:
            table.add_row()
        kind = here
        table.add_row(
            Text(row.condition),
            percent(row.success),
            span(row.interval, 0) if row.n else DASH,
            percent(row.retention),
            change(row.change),
            DASH if row.steps is None else f"{row.steps:.0f}",
            *([DASH if row.peak_force is None else f"{row.peak_force:.0f}"] if felt else []),
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
        cells = [percent(by_severity[s].success) if s in by_severity else "" for s in severities]
        if not by_severity:
            cells[-1:] = [percent(several[0].success)]
        worst = several[-1]
        found = [percent(worst.detected), DASH if worst.delay is None else f"{worst.delay:g} steps"] if watched else []
        table.add_row(Text(name), *cells, *found)
    return table


def comparison_table(policies: Mapping[str, Results]) -> tuple[Table, str]:
    """Success of each policy with its interval, and by how much the first differs from it, scene by scene.

    A condition that a policy lacks stays empty.

    Returns:
        A table for the terminal, one of groups if there are many conditions; and the text of a CSV file.

    Raises:
        InputError: two policies have not played as many scenes of a condition that they share.
    """
    first, *_ = policies
    table, rows = _table(policies), []
    for condition, ours in policies[first].items():
        cells = []
        for name, results in policies.items():
            theirs = results.get(condition)
            if theirs is None:
                cells.append("")
                continue
            apart = paired_difference(theirs.won, ours.won) if name != first else None
            rows.append((condition, name, theirs.n, theirs.rate, *theirs.interval, *(apart or ("", "", ""))))
            cells.append(estimated(Estimate(theirs.rate, *theirs.interval)))
            if apart is not None:
                cells[-1] += f"\n{first} {change(apart)} points"
        table.add_row(*map(Text, (condition, *cells)))
    names = ("condition", "policy", "n", "success", "success_low", "success_high")
    text = csv_text((*names, "difference", "difference_low", "difference_high"), rows)
    return (_groups(policies) if len(policies[first]) > _MANY else table), text


def _groups(policies: Mapping[str, Results]) -> Table:
    """Mean success by group of conditions; of the others also how probably an episode of the first goes better."""
    first, *others = policies
    common = [one for name, one in policies[first].items() if all(name in theirs for theirs in policies.values())]
    table = _table(policies)
    for group in dict.fromkeys(one.group for one in common):
        names = [one.condition for one in common if one.group == group]
        scores = {policy: score_matrix([results[name] for name in names]) for policy, results in policies.items()}
        cells = []
        for policy, theirs in scores.items():
            cells.append(estimated(bootstrap(theirs, np.mean, paired=True)))
            if policy in others:
                apart = bootstrap(scores[first] - theirs, np.mean, paired=True)
                better = probability_of_improvement(theirs, scores[first])
                cells[-1] += f"\n{first} {change(apart)} points, better with probability {better.value:.2f}"
        table.add_row(*map(Text, (f"{group} ({len(names)})", *cells)))
    return table


def _table(policies: Mapping[str, Results]) -> Table:
    table = Table("condition")
    for name in policies:
        table.add_column(Text(name), justify="right")
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


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in percent."""
    return DASH if rate is None else f"{100 * rate:.{digits}f}\N{NO-BREAK SPACE}%"


def span(ends: Sequence[float], digits: int = 1) -> str:
    """An interval of rates in percent; of an `Estimate` its interval."""
    *_, low, high = ends
    return f"{_signed(low, digits)} to {_signed(high, digits)}"


def points(value: float, digits: int = 1) -> str:
    """A difference of rates in percentage points, with its sign."""
    text = _signed(value, digits)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def change(estimate: Estimate | None) -> str:
    """A difference of rates in percentage points with its interval."""
    return DASH if estimate is None else f"{points(estimate.value)} ({span(estimate)})"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def _signed(value: float, digits: int) -> str:
    text = f"{100 * value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")


def estimated(estimate: Estimate | None) -> str:
    """A rate in percent with its interval."""
    return DASH if estimate is None else f"{percent(estimate.value)} ({span(estimate)})"
