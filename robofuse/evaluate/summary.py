"""What the episodes of an evaluation say about each condition."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
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
        diverged: episodes whose simulation diverged; they count as failures.
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

    def plain(self) -> dict[str, Any]:
        """For JSON and CSV: flat, numbers and text only."""
        flat: dict[str, Any] = {"condition": self.condition.name, "live": list(self.condition.live)}
        flat["dead_from"] = {blackout.sensor: blackout.step for blackout in self.condition.blackouts}
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
    )
