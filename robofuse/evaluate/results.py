"""The results of an evaluation, and the folder that keeps them.

`evaluation.json` says what was asked and what came out, `episodes.csv` how every episode went; these two are read
again. `conditions.csv` has the conditions as a table, for other programs. Whatever is read is checked: folders come
from strangers.
"""

import csv
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from robofuse.errors import InputError
from robofuse.evaluate.conditions import Condition, Group
from robofuse.files import write_atomic
from robofuse.stats import Estimate, paired_difference, retention, wilson

RECORD, EPISODES, CONDITIONS, HEATMAP = "evaluation.json", "episodes.csv", "conditions.csv", "heatmap.png"
FORMAT = 3
MAX_SENSORS = 16  # there are 2^M sets of them
# What must be equal for episodes of two calls to belong together.
IDENTITY = ("policy", "world", "seed", "reference", "monitor", "versions")

T = TypeVar("T")
Name = Annotated[str, Meta(min_length=1, max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]  # finite
Share = Annotated[float, Meta(ge=0, le=1)]
Keys = Annotated[tuple[Name, ...], Meta(max_length=MAX_SENSORS)]


class Event(NamedTuple):
    """The one fault of a condition, whatever its severity.

    Attributes:
        sensor: which.
        fault: its name.
        onset: control step at which it sets in; None where a phase of the task decides.
        announced: whether `available` tells the policy.
    """

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
            fails; None if it did not come to that, or t is not at least 2.
        detected: control steps from the first step of the condition's only fault until a monitor no longer trusted the
            sensor; None if it did not, or has nothing to find.
        alarms: how often a monitor stopped trusting a sensor that was healthy.
        watched: control steps in which a monitor looked on.
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


class ConditionResult(Struct, frozen=True, kw_only=True, dict=True):
    """What failed, and how the episodes went; None where there is nothing to tell.

    Attributes:
        condition: its name.
        group: all, missing (announced, from the start), midway (announced, later on) or fault.
        plan: what fails, as text.
        sensor: where exactly one fault strikes, its sensor.
        fault: the name of that fault.
        severity: of that fault.
        onset: the first control step at which something may fail; None if nothing does, or if a phase tells when.
        announced: whether `available` tells of the one fault.
        live: the sensors that nothing befalls.
        dead_from: sensor → control step from which on it is missing, where nothing else happens.
        n: episodes that count.
        successes: how many of them succeeded.
        success: their share.
        success_low: lower end of its 95 % interval (Wilson).
        success_high: upper end.
        retention: success / success with all sensors.
        difference: success minus that with all sensors, on the same scenes.
        difference_low: lower end of its 95 % interval.
        difference_high: upper end.
        steps: mean length of an episode.
        steps_to_success: mean length of those that succeeded.
        reward: mean sum of rewards.
        diverged: episodes that broke off, as the simulation diverged or the action was not finite; they are failures.
        jerk: mean of `Episode.jerk`.
        detected: share of the episodes in which a monitor no longer trusted the sensor that had failed.
        delay: median of the control steps that it took.
        false_alarms: how often a monitor stopped trusting a healthy sensor.
        watched: control steps in which a monitor looked on.
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
    episodes: tuple[Episode, ...] = ()

    @classmethod
    def blank(cls, condition: Condition) -> "ConditionResult":
        """Of a condition that nobody has played yet."""
        only = condition.only
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
            dead_from={event.sensor: event.step for event in condition.plan if condition.silent},
        )

    def __post_init__(self) -> None:
        """ValueError for half a fault."""
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
    """The policy of an evaluation.

    Attributes:
        name: what people call it.
        weights: hash of its weights; None of what has none.
        keys: its sensors.
        card: what its file says of it.
    """

    name: Name
    weights: str | None = None
    keys: Annotated[Keys, Meta(min_length=1)]
    card: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """ValueError for a sensor that is there twice."""
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"keys must differ, got {', '.join(self.keys)}")


class Record(Struct, frozen=True, kw_only=True):
    """`evaluation.json`.

    Attributes:
        format: of the folder.
        command: that asked for the evaluation.
        policy: what was evaluated.
        world: options of the worlds that it was played in.
        note: what people should know, such as a renderer that the policy was not trained on.
        seed: of the scenes.
        episodes: asked for, per condition.
        reference: the control step at which jerk is noted where nothing fails.
        monitor: how the monitor that looked on was calibrated; None without one.
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

    format: Literal[3] = FORMAT
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

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """An evaluation with at least one scene that is finished under every condition.

        Raises:
            ValueError: a file is missing or says something wrong; names it, and what is wrong.
        """
        record, path = _read_record(folder), folder / EPISODES
        if not record.conditions:
            raise InputError(f"{folder / RECORD} has no conditions")
        episodes = read_episodes(folder)
        names = {row.condition: row for row in record.conditions}
        if len(names) < len(record.conditions):
            raise InputError(f"{folder / RECORD} has a condition twice")
        if stray := sorted({episode.condition for episode in episodes} - set(names)):
            raise InputError(f"{path} has conditions that {RECORD} lacks: {', '.join(stray)}")
        rows = summarise(record.conditions, episodes)
        if not rows[0].n:
            raise InputError(f"{folder}: no scene is finished under every condition yet; let `robofuse evaluate` go on")
        for claimed, row in zip(record.conditions, rows, strict=True):
            if (claimed.n, claimed.successes) != (row.n, row.successes):
                raise InputError(
                    f"{folder / RECORD}: {row.condition} has {claimed.successes} successes of {claimed.n}, but "
                    f"{row.successes} of {row.n} in {EPISODES}; if it is being written just now, try again"
                )
        played = dict.fromkeys(names, 0)
        for episode in episodes:
            played[episode.condition] += 1
        return cls(folder, record, {row.condition: row for row in rows}, played, record.policy.name)

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


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """The evaluations in these folders, or in their sub-folders; all of the same scenes, each with its own label.

    Raises:
        ValueError: no evaluation there, a file that says something wrong, or evaluations of different scenes.
    """
    found: dict[Path, Evaluation] = {}
    for folder in folders:
        inside = [folder] if (folder / RECORD).is_file() else []
        inside = inside or sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
        if not inside:
            raise InputError(
                f"no evaluation: {folder / RECORD} does not exist; `robofuse evaluate` writes such folders"
            )
        found |= {one: Evaluation.read(one) for one in inside if one not in found}
    first, *others = found.values()
    for other in others:
        for what, before, now in (
            ("seed", first.record.seed, other.record.seed),
            *((key, first.record.world.get(key), other.record.world.get(key)) for key in ("task", "robot")),
        ):
            if before != now:
                raise InputError(
                    f"{other.folder} has the {what} {now}, {first.folder} has {before}: policies are put side by side "
                    "on the same scenes only; evaluate both with the same seed, task and robot, or report them apart"
                )
    names = [one.label for one in found.values()]
    return [
        replace(one, label=f"{one.label} ({one.folder.name})") if names.count(one.label) > 1 else one
        for one in found.values()
    ]


def finished_scenes(conditions: Iterable[str], episodes: Iterable[Episode]) -> int:
    """How many episodes, from number 0 on without a gap, have been played under every one of these conditions.

    Only these count. Of the episodes beyond them the short ones are there and the long ones are not, and the short
    ones are mostly successes.
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
    low, high = wilson(sum(won), n)
    jerks = [episode.jerk for episode in episodes if episode.jerk is not None]
    found = [episode.detected for episode in episodes if episode.detected is not None]
    watched = sum(episode.watched for episode in episodes)
    sought = bool(watched) and one.announced is False
    change = paired_difference(clean, won) if clean and one.condition != "all" else (None, None, None)
    lengths = [episode.steps for episode in episodes if episode.success]
    return ConditionResult(
        **blank,
        n=n,
        successes=sum(won),
        success=sum(won) / n,
        success_low=low,
        success_high=high,
        retention=retention(sum(won) / n, sum(clean) / n) if clean else None,
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
        episodes=tuple(episodes),
    )


def read_finished(folder: Path, record: Record, asked: Iterable[tuple[str, int]]) -> tuple[list[Episode], float]:
    """The episodes that an earlier call has finished, and the seconds it took.

    Args:
        folder: of the evaluation; may not exist.
        record: of this call.
        asked: condition and number of every episode that this call is to play.

    Raises:
        ValueError: the folder holds something else; says what differs.
    """
    if not (folder / RECORD).exists():
        if (folder / EPISODES).exists():
            raise InputError(f"{folder} has an {EPISODES} but no {RECORD}; give another --out")
        return [], 0.0
    try:
        old = _read_record(folder)
        if told := _differences(old, record):
            raise InputError(f"{folder} holds another evaluation: {told}")
        episodes = read_episodes(folder) if (folder / EPISODES).exists() else []
    except InputError as error:
        raise InputError(f"{error}; give another --out") from None
    known = set(asked)
    stray = [episode for episode in episodes if (episode.condition, episode.episode) not in known]
    if stray:
        raise InputError(
            f"{folder} holds episode {stray[0].episode} under {stray[0].condition}, which is not asked for now; "
            "ask for at least the conditions and episodes that are there, or give another --out"
        )
    return episodes, old.seconds


def write_results(folder: Path, record: Record, rows: Sequence[ConditionResult], episodes: Iterable[Episode]) -> None:
    """Write everything but the heat map, each file at once."""
    plain = [row.to_dict() for row in rows]
    told = _json(record) | {"conditions": plain}
    write_atomic(folder / RECORD, json.dumps(told, indent=1, allow_nan=False) + "\n")
    rank = {row.condition: index for index, row in enumerate(rows)}
    ordered = sorted(episodes, key=lambda episode: (rank[episode.condition], episode.episode))
    names = Episode.__struct_fields__
    table = [[_cell(getattr(episode, name)) for name in names] for episode in ordered]
    write_atomic(folder / EPISODES, csv_text(names, table))
    write_atomic(folder / CONDITIONS, csv_text(plain[0], [map(_cell, row.values()) for row in plain]))


def csv_text(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """What a cell of a CSV file says: 0 and 1 for truth, sensors joined by +, `rgb@10` for what is missing."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple):
        return "+".join(value)
    return " ".join(f"{key}@{step}" for key, step in value.items()) if isinstance(value, dict) else value


def _read_record(folder: Path) -> Record:
    path = folder / RECORD
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not an evaluation: {error}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise InputError(f"{path} has format {found}, this robofuse reads {FORMAT}; evaluate again")
    return _checked(data, Record, f"{path} is not an evaluation")


def read_episodes(folder: Path) -> list[Episode]:
    """Every episode in the folder, in the order of the file. ValueError for a file that says something wrong."""
    path, names = folder / EPISODES, Episode.__struct_fields__
    found: dict[tuple[str, int], Episode] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, restkey="")
            if sorted(reader.fieldnames or ()) != sorted(names):
                found_names = ", ".join(reader.fieldnames or ["none"])
                raise InputError(f"{path} must have the columns {', '.join(names)}; it has {found_names}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                given = {name: cell for name, cell in row.items() if cell not in (None, "")}
                episode = _checked(given, Episode, where, strict=False)
                if "" in row:
                    raise InputError(f"{where}: more cells than columns")
                if (episode.condition, episode.episode) in found:
                    raise InputError(f"{where}: episode {episode.episode} under {episode.condition} is there twice")
                found[episode.condition, episode.episode] = episode
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return list(found.values())


def _checked(data: object, kind: type[T], where: str, strict: bool = True) -> T:
    """Data as this type; InputError that says where it does not fit."""
    try:
        return msgspec.convert(data, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        at = f"{place.strip('.`')}: " if place else ""
        raise InputError(f"{where}: {at}{what[0].lower()}{what[1:]}") from None


def _differences(old: Record, new: Record) -> str:
    """In which parts of `IDENTITY` they differ, down to the entries of dictionaries."""
    told = []
    before, now = (json.loads(json.dumps(_json(one))) for one in (old, new))  # as both would be read
    for name in IDENTITY:
        a, b = before[name], now[name]
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            parts = [part for part in {**a, **b} if a.get(part) != b.get(part)]
            told += [f"{name}.{part} {_short(a.get(part))}, now {_short(b.get(part))}" for part in parts]
        else:
            told.append(f"{name} {_short(a)}, now {_short(b)}")
    return "; ".join(told)


def _json(record: Record) -> dict[str, Any]:
    """Without the conditions."""
    plain = {name: getattr(record, name) for name in record.__struct_fields__ if name != "conditions"}
    return plain | {"policy": msgspec.structs.asdict(record.policy)}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
