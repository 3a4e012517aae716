"""How well the health monitor finds what is broken, and how often it blames what is not."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from robofuse.report.evaluation import Condition, Evaluation


class Watched(NamedTuple):
    """The monitor under some conditions.

    Attributes:
        name: of the conditions.
        found: episodes in which it flagged the affected sensor.
        affected: episodes in which there was something to find: a silent fault of one sensor that set in in time.
        by_severity: severity → (found, affected).
        delay: median control steps from the onset to the flag, of those found.
        alarms: times it switched off a healthy sensor.
        steps: control steps it looked on.
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


def has_monitor(evaluation: Evaluation) -> bool:
    """Whether one looked on."""
    return bool(evaluation.record.get("monitor")) and {"detected", "alarms", "watched"} <= evaluation.columns


def watch(evaluation: Evaluation) -> list[Watched]:
    """Where nothing fails, where sensors are announced dead, then every fault of every sensor."""
    groups = {
        "all sensors well": evaluation.of("all"),
        "sensors announced dead": evaluation.of("dead", "dying"),
    }
    for one in evaluation.of("fault"):
        if one.event is None:
            groups.setdefault("several faults at a time", []).append(one)
        else:
            sensor, fault, onset, told = one.event
            name = f"{sensor}: {fault}" + (f" from step {onset}" if onset else "")
            groups.setdefault(name + (", announced" if told == "announced" else ""), []).append(one)
    return [_watched(name, conditions) for name, conditions in groups.items() if conditions]


def total(rows: Iterable[Watched]) -> Watched:
    """All of these in one; its delay is left out."""
    rows = list(rows)
    sums = (sum(getattr(row, name) for row in rows) for name in ("found", "affected", "alarms", "steps"))
    found, affected, alarms, steps = sums
    return Watched("together", found, affected, {}, None, alarms, steps)


def _watched(name: str, conditions: Iterable[Condition]) -> Watched:
    by_severity: dict[float, tuple[int, int]] = {}
    delays: list[int] = []
    alarms = steps = found = affected = 0
    for one in conditions:
        alarms += sum(episode.alarms or 0 for episode in one.episodes)
        steps += sum(episode.watched or 0 for episode in one.episodes)
        if one.event is None or one.event[3] == "announced":
            continue
        onset = int(one.event[2] or 0)
        there = [episode for episode in one.episodes if episode.steps > onset]
        flagged = [episode.detected for episode in there if episode.detected is not None]
        delays += flagged
        found, affected = found + len(flagged), affected + len(there)
        if one.severity is not None:
            by_severity[one.severity] = (len(flagged), len(there))
    return Watched(name, found, affected, by_severity, median(delays) if delays else None, alarms, steps)
