"""What the episodes of an evaluation say about each condition."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from robofuse.evaluate.conditions import Condition
from robofuse.evaluate.rollout import Result
from robofuse.stats import Estimate, paired_difference, retention, wilson


@dataclass(frozen=True)
class Row:
    """One condition; None where there is nothing to tell.

    Attributes:
        condition: which.
        n: episodes that count.
        successes: how many of them succeeded.
        success: their share.
        interval: 95 % interval of the success probability (Wilson).
        retention: success / success with all sensors.
        difference: success minus that with all sensors on the same scenes, with its 95 % interval.
        steps: mean length of an episode.
        steps_to_success: mean length of those that succeeded.
        reward: mean sum of rewards.
        diverged: episodes that broke off, as the simulation diverged or the action was not finite; they are failures.
        jerk: mean of `Result.jerk`.
        detected: share of the episodes in which a monitor no longer trusted the sensor that had failed.
        delay: median of the control steps that it took.
        false_alarms: how often a monitor stopped trusting a healthy sensor.
        watched: control steps in which a monitor looked on.
    """

    condition: Condition
    n: int
    successes: int
    success: float | None
    interval: tuple[float, float] | None
    retention: float | None
    difference: Estimate | None
    steps: float | None
    steps_to_success: float | None
    reward: float | None
    diverged: int
    jerk: float | None = None
    detected: float | None = None
    delay: float | None = None
    false_alarms: int | None = None
    watched: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON and CSV: flat, numbers and text only."""
        condition, only = self.condition, self.condition.only
        flat: dict[str, Any] = {"condition": condition.name, "group": condition.group, "plan": str(condition.plan)}
        flat["sensor"] = only and only.sensor
        flat["fault"] = only and only.fault.name
        flat["severity"] = only and only.fault.severity
        flat["onset"] = condition.onset
        flat["announced"] = only and only.is_announced
        flat["live"] = list(condition.live)
        flat["dead_from"] = {event.sensor: event.step for event in condition.plan if condition.silent}
        fields = asdict(self)
        del fields["condition"]
        low, high = self.interval or (None, None)
        change, change_low, change_high = self.difference or (None, None, None)
        for name, value in fields.items():
            if name == "interval":
                flat |= {"success_low": low, "success_high": high}
            elif name == "difference":
                flat |= {"difference": change, "difference_low": change_low, "difference_high": change_high}
            else:
                flat[name] = value
        return flat


def finished_scenes(conditions: Sequence[Condition], results: Iterable[Result]) -> int:
    """How many episodes, from number 0 on without a gap, have been played under every condition.

    Only these count. Of the episodes beyond them the short ones are there and the long ones are not, and the short
    ones are mostly successes.
    """
    played = {(result.condition, result.episode) for result in results}
    count = 0
    while all((condition.name, count) in played for condition in conditions):
        count += 1
    return count


def summarise(conditions: Sequence[Condition], results: Sequence[Result]) -> list[Row]:
    """A row per condition, over the scenes that every condition has finished."""
    scenes = finished_scenes(conditions, results)
    by_condition: dict[str, list[Result]] = {condition.name: [] for condition in conditions}
    for result in sorted(results, key=lambda result: result.episode):
        if result.episode < scenes and result.condition in by_condition:
            by_condition[result.condition].append(result)
    full = by_condition.get("all")
    return [_row(condition, by_condition[condition.name], full) for condition in conditions]


def _row(condition: Condition, results: Sequence[Result], full: Sequence[Result] | None) -> Row:
    n = len(results)
    won = [result.success for result in results]
    if not n:
        return Row(condition, 0, 0, None, None, None, None, None, None, None, 0)
    jerks = [result.jerk for result in results if result.jerk is not None]
    found = [result.detected for result in results if result.detected is not None]
    watched = sum(result.watched for result in results)
    sought = bool(watched) and condition.only is not None and not condition.only.is_announced
    kept, change = None, None
    if full is not None:
        base = [result.success for result in full]
        kept = retention(sum(won) / n, sum(base) / n)
        change = paired_difference(base, won) if condition.name != "all" else None
    lengths = [result.steps for result in results if result.success]
    return Row(
        condition,
        n,
        sum(won),
        sum(won) / n,
        wilson(sum(won), n),
        kept,
        change,
        fmean(result.steps for result in results),
        fmean(lengths) if lengths else None,
        fmean(result.reward for result in results),
        sum(bool(result.error) for result in results),
        fmean(jerks) if jerks else None,
        len(found) / n if sought else None,
        median(found) if sought and found else None,
        sum(result.alarms for result in results) if watched else None,
        watched or None,
    )
