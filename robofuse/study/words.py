"""How the numbers of a study are written, and its tables: the same for the page, for Markdown and for the terminal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from robofuse.evaluate.screen import DASH
from robofuse.study.declare import Study
from robofuse.study.results import Cell, Cells, Results

SHARES = ("success", "explained", "accuracy", "recall")  # metrics that are written in per cent
BETTER, WORSE = "▲", "▼"


class Table(NamedTuple):
    """A caption, the names of the columns, and lines of cells."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As a table in Markdown, after its caption."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join([self.caption, "", *(f"| {' | '.join(map(_in_markdown, line))} |" for line in lines), ""])


def group_of(metric: str) -> str:
    """What comes before the / in its name; empty if there is none."""
    return metric.rpartition("/")[0]


def groups_of(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Metrics by their groups."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        found.setdefault(group_of(metric), []).append(metric)
    return found


def is_share(metric: str) -> bool:
    """Whether it is written in per cent."""
    return (group_of(metric) or metric) in SHARES


def written(metric: str, value: float, sign: bool = False) -> str:
    """A value of a metric: in per cent with one digit, or with three digits that count; `sign` for a difference."""
    if is_share(metric):
        text = f"{100 * value:.1f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    zero = not text.strip("-0.")
    text = (text.lstrip("-") if zero else text).replace("-", "−")
    return f"+{text}" if sign and value > 0 and not zero else text


def middle_of(metric: str, cell: Cell | None) -> str:
    """The interquartile mean and its interval, such as `88.5 (85.9 to 91.7)`."""
    if cell is None:
        return DASH
    text = written(metric, cell.middle)
    return text if cell.low is None or cell.high is None else f"{text} ({_span(metric, cell.low, cell.high)})"


def difference_of(study: Study, metric: str, cell: Cell | None) -> str:
    """The difference from the baseline and its interval, marked where that leaves 0 out."""
    if cell is None or cell.difference is None:
        return DASH
    value, low, high = cell.difference
    mark = ""
    if low > 0.0 or high < 0.0:
        mark = f" {BETTER if (low > 0.0) != study.is_lower_better(metric) else WORSE}"
    return f"{written(metric, value, sign=True)} ({_span(metric, low, high, sign=True)}){mark}"


def place_of(budget: str, task: str) -> str:
    """Of a table or a figure, in words; empty where there is one only."""
    return ", ".join(part for part in (task, budget) if part)


def key_table(results: Results, cells: Cells, place: str) -> Table:
    """A line per method: its score, how it differs from the baseline, how probably it is better, and the seeds."""
    study, score, rows = results.study, results.study.score, []
    for method in _methods(study, cells, [score]):
        cell = cells[method, score]
        chance = f"{cell.improvement.value:.2f}" if cell.improvement else ""
        apart = "baseline" if method == study.baseline else difference_of(study, score, cell)
        rows.append((method, middle_of(score, cell), apart, chance, str(len(cell.seeds))))
    head = ("method", _headed(score), f"difference from {study.baseline}", "P(better)", "seeds")
    return Table(_captioned("The score", place), head, rows)


def metrics_table(study: Study, cells: Cells, metrics: Sequence[str], place: str) -> Table:
    """A line per method: all these metrics, of one group."""
    rows = [
        (method, *(middle_of(metric, cells.get((method, metric))) for metric in metrics))
        for method in _methods(study, cells, metrics)
    ]
    return Table(_captioned("Interquartile means", place), ("method", *map(_headed, metrics)), rows)


def differences_table(study: Study, cells: Cells, metrics: Sequence[str], place: str) -> Table:
    """A line per method but the baseline: by how much it differs in these metrics."""
    rows = [
        (method, *(difference_of(study, metric, cells.get((method, metric))) for metric in metrics))
        for method in _methods(study, cells, metrics)
        if method != study.baseline
    ]
    return Table(_captioned(f"Differences from {study.baseline}", place), ("method", *map(_headed, metrics)), rows)


def options_table(study: Study) -> Table:
    """What the methods, tasks and budgets are."""
    axes: Mapping[str, Mapping[str, Mapping[str, object]]] = {
        "of all": {"": study.base},
        "method": study.methods,
        "task": study.tasks,
        "budget": study.budgets,
    }
    rows = [
        (
            f"{axis} {label}".strip(),
            ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items()) or DASH,
        )
        for axis, labels in axes.items()
        for label, options in labels.items()
        if label or options
    ]
    return Table("Options", ("", "options"), rows)


def _methods(study: Study, cells: Cells, metrics: Sequence[str]) -> list[str]:
    """Those that have one of these metrics."""
    return [method for method in study.methods if any((method, metric) in cells for metric in metrics)]


def _captioned(what: str, place: str) -> str:
    return f"{what}: {place}" if place else what


def _headed(metric: str) -> str:
    return f"{metric} [%]" if is_share(metric) else metric


def _span(metric: str, low: float, high: float, sign: bool = False) -> str:
    return f"{written(metric, low, sign)} to {written(metric, high, sign)}"


def _in_markdown(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
