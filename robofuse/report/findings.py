"""What an evaluation says: the verdict, curves of degradation, the scenes that fail first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robofuse.report.evaluation import Condition, Evaluation
from robofuse.stats import Estimate, bootstrap, iqm, relative_robustness

GRID = (0.25, 0.5, 0.75, 1.0)  # severities of the standard faults
KEPT = 0.9  # share of the clean success that counts as kept


class Verdict(NamedTuple):
    """The figures of the first sentence; None where nothing was measured.

    Attributes:
        clean: all sensors.
        dead: the worst condition with a single sensor dead from the start.
        pair: the worst with two.
        dying: the worst with sensors that die on the way.
        faults: how many fault conditions there are.
        kept: share of them with at least `KEPT` of the clean success.
        middle: interquartile mean of the success over the fault conditions.
    """

    clean: Condition | None
    dead: Condition | None
    pair: Condition | None
    dying: Condition | None
    faults: int
    kept: Estimate | None
    middle: Estimate | None


@dataclass(frozen=True)
class Curve:
    """Success against severity of one fault of one sensor.

    Attributes:
        sensor: which.
        fault: its name.
        onset: control step at which it sets in, as text.
        announced: "announced", "not announced" or empty where it is not known.
        clean: severity 0.
        points: severity → condition, in rising order.
    """

    sensor: str
    fault: str
    onset: str
    announced: str
    clean: Condition | None
    points: dict[float, Condition]

    @property
    def whole(self) -> bool:
        """Whether all severities of the grid and the clean success are there."""
        return self.clean is not None and all(severity in self.points for severity in GRID)

    @property
    def robustness(self) -> float | None:
        """Relative robustness; None where it cannot be told."""
        if self.clean is None or not self.whole:
            return None
        points = {0.0: self.clean, **self.points}
        return relative_robustness(list(points), [condition.success for condition in points.values()])

    @property
    def jerk(self) -> float | None:
        """Jerk at the onset of the severest, as a multiple of that with all sensors at the same time."""
        if self.clean is None or not self.clean.jerk or not self.points:
            return None
        worst = self.points[max(self.points)].jerk
        return None if worst is None else worst / self.clean.jerk


class Hard(NamedTuple):
    """A scene that succeeds with all sensors and fails under other conditions.

    Attributes:
        scene: its number.
        failed: the conditions it fails under; first the one that does best on other scenes.
    """

    scene: int
    failed: list[Condition]


def judge(evaluation: Evaluation) -> Verdict:
    """The figures of the first sentence."""
    clean = evaluation.clean
    dead = evaluation.of("dead")
    faults = evaluation.of("fault")
    kept = middle = None
    if faults:
        scores = matrix(faults)
        middle = bootstrap(scores, lambda drawn: iqm(drawn.mean(axis=0)), paired=True)
        if clean is not None and clean.won:
            scores = matrix([clean, *faults])
            kept = bootstrap(scores, _share_kept, paired=True)
    return Verdict(
        clean,
        lowest([one for one in dead if len(one.dead_from) == 1]),
        lowest([one for one in dead if len(one.dead_from) == 2]),
        lowest(evaluation.of("dying")),
        len(faults),
        kept,
        middle,
    )


def matrix(conditions: Sequence[Condition], scenes: int | None = None) -> np.ndarray:
    """Successes, float64 (scenes, conditions)."""
    return np.array([[episode.success for episode in one.episodes[:scenes]] for one in conditions], dtype=float).T


def lowest(conditions: Sequence[Condition]) -> Condition | None:
    """The one with the lowest success."""
    return min(conditions, key=lambda condition: condition.success, default=None)


def curves(evaluation: Evaluation) -> dict[tuple[str, str, str, str], Curve]:
    """Every fault of every sensor, in the order of the file."""
    found: dict[tuple[str, str, str, str], Curve] = {}
    for one in evaluation.of("fault"):
        if one.event is not None and one.severity is not None:
            curve = found.setdefault(one.event, Curve(*one.event, evaluation.clean, {}))
            curve.points[one.severity] = one
    for curve in found.values():
        ordered = dict(sorted(curve.points.items()))
        curve.points.clear()
        curve.points.update(ordered)
    return found


def hardest(evaluation: Evaluation, count: int) -> list[Hard]:
    """The scenes that fail under most conditions though they succeed with all sensors."""
    clean = evaluation.clean
    if clean is None:
        return []
    blind = [one for one in evaluation.of("dead") if not one.live]  # nobody wonders that these fail
    others = [one for one in evaluation.conditions.values() if one is not clean and one not in blind]
    found = []
    for scene, episode in enumerate(clean.episodes):
        failed = [one for one in others if not one.episodes[scene].success]
        if episode.success and failed:
            found.append(Hard(scene, sorted(failed, key=lambda one: -one.success)))
    return sorted(found, key=lambda hard: (-len(hard.failed), hard.scene))[:count]


def _share_kept(scores: np.ndarray) -> float:
    rates = scores.mean(axis=0)
    return float((rates[1:] >= KEPT * rates[0] - 1e-12).mean())
