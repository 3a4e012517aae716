"""What an evaluation has measured: conditions and their episodes."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple


class Episode(NamedTuple):
    """How one episode went; None where it was not noted.

    Attributes:
        success: whether the task was done.
        steps: control steps it lasted.
        error: why it broke off, or nothing.
        jerk: of the actions at the onset.
        detected: control steps from the onset until the monitor flagged the struck sensor.
        alarms: how often the monitor switched off a healthy sensor.
        watched: control steps in which it looked on.
    """

    success: bool
    steps: int
    error: str = ""
    jerk: float | None = None
    detected: int | None = None
    alarms: int | None = None
    watched: int | None = None


@dataclass(frozen=True)
class Condition:
    """What failed, and how the episodes went.

    Attributes:
        name: such as `no-rgb@15` or `rgb:freeze(0.5)@5`.
        group: all, dead (announced, from the start), dying (announced, later on) or fault.
        live: sensors that nothing befell.
        dead_from: sensor → control step from which on it was announced dead.
        strike: (sensor, fault, onset, announced) of conditions with exactly one strike, else None; all of them texts.
        severity: of that strike.
        episodes: of the scenes 0, 1, … that are finished under every condition.
    """

    name: str
    group: str
    live: frozenset[str]
    dead_from: Mapping[str, int]
    event: tuple[str, str, str, str] | None
    severity: float | None
    episodes: tuple[Episode, ...]

    @cached_property
    def n(self) -> int:
        """Episodes that count."""
        return len(self.episodes)

    @cached_property
    def won(self) -> int:
        """How many of them succeeded."""
        return sum(episode.success for episode in self.episodes)

    @property
    def success(self) -> float:
        """Their share."""
        return self.won / self.n

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of it."""
        from robofuse.stats import wilson

        return wilson(self.won, self.n)

    @property
    def jerk(self) -> float | None:
        """Mean jerk at the onset over the episodes that have one."""
        found = [episode.jerk for episode in self.episodes if episode.jerk is not None]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Evaluation:
    """One policy, measured.

    Attributes:
        label: the policy's name; with the folder's where two have the same.
        folder: where it was read from.
        record: `evaluation.json`.
        conditions: by name, in the order of the file.
        played: condition → episodes in `episodes.csv`, also those that do not count yet.
        columns: of both tables.
    """

    label: str
    folder: Path
    record: Mapping[str, Any]
    conditions: Mapping[str, Condition]
    played: Mapping[str, int]
    columns: frozenset[str]

    @property
    def keys(self) -> tuple[str, ...]:
        """The policy's sensors."""
        return tuple(self.record["policy"]["keys"])

    @property
    def clean(self) -> Condition | None:
        """All sensors, nothing fails."""
        return self.conditions.get("all")

    @property
    def scenes(self) -> int:
        """Scenes that are finished under every condition."""
        return next(iter(self.conditions.values())).n

    @property
    def policy(self) -> str:
        """What the evaluation's command calls the policy: a name or a path."""
        try:
            words = shlex.split(str(self.record.get("command", "")))
        except ValueError:
            words = []
        return words[2] if len(words) > 2 and not words[2].startswith("-") else self.record["policy"]["name"]

    def of(self, *groups: str) -> list[Condition]:
        """The conditions of these groups."""
        return [condition for condition in self.conditions.values() if condition.group in groups]
