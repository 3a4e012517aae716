"""What breaks, and when: a plan is data, as a dataclass, as one line of text, and as YAML."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from robofuse.faults.catalogue import faults_for, find_fault
from robofuse.faults.parsing import parse
from robofuse.faults.strike import Strike, contradiction, make_fault
from robofuse.sensors import Kind, Sensor

_WHEN = {field.name for field in fields(Strike)[2:]}


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
                if problem := contradiction(other, strike):
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

    def check(self, sensors: Sequence[Sensor], phases: Sequence[str] = (), cameras_move: bool = False) -> None:
        """Whether it fits sensors, the phases of a task and, of mounts, a World; ValueError says what there is."""
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
            if strike.fault.moves_camera and not cameras_move:
                raise ValueError(f"{strike} moves a camera, which only a World can do: World(faults=...)")
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
        return cls(parse(text, sensors))

    @classmethod
    def read(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """As `parse`; or, of a name that ends in .yaml or .yml, from that file. ValueError says what is wrong."""
        if not text.endswith((".yaml", ".yml")):
            return cls.parse(text, sensors)
        try:
            content = Path(text).read_text()
        except (OSError, UnicodeError) as error:
            raise ValueError(f"cannot read the plan {text}: {error}") from None
        return cls.from_yaml(content, sensors)

    def plain(self) -> list[dict[str, Any]]:
        """As lists and dictionaries, for YAML and JSON."""
        return [strike.plain() for strike in self.strikes]

    @classmethod
    def of(cls, plain: Iterable[Mapping[str, Any]], sensors: Sequence[Sensor], lines: Sequence[int] = ()) -> Self:
        """From what `plain` gave; ValueError names the entry that is wrong, and its line if they are known."""
        kinds: dict[str, Kind] = {sensor.key: sensor.kind for sensor in sensors}
        strikes: list[Strike] = []
        for number, entry in enumerate(plain, start=1):
            where = f"entry {number} of the plan" + (f", line {lines[number - 1]}" if lines else "")
            try:
                given = dict(entry)
                key, name = str(given.pop("sensor")), str(given.pop("fault"))
                when = {what: given.pop(what) for what in list(given) if what in _WHEN}
                if isinstance(when.get("bursts"), list):
                    when["bursts"] = tuple(when["bursts"])
                if key not in kinds:
                    raise ValueError(f"unknown sensor {key!r}; sensors: {', '.join(kinds)}")
                strikes.append(Strike(key, make_fault(find_fault(name, kinds[key]), given), **when))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{where}: {error}") from None
            except KeyError as error:
                raise ValueError(f"{where} has no {error.args[0]!r}") from None
        return cls(tuple(strikes))

    def yaml(self) -> str:
        """As a YAML file."""
        return _yaml().safe_dump(self.plain(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, sensors: Sequence[Sensor]) -> Self:
        """From a YAML file's text; ValueError names what is wrong, and where."""
        yaml = _yaml()
        try:
            plain, marks = yaml.safe_load(text) or [], yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"this is not YAML: {error}") from None
        if not isinstance(plain, list) or not all(isinstance(entry, dict) for entry in plain):
            raise ValueError("a plan is a list of entries with sensor, fault and more")
        return cls.of(plain, sensors, [entry.start_mark.line + 1 for entry in marks.value] if marks else ())


def _yaml() -> Any:  # noqa: ANN401
    try:
        import yaml
    except ImportError:
        raise ValueError("plans in YAML need PyYAML: pip install 'robofuse[yaml]'") from None
    return yaml
