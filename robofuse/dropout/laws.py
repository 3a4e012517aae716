"""Which sensors go missing together, and how often: the joint law of the hidden sensors.

A law speaks of units: sets of sensors that are hidden as one. Mostly a unit is one sensor; two pictures that share a
cable are one too. That at least one unit always stays is no law's business: `Masker` sees to it.

To write your own, subclass `Law` as a frozen dataclass and implement `bind`. This one hides exactly one sensor:

    @dataclass(frozen=True)
    class LoseOne(Law):
        def bind(self, keys):
            def draw(numbers, strength):
                lost = (numbers[:, :1] * len(keys)).long() == torch.arange(len(keys))
                return lost & (numbers[:, -1:] < strength)

            return Bound(singles(keys), (1 / len(keys),) * len(keys), draw)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.dropout.units import Units, check_rate, grouped, per_unit, same_camera, singles
from robofuse.errors import InputError

Rate = float | Mapping[str, float]  # of all sensors, or by sensor; sensors that a mapping leaves out are never hidden


@dataclass(frozen=True)
class Bound:
    """A law for certain sensors.

    Attributes:
        units: the sensors of each of the U units.
        rates: in the long run, the share of draws at full strength in which each unit is hidden.
        draw: (numbers, strength) → bool (n, U), the hidden units of n rows. `numbers` are uniform in (0, 1), float64
            (n, U + 1): one for each unit, and one more. `strength` in [0, 1] is the schedule's.
        follow: of laws that know what was hidden a control step ago: (numbers, strength, hidden (n, U)) → the same.
    """

    units: Units
    rates: tuple[float, ...]
    draw: Callable[[Tensor, float], Tensor]
    follow: Callable[[Tensor, float, Tensor], Tensor] | None = None


class Law(ABC):
    """How the hidden sensors are drawn.

    Attributes:
        stepwise: whether it is a process in time, with a new value at every control step.
    """

    stepwise: ClassVar[bool] = False

    @abstractmethod
    def bind(self, keys: Sequence[str]) -> Bound:
        """The law for these sensors, in the order of `available`; ValueError if it does not fit them."""


def _by_unit(units: Units, rates: Sequence[float]) -> Bound:
    """Every unit for itself."""
    table = torch.tensor(rates, dtype=torch.float64)
    return Bound(units, tuple(rates), lambda numbers, strength: numbers[:, :-1] < table * strength)


@dataclass(frozen=True)
class Independent(Law):
    """Every sensor is hidden with its own probability, whatever happens to the others.

    Attributes:
        p: probability, one for all or by sensor; usual are 0.1 to 0.5.
    """

    p: Rate = 0.3

    def __post_init__(self) -> None:
        check_rate(self.p, "Independent.p", all_one=True)

    def bind(self, keys: Sequence[str]) -> Bound:
        """See `Law.bind`."""
        units = singles(keys)
        return _by_unit(units, per_unit(self.p, units, "Independent.p"))


@dataclass(frozen=True)
class Rates(Law):
    """The outage rates measured on the robot: train for what will be met.

    Attributes:
        rates: sensor → share of the time in which it is missing, such as {"rgb": 0.02}; others never fail.
    """

    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.rates, Mapping):
            raise InputError(f'Rates.rates must be a mapping such as {{"rgb": 0.02}}, got {self.rates!r}')
        check_rate(self.rates, "Rates.rates")

    def bind(self, keys: Sequence[str]) -> Bound:
        """See `Law.bind`."""
        units = singles(keys)
        return _by_unit(units, per_unit(self.rates, units, "Rates.rates"))


@dataclass(frozen=True)
class Groups(Law):
    """Sensors that share a cable fail together: one draw per group.

    Attributes:
        groups: such as (("rgb", "depth"), ("proprio",)); sensors that are in none are groups of their own. By default
            the colour and the depth of each camera.
        p: probability, one for all groups or by any sensor of the group.
    """

    groups: tuple[tuple[str, ...], ...] | None = None
    p: Rate = 0.3

    def __post_init__(self) -> None:
        check_rate(self.p, "Groups.p", all_one=True)
        grouped((), self.groups, "Groups.groups", known=False)

    def bind(self, keys: Sequence[str]) -> Bound:
        """See `Law.bind`."""
        groups = same_camera(keys) if self.groups is None else self.groups
        units = grouped(keys, groups, "Groups.groups")
        return _by_unit(units, per_unit(self.p, units, "Groups.p"))


@dataclass(frozen=True)
class Subsets(Law):
    """All non-empty subsets of the sensors are equally likely to be what is left."""

    def bind(self, keys: Sequence[str]) -> Bound:
        """See `Law.bind`."""
        if len(keys) > 50:
            raise InputError(f"Subsets can tell the subsets of at most 50 sensors apart, got {len(keys)}")
        last = (1 << len(keys)) - 1
        places = torch.arange(len(keys))

        def draw(numbers: Tensor, strength: float) -> Tensor:
            left = (numbers[:, :1] * last).long().clamp_(max=last - 1) + 1
            return ((left >> places) & 1 == 0) & (numbers[:, -1:] < strength)

        rate = 1.0 - (1 << (len(keys) - 1)) / max(last, 1)
        return Bound(singles(keys), (rate,) * len(keys), draw)


@dataclass(frozen=True)
class Markov(Law):
    """Outages that begin and end: each sensor is a chain of two states that moves at every control step.

    In the long run a sensor is missing for fail / (fail + recover) of the time, in outages of 1 / recover steps on
    average. The first step is drawn from that long run, so an episode may begin in an outage.

    Attributes:
        fail: probability that a working sensor fails at a step, one for all or by sensor.
        recover: probability that a failed sensor works again at a step, one for all or by sensor.
        groups: sensors that fail together, as in `Groups`; by default each for itself.
    """

    fail: Rate = 0.01
    recover: Rate = 0.05
    groups: tuple[tuple[str, ...], ...] = ()

    stepwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self.fail, "Markov.fail")
        check_rate(self.recover, "Markov.recover")
        grouped((), self.groups, "Markov.groups", known=False)

    def bind(self, keys: Sequence[str]) -> Bound:
        """See `Law.bind`."""
        units = grouped(keys, self.groups, "Markov.groups")
        fail, recover = per_unit(self.fail, units, "Markov.fail"), per_unit(self.recover, units, "Markov.recover")
        for unit, f, r in zip(units, fail, recover, strict=True):
            if f and not r:
                raise InputError(
                    f"Markov: {' and '.join(unit)} can fail but never recover, and would be missing for ever in the "
                    f'long run; give recover above 0, or use Independent with every="outage"'
                )
        failing = torch.tensor(fail, dtype=torch.float64)
        recovering = torch.tensor(recover, dtype=torch.float64)

        def draw(numbers: Tensor, strength: float) -> Tensor:
            # a sensor that never fails may have no rate of recovery either: 0 of 0 is 0 here
            share = failing * strength / (failing * strength + recovering).clamp_min(1e-300)
            return numbers[:, :-1] < share

        def follow(numbers: Tensor, strength: float, hidden: Tensor) -> Tensor:
            return numbers[:, :-1] < torch.where(hidden, 1.0 - recovering, failing * strength)

        rates = tuple(f / (f + r) if f else 0.0 for f, r in zip(fail, recover, strict=True))
        return Bound(units, rates, draw, follow)
