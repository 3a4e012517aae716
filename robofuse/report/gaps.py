"""What was not measured, in words: a gap in a figure should never look like a result."""

from collections.abc import Iterable
from itertools import combinations

from robofuse.report.evaluation import Evaluation
from robofuse.report.findings import GRID, curves
from robofuse.report.watch import has_monitor
from robofuse.sensors import Kind

_KINDS: dict[str, Kind] = {"rgb": "rgb", "depth": "depth", "proprio": "vector", "force": "window"}
_COLUMNS = {"group": "groups of conditions", "jerk": "the jerk at the onset", "detected": "what a monitor detects"}


def missing(evaluation: Evaluation) -> list[str]:
    """Sentences, the gravest gap first; empty if all is there."""
    return [
        *_unfinished(evaluation),
        *_subsets(evaluation),
        *_dying(evaluation),
        *_faults(evaluation),
        *_columns(evaluation),
        *([] if evaluation.record.get("monitor") else ["No health monitor looked on, so nothing is said about one."]),
    ]


def _unfinished(evaluation: Evaluation) -> Iterable[str]:
    asked, done = evaluation.record.get("episodes"), evaluation.scenes
    if not evaluation.record.get("complete", True) or (isinstance(asked, int) and done < asked):
        behind = [name for name, count in evaluation.played.items() if count == min(evaluation.played.values())]
        what = "every condition" if len(behind) == len(evaluation.played) else _some(behind)
        yield (
            f"The evaluation is not complete: {done} of {asked} scenes are finished under every condition, and only "
            f"these count. Least far: {what}."
        )
    if done < 100:
        yield f"Only {done} scenes per condition; a claim about a policy needs 100."
    diverged = sum(bool(episode.error) for one in evaluation.conditions.values() for episode in one.episodes)
    if diverged:
        yield f"{diverged} episodes broke off with an error and count as failures."


def _subsets(evaluation: Evaluation) -> Iterable[str]:
    if evaluation.clean is None:
        yield "The condition with all sensors (all) was not played: no retention, no differences, no robustness."
    there = {one.live for one in evaluation.of("all", "dead")}
    keys = evaluation.keys
    sets = [frozenset(live) for count in range(len(keys), 0, -1) for live in combinations(keys, count)]
    lacking = [" + ".join(sorted(live)) for live in sets if live not in there]
    if lacking:
        yield f"{len(lacking)} of {len(sets)} sets of live sensors were not played: {_some(lacking)}."


def _dying(evaluation: Evaluation) -> Iterable[str]:
    dying = {key for one in evaluation.of("dying") for key in one.dead_from if len(one.dead_from) == 1}
    if lacking := [key for key in evaluation.keys if key not in dying]:
        yield f"Not measured: dying on the way, announced, of {_some(lacking)}."


def _faults(evaluation: Evaluation) -> Iterable[str]:
    from robofuse.faults.catalogue import faults_for

    there: dict[tuple[str, str], set[float]] = {}
    for curve in curves(evaluation).values():
        there.setdefault((curve.sensor, curve.fault), set()).update(curve.points)
    if not there:
        yield "No faults but announced deaths of sensors were played, so there are no curves over severity."
        return
    for key in evaluation.keys:
        kind = _KINDS.get(key.split("_")[0])
        if kind is None:  # a sensor of somebody else: nobody knows its faults
            continue
        lacking = []
        for name, fault in faults_for(kind).items():
            if fault.recalls:  # depends on the episode before, so that scenes could not be compared
                continue
            played = there.get((key, name), set())
            wanted = GRID if fault.graded(kind) else GRID[-1:]
            gone = [severity for severity in wanted if severity not in played]
            if gone:
                lacking.append(name if not played else f"{name} at {', '.join(f'{one:g}' for one in gone)}")
        if lacking:
            yield f"Faults of {key} in the standard grid that were not played: {_some(lacking, 40)}."


def _columns(evaluation: Evaluation) -> Iterable[str]:
    gone = [what for name, what in _COLUMNS.items() if name not in evaluation.columns]
    if gone:
        yield f"The folder was written by an older robofuse, without {', '.join(gone)}."
    if has_monitor(evaluation) != bool(evaluation.record.get("monitor")):
        yield "A monitor looked on, but what it found is not in the tables."


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
