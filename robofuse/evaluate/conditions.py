"""What fails in an episode, and when: sensors that are dead, and every other fault."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from robofuse.errors import InputError
from robofuse.faults import FaultEvent, Plan, blackout, faults_for
from robofuse.faults.mix import SEVERITIES
from robofuse.sensors import Sensor

Group = Literal["all", "missing", "midway", "fault"]
GROUPS = {
    "standard": "all sensors, each one alone, each one removed",
    "subsets": "every non-empty set of sensors, the others dead from the start",
    "midway": "each sensor dying in the middle of the episode",
    "everything": "subsets and midway (default)",
}
_NAME = re.compile(r"(?P<which>no|only)-(?P<keys>[^@]+)(@(?P<step>[0-9]{1,9}))?")


@dataclass(frozen=True)
class Condition:
    """What fails in an episode.

    Attributes:
        name: `all`, `none`, `no-rgb`, `only-force`, `no-depth+rgb`; with `@15` at the end, from control step 15 on; of
            other faults, the plan's text.
        keys: every sensor, in the order of `available`.
        plan: what fails, and when.
    """

    name: str
    keys: tuple[str, ...]
    plan: Plan = Plan()

    @property
    def silent(self) -> bool:
        """Whether all that happens is that sensors die for good and say so."""
        return all(event == blackout(event.sensor, event.step) for event in self.plan)

    @property
    def live(self) -> tuple[str, ...]:
        """The sensors that nothing befalls."""
        affected = {event.sensor for event in self.plan}
        return tuple(key for key in self.keys if key not in affected)

    @property
    def onset(self) -> int | None:
        """The first control step at which something may fail; None if nothing does, or if a phase tells when."""
        steps = [event.step for event in self.plan if event.phase is None]
        return min(steps) if steps and len(steps) == len(self.plan) else None

    @property
    def group(self) -> Group:
        """`all`; sensors `missing` from the start or from `midway` on, and announced; or any other `fault`."""
        if not len(self.plan):  # of a policy that never had the sensors in question, see `among`
            return "all" if self.name == "all" else "missing"
        if not self.silent:
            return "fault"
        return "missing" if all(event.step == 0 for event in self.plan) else "midway"

    @property
    def only(self) -> FaultEvent | None:
        """The strike, if there is one and no other."""
        return self.plan.events[0] if len(self.plan) == 1 else None

    def among(self, keys: Sequence[str]) -> "Condition":
        """The same for a policy with fewer sensors; it has no part in what befalls the others."""
        kept = tuple(event for event in self.plan if event.sensor in keys)
        return replace(self, keys=tuple(keys), plan=Plan(kept))


def dead(keys: Sequence[str], sensors: Iterable[str], step: int = 0) -> Condition:
    """The condition that these sensors are dead from a control step on, under its one name.

    Args:
        keys: every sensor, in the order of `available`.
        sensors: those that die.
        step: number of the first observation without them.
    """
    gone = set(sensors)
    lost, left = [key for key in keys if key in gone], [key for key in keys if key not in gone]
    if not lost:
        return Condition("all", tuple(keys))
    name = "none" if not left else f"no-{'+'.join(lost)}" if len(lost) <= len(left) else f"only-{'+'.join(left)}"
    plan = Plan(tuple(blackout(key, step) for key in lost))
    return Condition(f"{name}@{step}" if step else name, tuple(keys), plan)


def broken(keys: Sequence[str], plan: Plan) -> Condition:
    """The condition that this plan describes; one that only silences sensors is known by its short name.

    Args:
        keys: every sensor, in the order of `available`.
        plan: what breaks.

    Returns:
        The condition, such as `no-rgb` or `rgb:freeze@15`.
    """
    condition = Condition(str(plan) or "all", tuple(keys), plan)
    steps = {event.step for event in plan}
    return dead(keys, [s.sensor for s in plan], steps.pop()) if condition.silent and len(steps) == 1 else condition


def subsets(keys: Sequence[str]) -> list[Condition]:
    """Every non-empty set of live sensors, the largest first: 2^M − 1."""
    return [dead(keys, lost) for count in range(len(keys)) for lost in combinations(keys, count)]


def standard(keys: Sequence[str]) -> list[Condition]:
    """All sensors, each one removed, each one alone."""
    removed = [dead(keys, [key]) for key in keys]
    alone = [dead(keys, set(keys) - {key}) for key in keys]
    return _distinct([dead(keys, []), *(c for c in removed + alone if c.live)])


def midway(keys: Sequence[str], step: int) -> list[Condition]:
    """Each sensor dying on the way.

    Args:
        keys: every sensor, in the order of `available`.
        step: number of the first observation without it.

    Returns:
        A condition for each sensor.
    """
    return [dead(keys, [key], step) for key in keys]


def grid(sensors: Sequence[Sensor], step: int) -> list[Condition]:
    """Every fault of every sensor that sets in at a control step, at each of `SEVERITIES`.

    What `available` tells is what is usual for the fault, except that a blackout is not announced (announced ones are
    `midway`). Faults that depend on what an environment played before are left out: scenes could not be compared.

    Args:
        sensors: every sensor, in the order of `available`.
        step: number of the first observation that is broken.

    Returns:
        The conditions, sensor by sensor.
    """
    keys, found = [sensor.key for sensor in sensors], []
    for sensor in sensors:
        for kind in faults_for(sensor.kind).values():
            if kind.recalls:
                continue
            for severity in SEVERITIES if kind.graded(sensor.kind) else SEVERITIES[-1:]:
                event = FaultEvent(sensor.key, kind(severity), step, announced=False if kind.erases else None)
                if kind().bursts() is not None:
                    event = replace(event, announced=None)
                found.append(broken(keys, Plan((event,))))
    return found


def parse(names: Sequence[str], keys: Sequence[str], die_at: int) -> list[Condition]:
    """Conditions by their names or the names of groups, each once.

    Args:
        names: such as `standard`, or `all no-rgb no-depth+rgb@20 only-force`.
        keys: every sensor, in the order of `available`.
        die_at: the control step at which sensors die in `midway`.

    Returns:
        In the order of the names.

    Raises:
        ValueError: none, or one that is unknown; lists what there is.
    """
    found: list[Condition] = []
    for name in names:
        if name in ("standard", "subsets", "everything"):
            found += standard(keys) if name == "standard" else subsets(keys)
        if name in ("midway", "everything"):
            found += midway(keys, die_at)
        if name not in GROUPS:
            found.append(_one(name, keys))
    if not found:
        raise InputError(f"no conditions; {_choices(keys)}")
    return _distinct(found)


def parse_faults(texts: Sequence[str], sensors: Sequence[Sensor], step: int) -> list[Condition]:
    """Conditions of fault plans, each once.

    Args:
        texts: plans such as `rgb:freeze@15`, YAML files with plans, or `standard` for `grid`.
        sensors: every sensor.
        step: the control step at which the faults of `standard` set in.

    Returns:
        In the order of the texts.

    Raises:
        ValueError: a plan that cannot be read; says where and what would be right.
    """
    keys, found = [sensor.key for sensor in sensors], []
    for text in texts:
        found += grid(sensors, step) if text == "standard" else [broken(keys, Plan.read(text, sensors))]
    return _distinct(found)


def _one(name: str, keys: Sequence[str]) -> Condition:
    if name in ("all", "none"):
        return dead(keys, keys if name == "none" else [])
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"unknown condition {name!r}; {_choices(keys)}")
    named = match["keys"].split("+")
    for key in named:
        if key not in keys:
            raise InputError(f"unknown sensor {key!r} in condition {name!r}; sensors: {', '.join(keys)}")
    lost = named if match["which"] == "no" else set(keys) - set(named)
    return dead(keys, lost, int(match["step"] or 0))


def _choices(keys: Sequence[str]) -> str:
    first = list(keys)[0]
    single = f"all, none, no-{first}, only-{first}, no-{first}@20, several sensors joined by +"
    return f"groups: {', '.join(GROUPS)}; single conditions: {single}; sensors: {', '.join(keys)}"


def _distinct(conditions: Iterable[Condition]) -> list[Condition]:
    return list({condition.name: condition for condition in conditions}.values())
