"""What breaks, and when: a plan is data, as a dataclass, as one line of text, and as YAML."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from robofuse.errors import InputError
from robofuse.faults.catalogue import faults_for, find_fault
from robofuse.faults.event import FaultEvent, contradiction, make_fault
from robofuse.faults.parsing import parse
from robofuse.sensors import Kind, Sensor

_WHEN = {field.name for field in fields(FaultEvent)[2:]}


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

    events: tuple[FaultEvent, ...] = ()

    def __post_init__(self) -> None:
        """ValueError for strikes that contradict each other."""
        object.__setattr__(self, "strikes", tuple(self.events))
        for index, event in enumerate(self.events):
            if not isinstance(event, FaultEvent):
                raise InputError(f"a plan has robofuse.faults.FaultEvent, got {event!r}")
            for other in self.events[:index]:
                if problem := contradiction(other, event):
                    raise InputError(problem)

    def __iter__(self) -> Iterator[FaultEvent]:
        """The strikes."""
        return iter(self.events)

    def __len__(self) -> int:
        """How many strikes."""
        return len(self.events)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return "+".join(map(str, self.events))

    def at(self, severity: float) -> Self:
        """The same plan at another severity of every fault."""
        return replace(self, events=tuple(replace(s, fault=replace(s.fault, severity=severity)) for s in self.events))

    def check(self, sensors: Sequence[Sensor], phases: Sequence[str] = (), cameras_move: bool = False) -> None:
        """Whether it fits sensors, the phases of a task and, of mounts, a World; ValueError says what there is."""
        by_key = {sensor.key: sensor for sensor in sensors}
        for event in self.events:
            if event.sensor not in by_key:
                raise InputError(f"unknown sensor {event.sensor!r} in {event}; sensors: {', '.join(by_key)}")
            sensor = by_key[event.sensor]
            if sensor.kind not in event.fault.kinds:
                names = ", ".join(faults_for(sensor.kind))
                raise InputError(
                    f"{event.fault.name} cannot befall {sensor.key!r}, which is of kind {sensor.kind}; faults: {names}"
                )
            if event.fault.moves_camera and not cameras_move:
                raise InputError(f"{event} moves a camera, which only a World can do: World(faults=...)")
            if event.phase is not None and event.phase not in phases:
                known = ", ".join(phases) or "none; a World has those of its task, wrappers have none"
                raise InputError(f"unknown phase {event.phase!r} in {event}; phases: {known}")

    @classmethod
    def parse(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """A plan from a line of text.

        Args:
            text: see the class; empty for none.
            sensors: that exist; a fault's name means what it is for that kind of sensor.

        Raises:
            ValueError: says at which character (the first is 1) and what would be right.
        """
        return cls(parse(text, sensors))

    @classmethod
    def read(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """As `parse`; or, of a name that ends in .yaml or .yml, from that file. ValueError says what is wrong."""
        if not text.endswith((".yaml", ".yml")):
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
        """From what `plain` gave; ValueError names the entry that is wrong, and its line if they are known."""
        kinds: dict[str, Kind] = {sensor.key: sensor.kind for sensor in sensors}
        events: list[FaultEvent] = []
        for number, entry in enumerate(plain, start=1):
            where = f"entry {number} of the plan" + (f", line {lines[number - 1]}" if lines else "")
            try:
                given = dict(entry)
                key, name = str(given.pop("sensor")), str(given.pop("fault"))
                when = {what: given.pop(what) for what in list(given) if what in _WHEN}
                if isinstance(when.get("bursts"), list):
                    when["bursts"] = tuple(when["bursts"])
                if key not in kinds:
                    raise InputError(f"unknown sensor {key!r}; sensors: {', '.join(kinds)}")
                events.append(FaultEvent(key, make_fault(find_fault(name, kinds[key]), given), **when))
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
        """From a YAML file's text; ValueError names what is wrong, and where."""
        yaml = _yaml()
        try:
            plain, marks = yaml.safe_load(text) or [], yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise InputError(f"this is not YAML: {error}") from None
        if not isinstance(plain, list) or not all(isinstance(entry, dict) for entry in plain):
            raise InputError("a plan is a list of entries with sensor, fault and more")
        return cls.from_dict(plain, sensors, [entry.start_mark.line + 1 for entry in marks.value] if marks else ())


def _yaml() -> Any:  # noqa: ANN401
    try:
        import yaml
    except ImportError:
        raise InputError("plans in YAML need PyYAML: pip install 'robofuse[yaml]'") from None
    return yaml
