"""Which sensors a policy must do without, and from when on."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from robofuse.faults import Blackout, dead_from

GROUPS = {
    "standard": "all sensors, each one alone, each one removed",
    "subsets": "every non-empty set of sensors, the others dead from the start",
    "midway": "each sensor dying in the middle of the episode",
    "everything": "subsets and midway (default)",
}
_NAME = re.compile(r"(?P<which>no|only)-(?P<keys>[^@]+)(@(?P<step>[0-9]{1,9}))?")


@dataclass(frozen=True)
class Condition:
    """A set of sensors that fall silent, and say so in `available`.

    Attributes:
        name: `all`, `none`, `no-rgb`, `only-force`, `no-depth+rgb`; with `@15` at the end, from control step 15 on.
        keys: every sensor, in the order of `available`.
        blackouts: which of them die, and when.
    """

    name: str
    keys: tuple[str, ...]
    blackouts: tuple[Blackout, ...] = ()

    @property
    def live(self) -> tuple[str, ...]:
        """The sensors that never die."""
        dead = {blackout.sensor for blackout in self.blackouts}
        return tuple(key for key in self.keys if key not in dead)

    @property
    def from_the_start(self) -> bool:
        """Whether every sensor is as alive at the first step as at the last."""
        return all(blackout.step == 0 for blackout in self.blackouts)

    @property
    def dead_from(self) -> Tensor:
        """int64 (M,): sensor m delivers the observation of control step t if t < dead_from[m]."""
        return dead_from(self.blackouts, self.keys)


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
    return Condition(f"{name}@{step}" if step else name, tuple(keys), tuple(Blackout(key, step) for key in lost))


def subsets(keys: Sequence[str]) -> list[Condition]:
    """Every non-empty set of live sensors, the largest first: 2^M − 1."""
    return [dead(keys, lost) for count in range(len(keys)) for lost in combinations(keys, count)]


def standard(keys: Sequence[str]) -> list[Condition]:
    """All sensors, each one removed, each one alone."""
    removed = [dead(keys, [key]) for key in keys]
    alone = [dead(keys, set(keys) - {key}) for key in keys]
    return _distinct([dead(keys, []), *(c for c in removed + alone if c.live)])


def midway(keys: Sequence[str], step: int) -> list[Condition]:
    """Each sensor dying at a control step."""
    return [dead(keys, [key], step) for key in keys]


def parse(names: Sequence[str], keys: Sequence[str], die_at: int) -> list[Condition]:
    """Conditions by their names or the names of groups, each once.

    Args:
        names: such as `standard`, or `all no-rgb no-depth+rgb@20 only-force`.
        keys: every sensor, in the order of `available`.
        die_at: the control step at which sensors die in `midway`.

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
        raise ValueError(f"no conditions; {_choices(keys)}")
    return _distinct(found)


def _one(name: str, keys: Sequence[str]) -> Condition:
    if name in ("all", "none"):
        return dead(keys, keys if name == "none" else [])
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown condition {name!r}; {_choices(keys)}")
    named = match["keys"].split("+")
    for key in named:
        if key not in keys:
            raise ValueError(f"unknown sensor {key!r} in condition {name!r}; sensors: {', '.join(keys)}")
    lost = named if match["which"] == "no" else set(keys) - set(named)
    return dead(keys, lost, int(match["step"] or 0))


def _choices(keys: Sequence[str]) -> str:
    first = list(keys)[0]
    single = f"all, none, no-{first}, only-{first}, no-{first}@20, several sensors joined by +"
    return f"groups: {', '.join(GROUPS)}; single conditions: {single}; sensors: {', '.join(keys)}"


def _distinct(conditions: Iterable[Condition]) -> list[Condition]:
    return list({condition.name: condition for condition in conditions}.values())
