"""Policies side by side on the same scenes: a table for the terminal, and what the report says of two of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from robofuse.evaluate.folder import csv_text
from robofuse.evaluate.results import ConditionResult, Evaluation
from robofuse.stats import (
    Estimate,
    bootstrap,
    effective_robustness,
    iqm,
    paired_difference,
    probability_of_improvement,
)

COMPARISON = "comparison.csv"
_MANY = 40  # conditions; a longer table says less than one of their groups
Results = Mapping[str, ConditionResult]  # condition → its result


class Change(NamedTuple):
    """One condition, under both policies.

    Attributes:
        condition: its name.
        group: its group.
        first: success of the first policy on the common scenes.
        second: success of the second.
        difference: second minus first, on the same scenes.
    """

    condition: str
    group: str
    first: float
    second: float
    difference: Estimate

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.difference.low > 0 or self.difference.high < 0


class Comparison(NamedTuple):
    """The second policy beside the first.

    Attributes:
        first: its label.
        second: its label.
        scenes: that both have played.
        changes: per common condition, the largest loss first.
        alone: conditions that only one of them has.
        middle: difference of the interquartile means over the common fault conditions.
        effective: effective robustness of the second, the first being the baseline; of the mean over the same.
        faults: how many fault conditions these two are over.
    """

    first: str
    second: str
    scenes: int
    changes: list[Change]
    alone: list[str]
    middle: Estimate | None
    effective: Estimate | None
    faults: int


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Condition by condition, scene by scene."""
    scenes = min(first.scenes, second.scenes)
    common = [name for name in first.conditions if name in second.conditions]
    alone = [name for name in {**first.conditions, **second.conditions} if name not in common]
    changes = []
    for name in common:
        a, b = (one.conditions[name].won[:scenes] for one in (first, second))
        group = first.conditions[name].group
        changes.append(Change(name, group, sum(a) / scenes, sum(b) / scenes, paired_difference(a, b)))
    changes.sort(key=lambda change: change.difference.value)
    faults = [name for name in common if first.conditions[name].group == "fault"]
    middle = effective = None
    if faults:
        names = ["all", *faults] if "all" in common else faults
        scores = np.hstack([score_matrix([one.conditions[name] for name in names], scenes) for one in (first, second)])
        start = len(names) - len(faults)

        def gain(drawn: np.ndarray) -> float:
            a, b = np.split(drawn.mean(axis=0), 2)
            return iqm(b[start:]) - iqm(a[start:])

        def excess(drawn: np.ndarray) -> float:
            a, b = np.split(drawn.mean(axis=0), 2)
            return effective_robustness(b[0], b[1:].mean(), [(a[0], a[1:].mean())]) if a[0] else 0.0

        middle = bootstrap(scores, gain, paired=True)
        if start and first.conditions["all"].successes:
            effective = bootstrap(scores, excess, paired=True)
    return Comparison(first.label, second.label, scenes, changes, alone, middle, effective, len(faults))


def score_matrix(conditions: Sequence[ConditionResult], scenes: int | None = None) -> np.ndarray:
    """Successes, float64 (scenes, conditions)."""
    return np.array([one.won[:scenes] for one in conditions], dtype=float).T


def comparison_table(policies: Mapping[str, Results]) -> tuple[Table, str]:
    """Success of each policy with its interval, and by how much the first differs from it, scene by scene.

    Args:
        policies: policy → its results, all of them on the same scenes. A condition that a policy lacks stays empty.

    Returns:
        A table for the terminal, which is one of groups if there are many conditions, and the text of a CSV file.

    Raises:
        ValueError: of a condition that two policies share, they have not played as many scenes.
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
            cells.append(_share(Estimate(theirs.rate, *theirs.interval)))
            if apart is not None:
                cells[-1] += f"\n{first} {_points(apart)}"
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
            cells.append(_share(bootstrap(theirs, np.mean, paired=True)))
            if policy in others:
                apart = bootstrap(scores[first] - theirs, np.mean, paired=True)
                better = probability_of_improvement(theirs, scores[first])
                cells[-1] += f"\n{first} {_points(apart)}, better with probability {better.value:.2f}"
        table.add_row(*map(Text, (f"{group} ({len(names)})", *cells)))
    return table


def _table(policies: Mapping[str, Results]) -> Table:
    table = Table("condition")
    for name in policies:
        table.add_column(Text(name), justify="right")
    return table


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _points(estimate: Estimate) -> str:
    return f"{estimate.value:+.1%} ({estimate.low:+.1%} to {estimate.high:+.1%})"
