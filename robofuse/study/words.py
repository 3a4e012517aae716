"""How the numbers of a study are written, and its tables: the same for the page, for Markdown and for the terminal."""

import json
import re
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
    """What comes before the last / in its name, with what comes after an @, a part of what was measured.

    So `action/no-rgb@contact` is of the group `action@contact`; empty if there is no /.
    """
    group, _, name = metric.rpartition("/")
    return group + "".join(name.partition("@")[1:]) if group else ""


def short_name(metric: str) -> str:
    """Its name within its group."""
    return metric.rpartition("/")[2].partition("@")[0] if group_of(metric) else metric


def groups_of(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Metrics by their groups."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        found.setdefault(group_of(metric), []).append(metric)
    return found


def is_share(metric: str) -> bool:
    """Whether it is written in per cent."""
    return metric.partition("/")[0] in SHARES


def written(metric: str, value: float, sign: bool = False) -> str:
    """A value of a metric: in per cent with one digit, or with three digits that count; `sign` for a difference."""
    if is_share(metric):
        text = f"{100 * value:.1f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    zero = not text.strip("-0.")
    text = text.lstrip("-") if zero else re.sub("^-", "−", text)
    return f"+{text}" if sign and value > 0 and not zero else text


def middle_of(metric: str, cell: Cell | None, unit: str = "") -> str:
    """The interquartile mean and its interval, such as `88.5 (85.9 to 91.7)`; `unit` comes after the first number."""
    if cell is None:
        return DASH
    text = written(metric, cell.middle) + unit
    return text if cell.low is None or cell.high is None else f"{text} ({_span(metric, cell.low, cell.high)})"


def difference_of(study: Study, metric: str, cell: Cell | None, unit: str = "") -> str:
    """The difference from the baseline and its interval, marked where that leaves 0 out."""
    if cell is None or cell.difference is None:
        return DASH
    value, low, high = cell.difference
    mark = ""
    if low > 0.0 or high < 0.0:
        mark = f" {BETTER if (low > 0.0) != study.is_lower_better(metric) else WORSE}"
    return f"{written(metric, value, sign=True)}{unit} ({_span(metric, low, high, sign=True)}){mark}"


def chance_of(cell: Cell | None) -> str:
    """The probability of improvement and its interval; empty where there is none."""
    return "{:.2f} ({:.2f} to {:.2f})".format(*cell.improvement) if cell and cell.improvement else ""


def methods_with(study: Study, cells: Cells, metrics: Sequence[str]) -> list[str]:
    """Methods that have one of these metrics."""
    return [method for method in study.methods if any((method, metric) in cells for metric in metrics)]


def place_of(budget: str, task: str) -> str:
    """Of a table or a figure, in words; empty where there is one only."""
    return ", ".join(part for part in (task, budget) if part)


def key_table(results: Results, cells: Cells, place: str) -> Table:
    """A line per method: its score, how it differs from the baseline, how probably it is better, and the seeds."""
    study, score, rows = results.study, results.study.score, []
    for method in methods_with(study, cells, [score]):
        cell = cells[method, score]
        apart = "baseline" if method == study.baseline else difference_of(study, score, cell)
        rows.append((method, middle_of(score, cell), apart, chance_of(cell), str(len(cell.seeds))))
    head = ("method", headed(score), f"difference from {study.baseline}", "P(better)", "seeds")
    return Table(_captioned("The score", [], place), head, rows)


def metrics_table(study: Study, cells: Cells, metrics: Sequence[str], place: str) -> Table:
    """A line per method: all these metrics, of one group."""
    rows = [
        (method, *(middle_of(metric, cells.get((method, metric))) for metric in metrics))
        for method in methods_with(study, cells, metrics)
    ]
    return Table(_captioned("Interquartile means", metrics, place), _heads(metrics), rows)


def differences_table(study: Study, cells: Cells, metrics: Sequence[str], place: str) -> Table:
    """A line per method but the baseline: by how much it differs in these metrics."""
    rows = [
        (method, *(difference_of(study, metric, cells.get((method, metric))) for metric in metrics))
        for method in methods_with(study, cells, metrics)
        if method != study.baseline
    ]
    return Table(_captioned(f"Differences from {study.baseline}", metrics, place), _heads(metrics), rows)


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


def _captioned(what: str, metrics: Sequence[str], place: str) -> str:
    """With the group of the metrics, if they have one."""
    group = group_of(metrics[0]) if metrics else ""
    named = f"{group} [%]" if group and is_share(metrics[0]) else group
    parts = ", ".join(part for part in (named, place) if part)
    return f"{what}: {parts}" if parts else what


def _heads(metrics: Sequence[str]) -> Sequence[str]:
    return ("method", *(short_name(metric) if group_of(metric) else headed(metric) for metric in metrics))


def headed(metric: str) -> str:
    """Its name with its unit, over a column or a panel."""
    return f"{metric} [%]" if is_share(metric) else metric


def _span(metric: str, low: float, high: float, sign: bool = False) -> str:
    return f"{written(metric, low, sign)} to {written(metric, high, sign)}"


def _in_markdown(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
