"""What breaks, and when: plans as dataclasses, as dictionaries and YAML, and as text.

Text says which sensor is off, or broken, and from which control step on. It has three spellings and one parser:

    rgb,depth:noise(0.5)@20 for 5!+force:bias    a plan: any faults; `Plan.parse`
    rgb,depth@20                                 `--disable`: announced blackouts; `parse_disable`
    no-depth+rgb@20, only-force, all, none       names of conditions: announced blackouts too; `parse_missing`
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, NoReturn, Self

from robofuse.errors import InputError
from robofuse.faults.base import Fault, FaultEvent
from robofuse.faults.catalogue import faults_for, find_fault
from robofuse.faults.common import Blackout
from robofuse.sensors import Sensor

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?"
_STEP = re.compile(r"(?P<step>[0-9]{1,9})")
_WHEN = re.compile(
    rf"""(?:(?P<phase>[a-z_][a-z0-9_]*)(?:\s*/\s*(?P<after>[0-9]{{1,9}}))?|(?P<step>[0-9]{{1,9}}))
    (?:\s*\.\.\s*(?P<until>[0-9]{{1,9}}))?(?:\s*\bfor\s+(?P<duration>[0-9]{{1,9}}))?
    (?:\s*\bin\s+(?P<on>{_NUMBER})\s*~\s*(?P<off>{_NUMBER}))?""",
    re.VERBOSE,
)


def blackout(sensor: str, step: int = 0) -> FaultEvent:
    """A sensor that delivers nothing, announced, from control step `step` on; 0 is what `reset` returns."""
    return FaultEvent(sensor, Blackout(), step)


@dataclass(frozen=True)
class Plan:
    """What breaks in every episode. As text: events joined by +, such as `rgb:blackout@20+force:drift(0.5)`.

    An event is `sensors:fault(severity, name=value)@when`, all after the fault optional; several sensors are divided by
    commas. When: `20` from that step on; `10..30` from one of these, drawn per episode; `contact` from that phase of
    the task on, `contact/5` five steps later; then ` for 15` steps; then ` in 5~20`, in bursts of 5 steps with gaps of
    20, on average. An `!` at the end announces it in `available`, a `?` does not.

    Attributes:
        events: in the order in which they change a reading.
    """

    events: tuple[FaultEvent, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.events, str | Mapping) or not isinstance(self.events, Iterable):
            raise InputError(f"a plan is made of FaultEvents, got {self.events!r}; Plan.parse reads text")
        object.__setattr__(self, "events", tuple(self.events))
        for event in self.events:
            if not isinstance(event, FaultEvent):
                raise InputError(f"a plan is made of robofuse.faults.FaultEvent, got {event!r}")
        if found := _find_contradiction(self.events):
            raise InputError(found[2])

    def __iter__(self) -> Iterator[FaultEvent]:
        """The events."""
        return iter(self.events)

    def __len__(self) -> int:
        """How many events."""
        return len(self.events)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return "+".join(map(str, self.events))

    def at(self, severity: float) -> Self:
        """The same plan at another severity of every fault."""
        return replace(self, events=tuple(replace(s, fault=replace(s.fault, severity=severity)) for s in self.events))

    def check(self, sensors: Sequence[Sensor], phases: Sequence[str] = (), cameras_move: bool = False) -> None:
        """Checks that the plan can happen with these sensors and phases of the task; `cameras_move` as in a World.

        Raises:
            InputError: it cannot; says what there is.
        """
        by_key = _by_key(sensors)
        for event in self.events:
            if event.sensor not in by_key:
                raise InputError(f"unknown sensor {event.sensor!r} in {event}; sensors: {', '.join(by_key)}")
            sensor = by_key[event.sensor]
            if sensor.kind not in event.fault.kinds:
                names = ", ".join(faults_for(sensor.kind))
                raise InputError(
                    f"{event.fault.name} is no fault of {sensor.key!r}, which is of kind {sensor.kind}; faults: {names}"
                )
            if event.fault.moves_camera and not cameras_move:
                raise InputError(f"{event} moves a camera, which only a World can do: World(faults=...)")
            if event.phase is not None and event.phase not in phases:
                known = ", ".join(phases) or "none; a World has those of its task, wrappers have none"
                raise InputError(f"unknown phase {event.phase!r} in {event}; phases: {known}")

    @classmethod
    def parse(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """A plan from a line of text, see the class; empty for none.

        Raises:
            InputError: says at which character (the first is 1) and what would be right.
        """
        by_key = _by_key(sensors)
        line = _Line(text, by_key)
        while line.begins_another("fault", "+"):
            keys = line.sensors(",")
            if not line.accept(":"):
                line.fail(f"expected : and a fault after {keys[-1][0]}")
            name, name_at = line.word(r"[^+@!?()\s]*")
            given, given_at = line.in_brackets()
            when, when_at = line.when(_WHEN, "step such as 20, 10..30, contact or contact/5, then for 15, then in 5~20")
            announced = True if line.accept("!") else False if line.accept("?") else None
            for key, place in keys:
                with line.pointing_at(name_at):
                    kind = find_fault(name, by_key[key].kind)
                with line.pointing_at(given_at):
                    fault = _make_fault(kind, _arguments(given))
                with line.pointing_at(when_at):
                    line.add(FaultEvent(key, fault, **when, announced=announced), place)
        return cls(line.events("+ and another fault"))

    @classmethod
    def read(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """As `parse`; or, of a name that ends in .yaml or .yml, from that file. InputError says what is wrong."""
        if not str(text).endswith((".yaml", ".yml")):
            return cls.parse(text, sensors)
        try:
            content = Path(text).read_text()
        except (OSError, UnicodeError) as error:
            raise InputError(f"cannot read the plan {text}: {error}") from None
        return cls.from_yaml(content, sensors)

    def to_dict(self) -> list[dict[str, Any]]:
        """As lists and dictionaries, for YAML and JSON."""
        return [event.to_dict() for event in self.events]

    @classmethod
    def from_dict(
        cls, plain: Iterable[Mapping[str, Any]], sensors: Sequence[Sensor], lines: Sequence[int] = ()
    ) -> Self:
        """From what `to_dict` gave; InputError names the entry that is wrong, and its line if they are known."""
        by_key, events = _by_key(sensors), list[FaultEvent]()
        when_names = {field.name for field in fields(FaultEvent)[2:]}
        if isinstance(plain, str | Mapping) or not isinstance(plain, Iterable):
            raise InputError("a plan is a list of entries with sensor, fault and more")
        for number, entry in enumerate(plain, start=1):
            where = f"entry {number} of the plan" + (f", line {lines[number - 1]}" if lines else "")
            try:
                given = dict(entry)
                key, name = str(given.pop("sensor")), str(given.pop("fault"))
                when = {what: given.pop(what) for what in list(given) if what in when_names}
                if isinstance(when.get("bursts"), list):
                    when["bursts"] = tuple(when["bursts"])
                if key not in by_key:
                    raise InputError(f"unknown sensor {key!r}; sensors: {', '.join(by_key)}")
                events.append(FaultEvent(key, _make_fault(find_fault(name, by_key[key].kind), given), **when))
            except (ValueError, TypeError) as error:
                raise InputError(f"{where}: {error}") from None
            except KeyError as error:
                raise InputError(f"{where} has no {error.args[0]!r}") from None
        return cls(tuple(events))

    def yaml(self) -> str:
        """As a YAML file."""
        return _yaml().safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """From a YAML file's text; InputError names what is wrong, and where."""
        yaml = _yaml()
        if not isinstance(text, str):
            raise InputError(f"expected the text of a YAML file, got {text!r}")
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            plain, entries = [], []
            if node is not None:
                plain, entries = loader.construct_document(node) or [], node.value
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"this is not YAML: {error}") from None
        if not isinstance(plain, list) or not all(isinstance(entry, dict) for entry in plain):
            raise InputError("a plan is a list of entries with sensor, fault and more")
        return cls.from_dict(plain, sensors, [entry.start_mark.line + 1 for entry in entries] if plain else ())


def parse_disable(text: str, keys: Sequence[str]) -> Plan:
    """Announced blackouts from a text such as `rgb,depth@20`: no rgb at all, and no depth from control step 20 on.

    `keys` are the sensors that exist. All of them may be named: a policy then acts on its mask tokens alone, which
    shows how it does without any sensor.

    Raises:
        InputError: an unknown sensor, one named twice, or no number after the `@`; says at which character (the first
            is 1), and what would be right.
    """
    line = _Line(text, keys)
    while line.begins_another("sensor", ","):
        ((key, place),) = line.sensors("")
        line.add(blackout(key, line.step()), place)
    return Plan(line.events("a comma and another sensor"))


def parse_missing(name: str, keys: Sequence[str]) -> Plan:
    """Announced blackouts from the name of a condition, which says what is missing, or what alone is left.

    Names are `all`, `none`, `no-rgb`, `no-depth+rgb`, `only-force`; all but `all` with `@20` for from step 20 on.
    `keys` are the sensors that exist; events are in their order.

    Raises:
        InputError: says at which character (the first is 1) and what would be right.
    """
    line = _Line(name, keys)
    which, _ = line.word(r"all|none|no-|only-|")
    if not which:
        key = next(iter(keys), "rgb")
        line.fail(f"expected all, none, no-{key}, only-{key} or no-{key}@20; several sensors are joined by +")
    named = dict(line.sensors("+")) if which.endswith("-") else {}
    step = line.step() if which != "all" else 0
    missing = {"all": [], "none": keys, "no-": named}.get(which, [key for key in keys if key not in named])
    for key in keys:
        if key in missing:
            line.add(blackout(key, step), named.get(key, 0))
    return Plan(line.events("the end" if which == "all" else "@ and a control step"))


class _Line:
    """A line of text that is read from left to right; errors point at a character."""

    def __init__(self, text: str, keys: Iterable[str]) -> None:
        if not isinstance(text, str):
            raise InputError(f"expected text such as rgb:freeze@20, got {text!r}")
        self._text, self._keys, self._place = text, list(keys), 0
        self._events: list[FaultEvent] = []
        self._places: list[int] = []

    def fail(self, what: str, place: int | None = None) -> NoReturn:
        """Raises InputError that shows the text, with a mark where the error is: by default where reading stands."""
        place = self._place if place is None else place
        first = max(0, place - 60) if len(self._text) > 100 else 0
        text = self._text[first : first + 100]
        shown = re.sub(r"\s", " ", ("…" if first else "") + text + ("…" if first + 100 < len(self._text) else ""))
        mark = " " * (place - first + bool(first)) + "^"
        raise InputError(f"{what}, at character {place + 1}:\n  {shown}\n  {mark}")

    @contextmanager
    def pointing_at(self, place: int) -> Iterator[None]:
        """Errors within are about what stands there."""
        try:
            yield
        except InputError as error:
            self.fail(str(error), place)

    def word(self, pattern: str) -> tuple[str, int]:
        """What matches after blanks, without the blanks at its end, and where it begins."""
        match = re.compile(rf"\s*({pattern})").match(self._text, self._place)
        if match is None:
            return "", self._place
        self._place = match.end()
        return match[1].rstrip(), match.start(1)

    def accept(self, mark: str) -> bool:
        """Whether this comes next, after blanks; if so, it is read."""
        return bool(mark) and bool(self.word(re.escape(mark))[0])

    def begins_another(self, what: str, divider: str) -> bool:
        """Whether there is a fault or sensor (`what`) to read: the first one, or one after a divider."""
        if not self._events:
            return bool(self._text.strip())
        found = self.accept(divider)
        if found and not self._text[self._place :].strip():
            self.fail(f"expected another {what} after the {divider}", self._place - 1)
        return found

    def sensors(self, divider: str) -> list[tuple[str, int]]:
        """One key, or several with a divider between them, and where each stands."""
        found: list[tuple[str, int]] = []
        while not found or self.accept(divider):
            key, place = self.word(r"[^,:+@!?()]*")
            if key not in self._keys:
                what = f"unknown sensor {key!r}" if key else "expected a sensor"
                self.fail(f"{what}; sensors: {', '.join(self._keys)}", place)
            found.append((key, place))
        return found

    def in_brackets(self) -> tuple[str, int]:
        """What stands in round brackets, if there are any, and where it begins."""
        if not self.accept("("):
            return "", self._place
        place = self._place
        given, _ = self.word("[^()]*")
        if not self.accept(")"):
            self.fail("expected )")
        return given, place

    def when(self, pattern: re.Pattern[str], expected: str) -> tuple[dict[str, Any], int]:
        """What the text after an @ says, if there is one, as arguments of FaultEvent; and where it begins."""
        if not self.accept("@"):
            return {}, self._place
        text, place = self.word("[^+,!?]*")
        match = pattern.fullmatch(text)
        if match is None:
            self.fail(f"expected a {expected}; got {text!r}", place)
        said = match.groupdict()
        found: dict[str, Any] = {"step": int(said["step"] or said["after"] or 0), "phase": said.get("phase")}
        found |= {name: int(said[name]) for name in ("until", "duration") if said.get(name)}
        if said.get("on"):
            found["bursts"] = (float(said["on"]), float(said["off"]))
        return found, place

    def step(self) -> int:
        """The control step after an @, 0 without one."""
        return self.when(_STEP, "control step such as 20")[0].get("step", 0)

    def add(self, event: FaultEvent, place: int) -> None:
        """An event was read, whose sensor stands there."""
        self._events.append(event)
        self._places.append(place)

    def events(self, expected: str) -> tuple[FaultEvent, ...]:
        """What was added, if the line is at its end and no event contradicts another; `expected` could come next."""
        if self._text[self._place :].strip():
            self.word("")
            self.fail(f"expected {expected}, or the end")
        if found := _find_contradiction(self._events):
            first, second, why = found
            self.fail(f"{why} (the other at character {self._places[first] + 1})", self._places[second])
        return tuple(self._events)


def _arguments(text: str) -> dict[str, float]:
    """Numbers of a fault from `0.5, name=value`."""
    found: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, equals, value = part.rpartition("=")
        name = name.strip() if equals else "severity"
        if name in found:
            raise InputError(f"{name} is given twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"expected a number, got {value.strip()!r}") from None
    return found


def _make_fault(kind: type[Fault], given: Mapping[str, Any]) -> Fault:
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise InputError(f"{kind.name} has no {name!r}; it has {', '.join(known)}")
    return kind(**given)


def _find_contradiction(events: Sequence[FaultEvent]) -> tuple[int, int, str] | None:
    """Two events that cannot both be meant: their numbers, the smaller first, and why; None if there are none.

    They change the same sensor at the same step, and are the same fault, or one of them leaves nothing to change.
    Events of different phases meet for certain only if one of them is there from the start to the end. One pass over
    the events, sorted by their first steps, as a plan may have thousands.
    """
    latest: dict[tuple[str, str | None, str], tuple[float, int]] = {}  # what began before: its end, and its number
    numbers = (number for number, event in enumerate(events) if event.fault.severity)
    for number in sorted(numbers, key=lambda number: (events[number].phase is not None, events[number].step)):
        event, anything, erasing = events[number], "*", "!"
        for what in (event.fault.name, erasing, *((anything,) if _erases(event) else ())):
            end, other = latest.get((event.sensor, event.phase, what), (0, 0))
            if end > event.step:
                return _contradiction(events, min(number, other), max(number, other))
            end, other = latest.get((event.sensor, None, what), (0, 0))
            if end == inf:
                return _contradiction(events, min(number, other), max(number, other))
        last = event.until if event.until is not None else event.step
        end = inf if event.duration is None else last + event.duration
        for what in (event.fault.name, anything, *((erasing,) if _erases(event) else ())):
            key = (event.sensor, event.phase, what)
            latest[key] = max(latest.get(key, (0, 0)), (end, number))
    return None


def _contradiction(events: Sequence[FaultEvent], first: int, second: int) -> tuple[int, int, str]:
    one, other = events[first], events[second]
    if one.fault.name == other.fault.name:
        return first, second, f"{other} overlaps with {one}, the same fault of the same sensor"
    erasing, changed = (one, other) if _erases(one) else (other, one)
    return first, second, f"{changed} has nothing left to change while {erasing} lasts"


def _erases(event: FaultEvent) -> bool:
    """Whether nothing is left of the reading as long as it lasts."""
    return event.fault.erases and event.bursts is None and event.fault.bursts() is None


def _by_key(sensors: Sequence[Sensor]) -> dict[str, Sensor]:
    try:
        return {sensor.key: sensor for sensor in sensors}
    except (TypeError, AttributeError):
        raise InputError(f"sensors must be a list of robofuse.sensors.Sensor, got {sensors!r}") from None


def _yaml() -> Any:  # noqa: ANN401
    try:
        import yaml
    except ImportError:
        raise InputError("plans in YAML need PyYAML: pip install 'robofuse[yaml]'") from None
    return yaml
