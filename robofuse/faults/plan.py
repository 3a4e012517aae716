"""What breaks, and when: a plan is data, as a dataclass, as one line of text, and as YAML."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from robofuse.checks import whole
from robofuse.faults.catalogue import faults_for, find_fault
from robofuse.faults.fault import Fault
from robofuse.sensors import Kind, Sensor


@dataclass(frozen=True)
class Strike:
    """One fault of one sensor, and when it is there.

    Attributes:
        sensor: key of the observation.
        fault: what happens to it.
        step: control step from which on, or, with `phase`, how many after the phase was first reached.
        until: the first step is drawn per episode, uniformly from `step` to `until`; None for exactly `step`.
        phase: of the task, such as "contact"; the fault waits until it is reached. None for the episode's start.
        lasts: control steps; None for the rest of the episode.
        bursts: mean lengths of a burst and of the gap after it [control steps], geometric, while the fault lasts; None
            for what is the fault's nature.
        announced: whether `available` tells; None for what is usual for the fault.
    """

    sensor: str
    fault: Fault
    step: int = 0
    until: int | None = None
    phase: str | None = None
    lasts: int | None = None
    bursts: tuple[float, float] | None = None
    announced: bool | None = None

    def __post_init__(self) -> None:
        """ValueError for what has no meaning."""
        if not isinstance(self.fault, Fault):
            raise ValueError(f"fault of {self.sensor!r} must be a robofuse.faults.Fault, got {self.fault!r}")
        what = f"of {self.sensor}:{self.fault.name}"
        whole(self.step, f"step {what}", 0)
        if self.until is not None:
            whole(self.until, f"last first step {what}", self.step)
        if self.lasts is not None:
            whole(self.lasts, f"duration {what}", 1)
        if self.phase is not None and not isinstance(self.phase, str):
            raise ValueError(f"phase {what} must be a name, got {self.phase!r}")
        if self.announced not in (None, True, False):
            raise ValueError(f"announced {what} must be true or false, got {self.announced!r}")
        if self.bursts is not None:
            if self.fault.bursts() is not None:
                raise ValueError(f"{self.fault.name} comes in bursts of its own; leave those {what} out")
            try:
                on, gap = (float(length) for length in self.bursts)
            except (TypeError, ValueError):
                raise ValueError(f"bursts {what} are two lengths, of bursts and of gaps, got {self.bursts!r}") from None
            if not (1.0 <= on < float("inf") and 1.0 <= gap < float("inf")):
                raise ValueError(f"bursts and gaps {what} must last at least 1 step on average, got {self.bursts}")
            object.__setattr__(self, "bursts", (on, gap))

    @property
    def told(self) -> bool:
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
        if self.lasts is not None:
            when += f" for {self.lasts}"
        if self.bursts is not None:
            when += f" in {_number(self.bursts[0])}~{_number(self.bursts[1])}"
        text += f"@{when}" if when != "0" else ""
        return text + ("" if self.announced is None else "!" if self.announced else "?")

    def plain(self) -> dict[str, Any]:
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


_WHEN = {field.name for field in fields(Strike)[2:]}
_ITEM = re.compile(
    r"""\s*(?P<sensors>[^:+@!?()]*)(?P<colon>:)?\s*(?P<fault>[^+@!?()\s]*)\s*
    (?P<call>\((?P<given>[^()]*)\))?\s*(?P<at>@(?P<when>[^+!?]*))?\s*(?P<told>[!?])?\s*""",
    re.VERBOSE,
)
_START = re.compile(
    r"""\s*(?:(?P<phase>[a-z_][a-z0-9_]*)(?:\s*/\s*(?P<after>\d{1,9}))?|(?P<step>\d{1,9}))\s*(?:\.\.\s*(?P<until>\d{1,9})\s*)?
    (?:\bfor\s+(?P<lasts>\d{1,9})\s*)?(?:\bin\s+(?P<on>\d+(?:\.\d*)?(?:e\d+)?)\s*~\s*(?P<off>\d+(?:\.\d*)?(?:e\d+)?)\s*)?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Plan:
    """What breaks in every episode. As text: strikes joined by +, such as `rgb:blackout@20+force:drift(0.5)`.

    A strike is `sensors:fault(severity, name=value)@when`, all after the fault optional; several sensors are divided by
    commas. When: `20` from that step on; `10..30` from one of these, drawn per episode; `contact` from that phase of
    the task on, `contact/5` five steps later; then ` for 15` steps; then ` in 5~20`, in bursts of 5 steps with gaps of
    20, on average. An `!` at the end announces it in `available`, a `?` keeps it silent.

    Attributes:
        strikes: in the order in which they change a reading.
    """

    strikes: tuple[Strike, ...] = ()

    def __post_init__(self) -> None:
        """ValueError for strikes that contradict each other."""
        object.__setattr__(self, "strikes", tuple(self.strikes))
        for index, strike in enumerate(self.strikes):
            if not isinstance(strike, Strike):
                raise ValueError(f"a plan has robofuse.faults.Strike, got {strike!r}")
            for other in self.strikes[:index]:
                if problem := _contradiction(other, strike):
                    raise ValueError(problem)

    def __iter__(self) -> Iterator[Strike]:
        """The strikes."""
        return iter(self.strikes)

    def __len__(self) -> int:
        """How many strikes."""
        return len(self.strikes)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return "+".join(map(str, self.strikes))

    def at(self, severity: float) -> Self:
        """The same plan at another severity of every fault."""
        return replace(self, strikes=tuple(replace(s, fault=replace(s.fault, severity=severity)) for s in self.strikes))

    def check(self, sensors: Sequence[Sensor], phases: Sequence[str] = ()) -> None:
        """Whether it fits sensors and the phases of a task; ValueError says what there is."""
        by_key = {sensor.key: sensor for sensor in sensors}
        for strike in self.strikes:
            if strike.sensor not in by_key:
                raise ValueError(f"unknown sensor {strike.sensor!r} in {strike}; sensors: {', '.join(by_key)}")
            sensor = by_key[strike.sensor]
            if sensor.kind not in strike.fault.kinds:
                names = ", ".join(faults_for(sensor.kind))
                raise ValueError(
                    f"{strike.fault.name} cannot befall {sensor.key!r}, which is of kind {sensor.kind}; faults: {names}"
                )
            if strike.phase is not None and strike.phase not in phases:
                known = ", ".join(phases) or "none; a World has those of its task, wrappers have none"
                raise ValueError(f"unknown phase {strike.phase!r} in {strike}; phases: {known}")

    @classmethod
    def parse(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """A plan from a line of text.

        Args:
            text: see the class; empty for none.
            sensors: that exist; a fault's name means what it is for that kind of sensor.

        Raises:
            ValueError: says at which character (the first is 1) and what would be right.
        """
        strikes: list[tuple[Strike, int]] = []
        start = 0
        while start < len(text) and text.strip():
            match = _ITEM.match(text, start)
            assert match is not None  # everything in it is optional
            if match.end() < len(text) and text[match.end()] != "+":
                raise _Misread(text, match.end(), "expected + and another fault, or the end")
            for strike, place in _strikes(text, match, sensors):
                for other, before in strikes:
                    if problem := _contradiction(other, strike):
                        raise _Misread(text, place, f"{problem} (the other at character {before + 1})")
                strikes.append((strike, place))
            start = match.end() + 1
            if start == len(text):
                raise _Misread(text, start - 1, "expected another fault after the +")
        return cls(tuple(strike for strike, _ in strikes))

    def plain(self) -> list[dict[str, Any]]:
        """As lists and dictionaries, for YAML and JSON."""
        return [strike.plain() for strike in self.strikes]

    @classmethod
    def of(cls, plain: Iterable[Mapping[str, Any]], sensors: Sequence[Sensor]) -> Self:
        """From what `plain` gave; ValueError names the entry that is wrong."""
        kinds: dict[str, Kind] = {sensor.key: sensor.kind for sensor in sensors}
        strikes: list[Strike] = []
        for number, entry in enumerate(plain, start=1):
            try:
                given = dict(entry)
                key, name = str(given.pop("sensor")), str(given.pop("fault"))
                when = {what: given.pop(what) for what in list(given) if what in _WHEN}
                if isinstance(when.get("bursts"), list):
                    when["bursts"] = tuple(when["bursts"])
                if key not in kinds:
                    raise ValueError(f"unknown sensor {key!r}; sensors: {', '.join(kinds)}")
                strikes.append(Strike(key, _make(find_fault(name, kinds[key]), given), **when))
            except (ValueError, TypeError) as error:
                raise ValueError(f"entry {number} of the plan: {error}") from None
            except KeyError as error:
                raise ValueError(f"entry {number} of the plan has no {error.args[0]!r}") from None
        return cls(tuple(strikes))

    def yaml(self) -> str:
        """As a YAML file."""
        return _yaml().safe_dump(self.plain(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """From a YAML file's text; ValueError names what is wrong."""
        yaml = _yaml()
        try:
            plain = yaml.safe_load(text) or []
        except yaml.YAMLError as error:
            raise ValueError(f"this is not YAML: {error}") from None
        if not isinstance(plain, list) or not all(isinstance(entry, dict) for entry in plain):
            raise ValueError("a plan is a list of entries with sensor, fault and more")
        return cls.of(plain, sensors)


def _number(value: float) -> str:
    """The shortest text that is read as the same number."""
    short = f"{value:g}".replace("e+", "e")
    return short if float(short) == value else repr(value).replace("e+", "e")


def _yaml() -> Any:  # noqa: ANN401
    try:
        import yaml
    except ImportError:
        raise ValueError("plans in YAML need PyYAML: pip install 'robofuse[yaml]'") from None
    return yaml


class _Misread(ValueError):
    def __init__(self, text: str, place: int, what: str) -> None:
        super().__init__(f"{what}, at character {place + 1}:\n  {text}\n  {' ' * place}^")


def _strikes(text: str, match: re.Match[str], sensors: Sequence[Sensor]) -> Iterator[tuple[Strike, int]]:
    """The strikes of one item, and where each one's sensor is."""
    kinds: dict[str, Kind] = {sensor.key: sensor.kind for sensor in sensors}
    there = f"sensors: {', '.join(kinds)}"
    if not match["sensors"]:
        raise _Misread(text, match.start("sensors"), f"expected a sensor; {there}")
    place = match.start("sensors")
    for part in match["sensors"].split(","):
        key, at = part.strip(), place + len(part) - len(part.lstrip())
        place += len(part) + 1
        if key not in kinds:
            raise _Misread(text, at, f"unknown sensor {key!r}; {there}")
        if not match["colon"]:
            raise _Misread(text, match.end("sensors"), f"expected : and a fault after {key}")
        try:
            kind = find_fault(match["fault"], kinds[key])
        except ValueError as error:
            raise _Misread(text, match.start("fault"), str(error)) from None
        try:
            fault = _make(kind, _arguments(match["given"] or ""))
        except ValueError as error:
            raise _Misread(text, match.start("given"), str(error)) from None
        try:
            yield Strike(key, fault, **_when(match), announced={None: None, "!": True, "?": False}[match["told"]]), at
        except ValueError as error:
            raise _Misread(text, match.start("when"), str(error)) from None


def _arguments(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, equals, value = part.rpartition("=")
        name = name.strip() if equals else "severity"
        if name in found:
            raise ValueError(f"{name} is given twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"expected a number, got {value.strip()!r}") from None
    return found


def _make(kind: type[Fault], given: Mapping[str, Any]) -> Fault:
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise ValueError(f"{kind.name} has no {name!r}; it has {', '.join(known)}")
    return kind(**given)


def _when(match: re.Match[str]) -> dict[str, Any]:
    if not match["at"]:
        return {}
    when = _START.fullmatch(match["when"])
    if when is None or not match["when"].strip():
        raise ValueError("expected a step such as 20, 10..30, contact or contact/5, then for 15, then in 5~20")
    found: dict[str, Any] = {"step": int(when["step"] or when["after"] or 0), "phase": when["phase"]}
    found |= {name: int(when[name]) for name in ("until", "lasts") if when[name]}
    if when["on"]:
        found["bursts"] = (float(when["on"]), float(when["off"]))
    return found


def _contradiction(first: Strike, second: Strike) -> str:
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


def _overlap(first: Strike, second: Strike) -> bool:
    """Whether both must be there at the same step; phases begin nobody knows when."""
    if first.phase != second.phase:
        return any(strike.phase is None and strike.lasts is None for strike in (first, second))
    spans = []
    for strike in (first, second):
        last = strike.until if strike.until is not None else strike.step
        spans.append((strike.step, float("inf") if strike.lasts is None else last + strike.lasts))
    return spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1]
