"""Faults to train on: another one, or none, in every episode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from robofuse.errors import InputError
from robofuse.faults.base import FaultEvent
from robofuse.faults.catalogue import faults_for
from robofuse.faults.plan import Plan
from robofuse.rng import Stream, uniform
from robofuse.sensors import Sensor

SEVERITIES = (0.25, 0.5, 0.75, 1.0)
# Not in `standard_plans`, so that evaluations can tell what was learned from what was met before.
HELD_OUT = frozenset(
    {
        *("slow", "knocked", "glare", "compression", "movingocclusion", "colourcast"),
        *("flyingpixels", "scale", "drift", "crosstalk", "spikes"),
    }
)
UNLEARNABLE = frozenset({"nan", "inf"})  # what reaches a network makes all of its action so
_SALT = 1 << 50


@dataclass(frozen=True)
class Mix:
    """Another plan in every episode: one of several in a share of the episodes, nothing in the others.

    Attributes:
        plans: equally likely.
        share: of the episodes, in which something breaks.
    """

    plans: tuple[Plan, ...]
    share: float = 0.3

    def __post_init__(self) -> None:
        if not isinstance(self.plans, Sequence) or not self.plans or not all(isinstance(x, Plan) for x in self.plans):
            raise InputError(f"a mix needs at least one robofuse.faults.Plan, got {self.plans!r}")
        object.__setattr__(self, "plans", tuple(self.plans))
        if not isinstance(self.share, int | float) or not 0.0 <= self.share <= 1.0:
            raise InputError(f"share of the episodes must lie in [0, 1], got {self.share!r}")

    @classmethod
    def parse(cls, texts: Sequence[str], share: float, sensors: Sequence[Sensor]) -> "Mix":
        """From texts of plans; `standard` stands for `standard_plans`. InputError as of `Plan.read`."""
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InputError(f"a mix needs a list of texts, got {texts!r}")
        plans: list[Plan] = []
        for text in texts:
            plans += standard_plans(sensors) if text == "standard" else [Plan.read(text, sensors)]
        return cls(tuple(plans), share)

    def check(self, sensors: Sequence[Sensor], phases: Sequence[str] = (), cameras_move: bool = False) -> None:
        """As `Plan.check`, of every plan."""
        for plan in self.plans:
            plan.check(sensors, phases, cameras_move)

    def draw(self, seed: int, episode: Tensor) -> list[Plan]:
        """What breaks in episodes int64 (n,), a function of the seed and the number."""
        drawn = uniform(seed, Stream.FAULTS, episode, 1 << 40, 2, _SALT).tolist()
        return [self.plans[int(which * len(self.plans))] if hit < self.share else Plan() for hit, which in drawn]


FaultsLike = Plan | Mix | str | Callable[[Sequence[Sensor]], Plan | Mix] | None


def as_faults(faults: FaultsLike, sensors: Sequence[Sensor]) -> Plan | Mix:
    """Reads what a World takes as faults: text is parsed, a function is called with the sensors. Else InputError."""
    if faults is None:
        return Plan()
    if isinstance(faults, str):
        return Plan.parse(faults, sensors)
    found = faults(sensors) if callable(faults) else faults
    if not isinstance(found, Plan | Mix):
        raise InputError(
            "faults must be a robofuse.faults.Plan or Mix, a line such as rgb:freeze@20, or a function of the sensors "
            f"that gives a Plan or Mix; got {found!r}"
        )
    return found


def seen_faults(faults: Plan | Mix | None) -> list[str]:
    """The faults that a policy meets in training under these, such as `rgb:freeze`, sorted."""
    plans = faults.plans if isinstance(faults, Mix) else (faults,) if faults is not None else ()
    return sorted({f"{event.sensor}:{event.fault.name}" for plan in plans for event in plan})


def standard_plans(sensors: Sequence[Sensor], until: int = 30) -> list[Plan]:
    """Every fault of every sensor but `HELD_OUT`, at four severities, from a step that is drawn from 0 to `until`.

    Announced faults are left out, for which there is dropout, and those that put NaN or Inf into a reading.
    """
    events = []
    for sensor in sensors:
        for name, kind in faults_for(sensor.kind).items():
            if name == "blackout":
                events.append(FaultEvent(sensor.key, kind(), until=until, announced=False))
            elif name not in HELD_OUT | UNLEARNABLE and not kind.announced and not kind.recalls:
                events.append(FaultEvent(sensor.key, kind(), until=until))
    return [Plan((event,)).at(severity) for event in events for severity in SEVERITIES]
