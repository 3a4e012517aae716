"""What fails in an episode, and when: sensors that are missing, and every other fault."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from robofuse.errors import InputError
from robofuse.faults import FaultEvent, Plan, blackout, faults_for, parse_missing
from robofuse.faults.mix import SEVERITIES
from robofuse.sensors import Sensor

Group = Literal["all", "missing", "midway", "fault"]
GROUPS = {
    "singles": "all sensors, each one alone, each one removed",
    "subsets": "every non-empty set of sensors, the others missing from the start",
    "midway": "each sensor missing from the middle of the episode on",
    "everything": "subsets and midway (default)",
}


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

    @classmethod
    def from_plan(cls, keys: Sequence[str], plan: Plan) -> "Condition":
        """The condition of a plan; with a short name such as `no-rgb` if sensors are missing and no more."""
        condition, steps = cls(str(plan) or "all", tuple(keys), plan), {event.step for event in plan}
        if condition.only_missing and len(steps) == 1:
            return missing(keys, [event.sensor for event in plan], steps.pop())
        return condition

    @property
    def only_missing(self) -> bool:
        """Whether all that happens is that sensors are missing, announced, from some step to the end."""
        return all(event == blackout(event.sensor, event.step) for event in self.plan)

    @property
    def live(self) -> tuple[str, ...]:
        """The sensors that have no fault."""
        affected = {event.sensor for event in self.plan}
        return tuple(key for key in self.keys if key not in affected)

    @property
    def onset(self) -> int | None:
        """The first control step at which something may fail; None if nothing does, or if a phase decides."""
        steps = [event.step for event in self.plan if event.phase is None]
        return min(steps) if steps and len(steps) == len(self.plan) else None

    @property
    def group(self) -> Group:
        """`all`; sensors `missing` from the start or from `midway` on, and announced; or any other `fault`."""
        if not len(self.plan):  # of a policy that never had the sensors in question, see `among`
            return "all" if self.name == "all" else "missing"
        if not self.only_missing:
            return "fault"
        return "missing" if all(event.step == 0 for event in self.plan) else "midway"

    @property
    def event(self) -> FaultEvent | None:
        """The fault, if there is exactly one."""
        return self.plan.events[0] if len(self.plan) == 1 else None

    def among(self, keys: Sequence[str]) -> "Condition":
        """The same for a policy with fewer sensors: faults of the others are left out."""
        kept = tuple(event for event in self.plan if event.sensor in keys)
        return replace(self, keys=tuple(keys), plan=Plan(kept))


def missing(keys: Sequence[str], sensors: Iterable[str], step: int = 0) -> Condition:
    """The condition in which these sensors are missing from control step `step` on, such as `only-force@20`.

    `keys` are all sensors, in the order of `available`. Each condition has one name; `all` if nothing is missing.
    """
    named = set(sensors)
    without, left = [key for key in keys if key in named], [key for key in keys if key not in named]
    if not without:
        return Condition("all", tuple(keys))
    short = f"no-{'+'.join(without)}" if len(without) <= len(left) else f"only-{'+'.join(left)}"
    name = (short if left else "none") + (f"@{step}" if step else "")
    return Condition(name, tuple(keys), Plan(tuple(blackout(key, step) for key in without)))


def subsets(keys: Sequence[str]) -> list[Condition]:
    """Every non-empty set of live sensors, the largest first: 2^M − 1."""
    return [missing(keys, without) for count in range(len(keys)) for without in combinations(keys, count)]


def singles(keys: Sequence[str]) -> list[Condition]:
    """All sensors, each one removed, each one alone."""
    removed = [missing(keys, [key]) for key in keys]
    alone = [missing(keys, set(keys) - {key}) for key in keys]
    return _distinct([missing(keys, []), *(c for c in removed + alone if c.live)])


def midway(keys: Sequence[str], step: int) -> list[Condition]:
    """Each sensor of `keys` in turn, missing from control step `step` on."""
    return [missing(keys, [key], step) for key in keys]


def grid(sensors: Sequence[Sensor], step: int) -> list[Condition]:
    """Every fault of all `sensors` from control step `step` on, at each of `SEVERITIES`, sensor by sensor.

    They are announced if that is usual for the fault, but blackouts are not (announced ones are `midway`). Faults that
    depend on what an environment played before are left out: scenes could not be compared.
    """
    keys, found = [sensor.key for sensor in sensors], []
    for sensor in sensors:
        for kind in faults_for(sensor.kind).values():
            if kind.recalls:
                continue
            announced = False if kind.erases and kind().bursts() is None else None
            for severity in SEVERITIES if kind.graded(sensor.kind) else SEVERITIES[-1:]:
                event = FaultEvent(sensor.key, kind(severity), step, announced=announced)
                found.append(Condition.from_plan(keys, Plan((event,))))
    return found


def parse(names: Sequence[str], keys: Sequence[str], onset: int) -> list[Condition]:
    """Conditions by their names or the names of groups, each once.

    Args:
        names: such as `singles`, or `all no-rgb no-depth+rgb@20 only-force`.
        keys: every sensor, in the order of `available`.
        onset: the control step from which on sensors are missing in `midway`.

    Raises:
        InputError: none, or one that is unknown; lists what there is.
    """
    found: list[Condition] = []
    for name in names:
        if name == "singles":
            found += singles(keys)
        if name in ("subsets", "everything"):
            found += subsets(keys)
        if name in ("midway", "everything"):
            found += midway(keys, onset)
        if name not in GROUPS:
            found.append(_one(name, keys))
    if not found:
        raise InputError(f"no conditions; groups: {', '.join(GROUPS)}; single ones: all, none, no-{keys[0]}@20, …")
    return _distinct(found)


def parse_faults(texts: Sequence[str], sensors: Sequence[Sensor], onset: int) -> list[Condition]:
    """Conditions of fault plans, each once; InputError for a plan that cannot be read.

    Args:
        texts: plans such as `rgb:freeze@15`, YAML files with plans, or `grid` for all of `grid`.
        sensors: every sensor.
        onset: the control step at which the faults of `grid` set in.
    """
    keys, found = [sensor.key for sensor in sensors], []
    for text in texts:
        found += grid(sensors, onset) if text == "grid" else [Condition.from_plan(keys, Plan.read(text, sensors))]
    return _distinct(found)


def _one(name: str, keys: Sequence[str]) -> Condition:
    try:
        return Condition.from_plan(keys, parse_missing(name, keys))
    except InputError as error:
        others = "" if name.startswith(("no-", "only-")) else f"groups: {', '.join(GROUPS)}; "
        raise InputError(f"unknown condition {name!r}; {others}{error}") from None


def _distinct(conditions: Iterable[Condition]) -> list[Condition]:
    return list({condition.name: condition for condition in conditions}.values())
