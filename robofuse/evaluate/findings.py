"""What the report says of an evaluation: verdict, curves, hard scenes, monitor, gaps; and how two policies differ."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import NamedTuple

import numpy as np

from robofuse.evaluate.results import ConditionResult, Evaluation, Event
from robofuse.faults.catalogue import faults_for
from robofuse.faults.mix import SEVERITIES, UNLEARNABLE
from robofuse.sensors import Kind
from robofuse.stats import (
    Estimate,
    Violations,
    bootstrap,
    effective_robustness,
    iqm,
    monotonicity_violations,
    paired_difference,
    relative_robustness,
)

KEPT = 0.9  # share of the clean success that counts as kept
_ENOUGH = 100  # scenes
_KINDS: dict[str, Kind] = {"rgb": "rgb", "depth": "depth", "proprio": "vector", "force": "window"}


class Verdict(NamedTuple):
    """The figures of the first sentence; None where nothing was measured.

    Attributes:
        clean: all sensors.
        single: the worst condition with a single sensor missing from the start; `pair` with two.
        midway: the worst with sensors that fail on the way, announced.
        faults: how many fault conditions there are.
        kept: share of them with at least `KEPT` of the clean success.
        middle: interquartile mean of the success over the fault conditions.
    """

    clean: ConditionResult | None
    single: ConditionResult | None
    pair: ConditionResult | None
    midway: ConditionResult | None
    faults: int
    kept: Estimate | None
    middle: Estimate | None


@dataclass(frozen=True)
class Curve:
    """Success against severity of one fault of one sensor.

    Attributes:
        clean: severity 0, all sensors.
        points: severity → condition, in rising order.
    """

    clean: ConditionResult | None
    points: Mapping[float, ConditionResult]

    @property
    def line(self) -> dict[float, ConditionResult]:
        """Severity → condition, with 0 if it was measured."""
        return {0.0: self.clean, **self.points} if self.clean else dict(self.points)

    @property
    def severest(self) -> ConditionResult:
        """The condition at the highest severity."""
        return self.points[max(self.points)]

    @property
    def robustness(self) -> float | None:
        """Relative robustness; None unless the clean success and all of `SEVERITIES` were measured."""
        if self.clean is None or not all(severity in self.points for severity in SEVERITIES):
            return None
        return relative_robustness(list(self.line), [one.rate for one in self.line.values()])

    @property
    def jerk(self) -> float | None:
        """Jerk at the onset of the severest, as a multiple of that with all sensors at the same time."""
        if self.clean is None or not self.clean.jerk or self.severest.jerk is None:
            return None
        return self.severest.jerk / self.clean.jerk


class Hard(NamedTuple):
    """A scene that succeeds with all sensors and fails under these conditions, the best one on average first."""

    scene: int
    failed: list[ConditionResult]


class Watched(NamedTuple):
    """The monitor under some conditions.

    Attributes:
        name: of the conditions.
        found: episodes in which it no longer trusted the affected sensor.
        affected: episodes with something to find: an unannounced fault of one sensor that set in in time.
        by_severity: severity → (found, affected).
        delay: median control steps from the onset, of those found.
        alarms: times it stopped trusting a healthy sensor.
        steps: control steps that it judged.
    """

    name: str
    found: int
    affected: int
    by_severity: dict[float, tuple[int, int]]
    delay: float | None
    alarms: int
    steps: int

    @property
    def per_thousand(self) -> float | None:
        """False alarms per 1,000 control steps."""
        return 1000 * self.alarms / self.steps if self.steps else None


class Change(NamedTuple):
    """Success of two policies under one condition, on the common scenes; `difference` is second minus first."""

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


def judge(evaluation: Evaluation) -> Verdict:
    """The figures of the first sentence."""
    clean, faults, missing = evaluation.clean, evaluation.of("fault"), evaluation.of("missing")
    kept = middle = None
    if faults:
        middle = bootstrap(score_matrix(faults), lambda drawn: iqm(drawn.mean(axis=0)), paired=True)
        if clean is not None and clean.successes:
            kept = bootstrap(score_matrix([clean, *faults]), _share_kept, paired=True)
    single, pair = ([one for one in missing if len(one.dead_from) == count] for count in (1, 2))
    return Verdict(clean, _lowest(single), _lowest(pair), _lowest(evaluation.of("midway")), len(faults), kept, middle)


def curves(evaluation: Evaluation) -> dict[Event, Curve]:
    """Every fault of every sensor, in the order of the evaluation."""
    points: dict[Event, dict[float, ConditionResult]] = {}
    for one in evaluation.of("fault"):
        if one.event is not None and one.severity is not None:
            points.setdefault(one.event, {})[one.severity] = one
    return {event: Curve(evaluation.clean, dict(sorted(some.items()))) for event, some in points.items()}


def violations(evaluation: Evaluation) -> Violations:
    """Where fewer live sensors do better than more, all of it from the start."""
    some = [one for one in evaluation.of("all", "missing") if one.live]
    return monotonicity_violations({frozenset(one.live): (one.successes, one.n) for one in some})


def hardest(evaluation: Evaluation, count: int) -> list[Hard]:
    """The scenes that fail under most conditions though they succeed with all sensors."""
    clean = evaluation.clean
    if clean is None:
        return []
    blind = [one for one in evaluation.of("missing") if not one.live]  # that these fail is no surprise
    others = [one for one in evaluation.conditions.values() if one is not clean and one not in blind]
    found = []
    for scene, success in enumerate(clean.won):
        failed = [one for one in others if not one.won[scene]]
        if success and failed:
            found.append(Hard(scene, sorted(failed, key=lambda one: -one.rate)))
    return sorted(found, key=lambda hard: (-len(hard.failed), hard.scene))[:count]


def replay_options(one: ConditionResult) -> tuple[str, str]:
    """What `robofuse replay` needs for this condition: the values of --disable and --faults."""
    if one.group == "fault":
        return "", one.condition
    return ",".join(f"{key}@{step}" if step else key for key, step in one.dead_from.items()), ""


def replay_command(one: Evaluation, hard: Hard) -> list[str]:
    """The command that shows a scene under the first of its conditions."""
    disable, faults = replay_options(hard.failed[0])
    words = ["robofuse", "replay", one.record.asked_policy, "--seed", str(one.record.seed)]
    words += ["--episode", str(hard.scene), "--episodes", "1"]
    return words + (["--disable", disable] if disable else ["--faults", faults])


def seen_and_new(evaluations: Sequence[Evaluation], seen: frozenset[str]) -> dict[bool, list[ConditionResult]]:
    """Conditions of the first that all have, with one unannounced fault: True → seen in training, False → new."""
    first, *others = evaluations
    found: dict[bool, list[ConditionResult]] = {True: [], False: []}
    for one in first.of("fault"):
        common = all(one.condition in other.conditions for other in others)
        if common and one.event and not one.event.announced and one.fault not in UNLEARNABLE:
            found[kind_of(one.event) in seen].append(one)
    return found


def kind_of(event: Event) -> str:
    """Such as `rgb:freeze`, as a policy's card says it."""
    return f"{event.sensor}:{event.fault}"


def mean_success(one: Evaluation, names: Sequence[str], scenes: int, beside: Evaluation | None = None) -> Estimate:
    """Mean success over conditions; minus that of another policy if there is one."""
    scores = score_matrix([one.conditions[name] for name in names], scenes)
    if beside is not None:
        scores = scores - score_matrix([beside.conditions[name] for name in names], scenes)
    return bootstrap(scores, lambda drawn: float(drawn.mean()), paired=True)


def watch(evaluation: Evaluation) -> list[Watched]:
    """The monitor where nothing fails, where sensors are missing, then under every fault of every sensor."""
    groups = {"all sensors well": evaluation.of("all"), "sensors missing": evaluation.of("missing", "midway")}
    for one in evaluation.of("fault"):
        name = "several faults at a time" if one.event is None else kind_of(one.event).replace(":", ": ")
        groups.setdefault(name + (when(one.event) if one.event else ""), []).append(one)
    return [_watched(name, conditions) for name, conditions in groups.items() if conditions]


def total(rows: Iterable[Watched]) -> Watched:
    """All of these in one, without severities and delay."""
    rows = list(rows)
    found, affected, alarms, steps = (
        sum(getattr(row, name) for row in rows) for name in ("found", "affected", "alarms", "steps")
    )
    return Watched("together", found, affected, {}, None, alarms, steps)


def when(event: Event, onset: bool = True) -> str:
    """The end of a fault's name: from which step on, and whether it is announced."""
    start = f" from step {event.onset}" if onset and event.onset is not None else ""
    return start + (", announced" if event.announced else "")


def not_measured(evaluation: Evaluation) -> list[str]:
    """What was not measured, in sentences, the gravest first: a gap in a figure should never look like a result."""
    return [*_unfinished(evaluation), *_subsets(evaluation), *_faults(evaluation), *_monitor(evaluation)]


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


def _share_kept(scores: np.ndarray) -> float:
    rates = scores.mean(axis=0)
    return float((rates[1:] >= KEPT * rates[0] - 1e-12).mean())


def _lowest(conditions: Sequence[ConditionResult]) -> ConditionResult | None:
    return min(conditions, key=lambda condition: condition.rate, default=None)


def _watched(name: str, conditions: Iterable[ConditionResult]) -> Watched:
    by_severity: dict[float, tuple[int, int]] = {}
    delays: list[int] = []
    alarms = steps = affected = 0
    for one in conditions:
        alarms += sum(episode.alarms for episode in one.episodes)
        steps += sum(episode.watched for episode in one.episodes)
        if one.event is None or one.severity is None or one.event.announced:
            continue
        there = [episode for episode in one.episodes if episode.steps > (one.onset or 0)]
        found = [episode.detected for episode in there if episode.detected is not None]
        delays += found
        affected += len(there)
        by_severity[one.severity] = (len(found), len(there))
    return Watched(name, len(delays), affected, by_severity, median(delays) if delays else None, alarms, steps)


def _unfinished(evaluation: Evaluation) -> Iterator[str]:
    asked, done, played = evaluation.record.episodes, evaluation.scenes, evaluation.played
    if not evaluation.record.complete or done < asked:
        behind = [name for name, count in played.items() if count == min(played.values())]
        what = "every condition" if len(behind) == len(played) else _some(behind)
        yield (
            f"The evaluation is not complete: {done} of {asked} scenes are finished under every condition, and only "
            f"these count. Least far: {what}."
        )
    if done < _ENOUGH:
        yield f"Only {done} scenes per condition; a claim about a policy needs {_ENOUGH}."
    if diverged := sum(one.diverged for one in evaluation.conditions.values()):
        yield f"{diverged} episodes broke off with an error and count as failures."


def _subsets(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.clean is None:
        yield "The condition with all sensors (all) was not played: no retention, no differences, no robustness."
    there, keys = {frozenset(one.live) for one in evaluation.of("all", "missing")}, evaluation.keys
    sets = [frozenset(live) for count in range(len(keys), 0, -1) for live in combinations(keys, count)]
    if lacking := [" + ".join(sorted(live)) for live in sets if live not in there]:
        yield f"{len(lacking)} of {len(sets)} sets of live sensors were not played: {_some(lacking)}."
    midway = {key for one in evaluation.of("midway") if len(one.dead_from) == 1 for key in one.dead_from}
    if lacking := [key for key in keys if key not in midway]:
        yield f"Not measured: sensors that fail on the way, announced, of {_some(lacking)}."


def _faults(evaluation: Evaluation) -> Iterator[str]:
    there: dict[tuple[str, str], set[float]] = {}
    for event, curve in curves(evaluation).items():
        there.setdefault((event.sensor, event.fault), set()).update(curve.points)
    if not there:
        yield "No faults but sensors that are missing were played, so there are no curves over severity."
        return
    for key in evaluation.keys:
        kind = _KINDS.get(key.split("_")[0])
        if kind is None:  # not one of ours: which faults it can have is not known
            continue
        lacking = []
        for name, fault in faults_for(kind).items():
            if fault.recalls:  # depends on the episode before, so that scenes could not be compared
                continue
            played = there.get((key, name), set())
            wanted = SEVERITIES if fault.graded(kind) else SEVERITIES[-1:]
            if gone := [f"{severity:g}" for severity in wanted if severity not in played]:
                lacking.append(f"{name} at {', '.join(gone)}" if played else name)
        if lacking:
            yield f"Faults of {key} in the grid that were not played: {_some(lacking, 40)}."


def _monitor(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.record.monitor is None:
        yield "No health monitor looked on, so nothing is said about one."


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
