"""One fault of one sensor, and when it is there."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.faults.fault import Fault


@dataclass(frozen=True)
class FaultEvent:
    """One fault of one sensor, and when it is there.

    Attributes:
        sensor: key of the observation.
        fault: what happens to it.
        step: control step from which on, or, with `phase`, how many after the phase was first reached.
        until: the first step is drawn per episode, uniformly from `step` to `until`; None for exactly `step`.
        phase: of the task, such as "contact"; the fault waits until it is reached. None for the episode's start.
        duration: control steps; None for the rest of the episode.
        bursts: mean lengths of a burst and of the gap after it [control steps], geometric, while the fault lasts; None
            for what is the fault's nature.
        announced: whether `available` tells; None for what is usual for the fault.
    """

    sensor: str
    fault: Fault
    step: int = 0
    until: int | None = None
    phase: str | None = None
    duration: int | None = None
    bursts: tuple[float, float] | None = None
    announced: bool | None = None

    def __post_init__(self) -> None:
        """ValueError for what has no meaning."""
        if not isinstance(self.fault, Fault):
            raise InputError(f"fault of {self.sensor!r} must be a robofuse.faults.Fault, got {self.fault!r}")
        what = f"of {self.sensor}:{self.fault.name}"
        whole(self.step, f"step {what}", 0)
        if self.until is not None:
            whole(self.until, f"last first step {what}", self.step)
        if self.duration is not None:
            whole(self.duration, f"duration {what}", 1)
        if self.phase is not None and not isinstance(self.phase, str):
            raise InputError(f"phase {what} must be a name, got {self.phase!r}")
        if self.announced not in (None, True, False):
            raise InputError(f"announced {what} must be true or false, got {self.announced!r}")
        if self.bursts is not None:
            if self.fault.bursts() is not None:
                raise InputError(f"{self.fault.name} comes in bursts of its own; leave those {what} out")
            try:
                on, gap = (float(length) for length in self.bursts)
            except (TypeError, ValueError):
                raise InputError(f"bursts {what} are two lengths, of bursts and of gaps, got {self.bursts!r}") from None
            if not (1.0 <= on < float("inf") and 1.0 <= gap < float("inf")):
                raise InputError(f"bursts and gaps {what} must last at least 1 step on average, got {self.bursts}")
            object.__setattr__(self, "bursts", (on, gap))

    @property
    def is_announced(self) -> bool:
        """Whether `available` tells of it."""
        return type(self.fault).announced if self.announced is None else self.announced

    def __str__(self) -> str:
        """As `Plan.parse` reads it."""
        given = [_number(self.fault.severity)] if self.fault.severity != 1.0 else []
        defaults = {field.name: field.default for field in fields(self.fault)}
        given += [
            f"{name}={_number(getattr(self.fault, name))}"
            for name, default in defaults.items()
            if name != "severity" and getattr(self.fault, name) != default
        ]
        text = f"{self.sensor}:{self.fault.name}" + (f"({', '.join(given)})" if given else "")
        first = str(self.step) + (f"..{self.until}" if self.until is not None else "")
        when = first if self.phase is None else self.phase if first == "0" else f"{self.phase}/{first}"
        if self.duration is not None:
            when += f" for {self.duration}"
        if self.bursts is not None:
            when += f" in {_number(self.bursts[0])}~{_number(self.bursts[1])}"
        text += f"@{when}" if when != "0" else ""
        return text + ("" if self.announced is None else "!" if self.announced else "?")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without what is default."""
        found: dict[str, Any] = {"sensor": self.sensor, "fault": self.fault.name}
        found |= {
            f.name: getattr(self.fault, f.name) for f in fields(self.fault) if f.default != getattr(self.fault, f.name)
        }
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default:
                found[field.name] = list(value) if isinstance(value, tuple) else value
        return found


def _number(value: float) -> str:
    """The shortest text that is read as the same number."""
    short = f"{value:g}".replace("e+", "e")
    return short if float(short) == value else repr(value).replace("e+", "e")


def make_fault(kind: type[Fault], given: Mapping[str, Any]) -> Fault:
    """A fault with these numbers; ValueError for one that it does not have."""
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise InputError(f"{kind.name} has no {name!r}; it has {', '.join(known)}")
    return kind(**given)


def contradiction(first: FaultEvent, second: FaultEvent) -> str:
    """Why two strikes cannot both be meant, or an empty string."""
    if first.sensor != second.sensor or not first.fault.severity or not second.fault.severity:
        return ""
    if not _overlap(first, second):
        return ""
    if first.fault.name == second.fault.name:
        return f"{second} overlaps with {first}, the same fault of the same sensor"
    for gone, other in ((first, second), (second, first)):
        if gone.fault.silences and gone.bursts is None and gone.fault.bursts() is None:
            return f"{other} has nothing left to change while {gone} lasts"
    return ""


def _overlap(first: FaultEvent, second: FaultEvent) -> bool:
    """Whether both must be there at the same step; phases begin nobody knows when."""
    if first.phase != second.phase:
        return any(event.phase is None and event.duration is None for event in (first, second))
    spans = []
    for event in (first, second):
        last = event.until if event.until is not None else event.step
        spans.append((event.step, float("inf") if event.duration is None else last + event.duration))
    return spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1]
