"""What an evaluation has found: its episodes, what they say of each condition, and what was asked."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from robofuse.evaluate.conditions import Condition, Group
from robofuse.stats import Estimate, paired_difference, wilson

FORMAT = 4
MAX_SENSORS = 16  # there are 2^M sets of them

Name = Annotated[str, Meta(min_length=1, max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]  # finite
Share = Annotated[float, Meta(ge=0, le=1)]
Keys = Annotated[tuple[Name, ...], Meta(max_length=MAX_SENSORS)]


class Event(NamedTuple):
    """The one fault of a condition, at any severity. `onset` is None where a phase of the task decides."""

    sensor: str
    fault: str
    onset: int | None
    announced: bool


class Episode(Struct, frozen=True):
    """How one episode went.

    Attributes:
        condition: its name.
        episode: its number; it has the same scene under every condition.
        success: whether the task was done; never if it broke off.
        steps: control steps it lasted.
        reward: sum over the episode.
        error: why it broke off, such as a simulation that diverged; or nothing.
        jerk: ‖a[t] − 2a[t−1] + a[t−2]‖ of the actions, t the first step of a fault, or the reference step where nothing
            fails; None if the episode ended before, or t is below 2.
        detected: control steps from the first step of the condition's only fault until a monitor no longer trusted the
            sensor; None if it did not, or has nothing to find.
        alarms: how often a monitor stopped trusting a sensor that was healthy.
        watched: control steps that a monitor judged.
        peak_force: the largest force on the wrist [N]; None in environments of others.
    """

    condition: Name
    episode: Count
    success: bool
    steps: Count
    reward: Number
    error: str = ""
    jerk: Annotated[float, Meta(ge=0, le=1e300)] | None = None
    detected: Count | None = None
    alarms: Count = 0
    watched: Count = 0
    peak_force: Annotated[float, Meta(ge=0, le=1e300)] | None = None


class ConditionResult(Struct, frozen=True, kw_only=True, dict=True):
    """What failed, and how the episodes went; None where there is nothing to tell.

    Attributes:
        condition: its name.
        group: all, missing (announced, from the start), midway (announced, later on) or fault.
        plan: what fails, as text.
        sensor: of exactly one fault, its sensor; likewise `fault`, `severity` and `announced`.
        onset: the first control step at which something may fail; None if nothing does, or if a phase decides.
        live: the sensors that have no fault.
        dead_from: sensor → control step from which on it is missing, where nothing else happens.
        n: episodes that count; `successes` of them, a share `success` with the 95 % interval (Wilson) of `success_low`
            and `success_high`.
        retention: success / success with all sensors.
        difference: success minus that with all sensors, on the same scenes; its 95 % interval is `difference_low` and
            `difference_high`.
        steps: mean length of an episode; `steps_to_success` of those that succeeded.
        reward: mean sum of rewards.
        diverged: episodes that broke off, as the simulation diverged or the action was not finite; they are failures.
        jerk: mean of `Episode.jerk`.
        detected: share of the episodes in which a monitor no longer trusted the sensor that had failed.
        delay: median of the control steps that it took.
        false_alarms: how often a monitor stopped trusting a healthy sensor.
        watched: control steps that a monitor judged.
        peak_force: median of the largest forces on the wrist in each episode [N]; of one in twenty it is above
            `peak_force_95`.
        episodes: those that count, by number; not part of the files of conditions.
    """

    condition: Name
    group: Group
    plan: str = ""
    sensor: Name | None = None
    fault: Name | None = None
    severity: Share | None = None
    onset: Count | None = None
    announced: bool | None = None
    live: Keys
    dead_from: dict[Name, Count] = {}
    n: Count = 0
    successes: Count = 0
    success: Share | None = None
    success_low: Share | None = None
    success_high: Share | None = None
    retention: Number | None = None
    difference: Number | None = None
    difference_low: Number | None = None
    difference_high: Number | None = None
    steps: Number | None = None
    steps_to_success: Number | None = None
    reward: Number | None = None
    diverged: Count = 0
    jerk: Number | None = None
    detected: Share | None = None
    delay: Number | None = None
    false_alarms: Count | None = None
    watched: Count | None = None
    peak_force: Number | None = None
    peak_force_95: Number | None = None
    episodes: tuple[Episode, ...] = ()

    @classmethod
    def blank(cls, condition: Condition) -> "ConditionResult":
        """Of a condition that was not played yet."""
        only = condition.event
        return cls(
            condition=condition.name,
            group=condition.group,
            plan=str(condition.plan),
            sensor=only and only.sensor,
            fault=only and only.fault.name,
            severity=only and only.fault.severity,
            onset=condition.onset,
            announced=only and only.is_announced,
            live=condition.live,
            dead_from={event.sensor: event.step for event in condition.plan if condition.only_missing},
        )

    def __post_init__(self) -> None:
        given = (self.sensor, self.fault, self.severity, self.announced)
        if any(part is None for part in given) and any(part is not None for part in given):
            raise ValueError("sensor, fault, severity and announced belong together")

    @property
    def rate(self) -> float:
        """Share of the episodes that succeeded; 0 without any."""
        return self.success or 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of it; everything is possible without any episode."""
        return self.success_low or 0.0, 1.0 if self.success_high is None else self.success_high

    @property
    def change(self) -> Estimate | None:
        """Success minus that with all sensors, on the same scenes."""
        if self.difference is None or self.difference_low is None or self.difference_high is None:
            return None
        return Estimate(self.difference, self.difference_low, self.difference_high)

    @property
    def event(self) -> Event | None:
        """The fault, where there is exactly one and it is more than a sensor that is missing."""
        if self.group != "fault" or self.sensor is None or self.fault is None:
            return None
        return Event(self.sensor, self.fault, self.onset, bool(self.announced))

    @cached_property
    def won(self) -> list[bool]:
        """Success by scene."""
        return [episode.success for episode in self.episodes]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the episodes, as plain JSON."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "episodes"}


_WHAT = ConditionResult.__struct_fields__[: ConditionResult.__struct_fields__.index("n")]  # what failed, no results


class Evaluated(Struct, frozen=True, kw_only=True):
    """The policy of an evaluation: its name, the hash of its weights, its sensors, and the card in its file."""

    name: Name
    weights: str | None = None
    keys: Annotated[Keys, Meta(min_length=1)]
    card: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"keys must differ, got {', '.join(self.keys)}")


class Record(Struct, frozen=True, kw_only=True):
    """The content of `evaluation.json`.

    Attributes:
        format: of the folder.
        command: that asked for the evaluation.
        policy: what was evaluated.
        world: options of the worlds that it was played in.
        note: what people should know, such as a renderer that the policy was not trained on.
        seed: of the scenes.
        episodes: asked for, per condition.
        reference: the control step at which jerk is noted where nothing fails.
        monitor: how the monitor was calibrated; None without one.
        device: of the network.
        num_envs: episodes simulated at a time.
        machine: what it ran on.
        versions: of the packages.
        complete: whether everything that was asked for is there.
        scenes: that are finished under every condition.
        seconds: that it took.
        written: when, ISO 8601.
        conditions: what came out, without the episodes.
    """

    format: Literal[4] = FORMAT
    command: str = ""
    policy: Evaluated
    world: dict[str, Any]
    note: str = ""
    seed: Annotated[int, Meta(ge=0)]
    episodes: Annotated[int, Meta(ge=1, le=2**53)]
    reference: Count = 0
    monitor: dict[str, Any] | None = None
    device: str = ""
    num_envs: Count = 0
    machine: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    complete: bool = False
    scenes: Count = 0
    seconds: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    written: str = ""
    conditions: Annotated[tuple[ConditionResult, ...], Meta(max_length=100_000)] = ()

    @property
    def asked_policy(self) -> str:
        """What the command calls the policy: a name or a path."""
        try:
            words = shlex.split(self.command)
        except ValueError:
            words = []
        return words[2] if len(words) > 2 and not words[2].startswith("-") else self.policy.name

    @property
    def seen_faults(self) -> frozenset[str] | None:
        """The faults that the policy met in its training, such as `rgb:freeze`; None where its card does not say."""
        seen, options = self.policy.card.get("seen_faults"), self.policy.card.get("options")
        if isinstance(seen, list):
            return frozenset(map(str, seen))
        groups = options.values() if isinstance(options, dict) else ()
        asked = [group["faults"] for group in groups if isinstance(group, dict) and "faults" in group]
        return frozenset() if asked and not any(asked) else None


@dataclass(frozen=True)
class Evaluation:
    """A policy and its results, as a folder keeps them.

    Attributes:
        folder: where.
        record: what was asked.
        conditions: name → result, in the order of the evaluation.
        played: condition → episodes that were played, also those that do not count yet.
        label: the policy's name; with the folder's where two have the same.
    """

    folder: Path
    record: Record
    conditions: Mapping[str, ConditionResult]
    played: Mapping[str, int]
    label: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The policy's sensors."""
        return self.record.policy.keys

    @property
    def clean(self) -> ConditionResult | None:
        """All sensors, nothing fails."""
        return self.conditions.get("all")

    @property
    def scenes(self) -> int:
        """Scenes that are finished under every condition."""
        return next(iter(self.conditions.values())).n

    def of(self, *groups: str) -> list[ConditionResult]:
        """The conditions of these groups."""
        return [condition for condition in self.conditions.values() if condition.group in groups]


def finished_scenes(conditions: Iterable[str], episodes: Iterable[Episode]) -> int:
    """How many episodes, from number 0 on without a gap, have been played under every one of these conditions.

    Only these count: of the others the short ones are there, mostly successes, and the long ones are not yet.
    """
    played = {(episode.condition, episode.episode) for episode in episodes}
    names, count = list(conditions), 0
    while names and all((name, count) in played for name in names):
        count += 1
    return count


def summarise(conditions: Sequence[ConditionResult], episodes: Sequence[Episode]) -> list[ConditionResult]:
    """The same conditions with what these episodes say, over the scenes that every condition has finished."""
    scenes = finished_scenes((one.condition for one in conditions), episodes)
    of: dict[str, list[Episode]] = {one.condition: [] for one in conditions}
    for episode in sorted(episodes, key=lambda episode: episode.episode):
        if episode.episode < scenes and episode.condition in of:
            of[episode.condition].append(episode)
    clean = [episode.success for episode in of.get("all", ())]
    return [_summary(one, of[one.condition], clean) for one in conditions]


def _summary(one: ConditionResult, episodes: Sequence[Episode], clean: Sequence[bool]) -> ConditionResult:
    blank = {name: getattr(one, name) for name in _WHAT}
    if not episodes:
        return ConditionResult(**blank)
    n, won = len(episodes), [episode.success for episode in episodes]
    rate, full = sum(won) / n, sum(clean) / n
    low, high = wilson(sum(won), n)
    jerks = [episode.jerk for episode in episodes if episode.jerk is not None]
    found = [episode.detected for episode in episodes if episode.detected is not None]
    watched = sum(episode.watched for episode in episodes)
    sought = bool(watched) and one.announced is False
    change = paired_difference(clean, won) if clean and one.condition != "all" else (None, None, None)
    peaks = [episode.peak_force for episode in episodes if episode.peak_force is not None]
    lengths = [episode.steps for episode in episodes if episode.success]
    return ConditionResult(
        **blank,
        n=n,
        successes=sum(won),
        success=rate,
        success_low=low,
        success_high=high,
        retention=rate / full if full else None,
        difference=change[0],
        difference_low=change[1],
        difference_high=change[2],
        steps=fmean(episode.steps for episode in episodes),
        steps_to_success=fmean(lengths) if lengths else None,
        reward=fmean(episode.reward for episode in episodes),
        diverged=sum(bool(episode.error) for episode in episodes),
        jerk=fmean(jerks) if jerks else None,
        detected=len(found) / n if sought else None,
        delay=median(found) if sought and found else None,
        false_alarms=sum(episode.alarms for episode in episodes) if watched else None,
        watched=watched or None,
        peak_force=median(peaks) if peaks else None,
        peak_force_95=float(np.quantile(peaks, 0.95)) if peaks else None,
        episodes=tuple(episodes),
    )
