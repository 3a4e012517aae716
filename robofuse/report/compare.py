"""Two policies side by side, on the scenes that both have played."""

from typing import NamedTuple

import numpy as np

from robofuse.report.evaluation import Evaluation
from robofuse.report.findings import matrix
from robofuse.stats import Estimate, bootstrap, effective_robustness, iqm, paired_difference


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
        a, b = first.conditions[name], second.conditions[name]
        won_a, won_b = ([episode.success for episode in one.episodes[:scenes]] for one in (a, b))
        difference = paired_difference(won_a, won_b)
        changes.append(Change(name, a.group, sum(won_a) / scenes, sum(won_b) / scenes, difference))
    changes.sort(key=lambda change: change.difference.value)
    faults = [name for name in common if first.conditions[name].group == "fault"]
    middle = effective = None
    if faults:
        names = ["all", *faults] if "all" in common else faults
        scores = np.hstack([matrix([one.conditions[name] for name in names], scenes) for one in (first, second)])
        start = len(names) - len(faults)

        def gain(drawn: np.ndarray) -> float:
            a, b = np.split(drawn.mean(axis=0), 2)
            return iqm(b[start:]) - iqm(a[start:])

        def excess(drawn: np.ndarray) -> float:
            a, b = np.split(drawn.mean(axis=0), 2)
            return effective_robustness(b[0], b[1:].mean(), [(a[0], a[1:].mean())]) if a[0] else 0.0

        middle = bootstrap(scores, gain, paired=True)
        if start and first.conditions["all"].won:
            effective = bootstrap(scores, excess, paired=True)
    return Comparison(first.label, second.label, scenes, changes, alone, middle, effective, len(faults))
