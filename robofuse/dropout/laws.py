"""Which sensors are masked, how long and how strongly: `Dropout`, its laws and its schedules.

A law is the joint distribution of the masked sensors. It speaks of units: sets of sensors that are masked together,
mostly one sensor; two pictures that share a cable are one unit too. A law may mask every unit; `Masker` then keeps one.

To write your own, subclass `Law` as a frozen dataclass and implement `bind`. This one leaves exactly one sensor:

    @dataclass(frozen=True)
    class KeepOne(Law):
        def bind(self, keys):
            def draw(numbers, strength):
                left = (numbers[:, :1] * len(keys)).long() == torch.arange(len(keys))
                return ~left & (numbers[:, -1:] < strength)

            return Bound(singles(keys), (1 - 1 / len(keys),) * len(keys), draw)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from robofuse.checks import at_least_zero
from robofuse.dropout.logs import as_log, missing_sets, missing_share, transitions
from robofuse.errors import InputError
from robofuse.tensors import Constants

Units = tuple[tuple[str, ...], ...]
Rate = float | Mapping[str, float]  # of all sensors, or by sensor; sensors that a mapping leaves out are never masked
Every = Literal["episode", "outage", "step"]
ALWAYS_ALL = "no sensor would ever be left; give at least one of them a probability below 1"


@dataclass(frozen=True)
class Bound:
    """A law for certain sensors.

    Attributes:
        units: the sensors of each of the U units.
        rates: in the long run, the share of draws at full strength in which each unit is masked.
        draw: (numbers, strength) → bool (n, U), the masked units of n environments. `numbers` are uniform in (0, 1),
            float64 (n, U + 1): one for each unit, and one more. `strength` in [0, 1] is the schedule's.
        follow: of laws that know what was masked a control step ago: (numbers, strength, masked (n, U)) → the same.
    """

    units: Units
    rates: tuple[float, ...]
    draw: Callable[[Tensor, float], Tensor]
    follow: Callable[[Tensor, float, Tensor], Tensor] | None = None


class Law(ABC):
    """How the masked sensors are drawn. `stepwise`: it is a process in time, with a new value at every control step."""

    stepwise: ClassVar[bool] = False

    @abstractmethod
    def bind(self, keys: Sequence[str]) -> Bound:
        """The law for these sensors, in the order of `available`; InputError if it does not fit them."""


@dataclass(frozen=True)
class Independent(Law):
    """Every sensor is masked with its own probability, whatever happens to the others.

    `p` is one probability for all, or one by sensor; usual are 0.1 to 0.5.
    """

    p: Rate = 0.3

    def __post_init__(self) -> None:
        _check_rate(self.p, "Independent.p", all_one=True)

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every sensor is a unit."""
        units = singles(keys)
        return _by_unit(units, _per_unit(self.p, units, "Independent.p"))


@dataclass(frozen=True)
class Rates(Law):
    """The outage rates measured on the robot.

    `rates` is sensor → share of the time in which it is missing, such as {"rgb": 0.02}; other sensors are never masked.
    """

    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.rates, Mapping):
            raise InputError(f'Rates.rates must be a mapping such as {{"rgb": 0.02}}, got {self.rates!r}')
        _check_rate(self.rates, "Rates.rates")

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every sensor is a unit."""
        units = singles(keys)
        return _by_unit(units, _per_unit(self.rates, units, "Rates.rates"))

    @classmethod
    def from_log(cls, available: Any, keys: Sequence[str]) -> "Rates":  # noqa: ANN401
        """The rates in a log of which sensors delivered; arguments and errors as of `as_log`."""
        return cls(missing_share(as_log(available, keys)))


@dataclass(frozen=True)
class Empirical(Law):
    """The joint law measured on the robot: which sensors are missing together, and how often.

    `missing` is set of missing sensors → its frequency, such as {(): 90, ("rgb",): 2, ("depth", "rgb"): 8};
    frequencies may be counts, as they are divided by their sum. Sensors that are in no set are never masked.
    """

    missing: Mapping[tuple[str, ...], float]

    def __post_init__(self) -> None:
        example = '{(): 90, ("rgb",): 2, ("depth", "rgb"): 8}'
        if not isinstance(self.missing, Mapping) or not all(
            isinstance(lost, tuple) and all(isinstance(key, str) for key in lost) for lost in self.missing
        ):
            raise InputError(f"Empirical.missing must map sets of sensors to numbers, such as {example}, "
                             f"got {self.missing!r}")  # fmt: skip
        for lost, frequency in self.missing.items():
            at_least_zero(frequency, f"Empirical.missing[{lost!r}]")
        if not sum(self.missing.values()) > 0:
            raise InputError(f"Empirical.missing needs a set with a frequency above 0, such as {example}")

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every sensor is a unit; one number chooses the set."""
        for lost in self.missing:
            check_names(lost, keys, "Empirical.missing")
        sets = [(lost, float(n)) for lost, n in self.missing.items() if n > 0]
        total = math.fsum(n for _, n in sets)
        ends = torch.tensor([n for _, n in sets], dtype=torch.float64).cumsum(0)
        table = Constants(torch.tensor([[key in lost for key in keys] for lost, _ in sets]))
        ends = Constants(ends / ends[-1])

        def draw(numbers: Tensor, strength: float) -> Tensor:
            which = torch.bucketize(numbers[:, 0].contiguous(), ends.on(numbers.device), right=True).clamp_(
                max=len(sets) - 1
            )
            return table.on(numbers.device).index_select(0, which) & (numbers[:, -1:] < strength)

        rates = (math.fsum(n for lost, n in sets if key in lost) / total for key in keys)
        return Bound(singles(keys), tuple(rates), draw)

    @classmethod
    def from_log(cls, available: Any, keys: Sequence[str]) -> "Empirical":  # noqa: ANN401
        """The frequencies in a log of which sensors delivered; arguments and errors as of `as_log`."""
        return cls(missing_sets(as_log(available, keys)))


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
        _check_rate(self.p, "Groups.p", all_one=True)
        _grouped((), self.groups, "Groups.groups", known=False)

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every group is a unit."""
        groups = same_camera(keys) if self.groups is None else self.groups
        units = _grouped(keys, groups, "Groups.groups")
        return _by_unit(units, _per_unit(self.p, units, "Groups.p"))


@dataclass(frozen=True)
class LoseOne(Law):
    """Exactly one sensor is masked, each as likely as any other; with a probability of 1 − p, none is.

    "All sensors, or one at random dropped", as unimodal encoders are adapted to missing sensors (U2A).

    Attributes:
        p: probability that one is masked.
        groups: sensors that are masked together, as in `Groups`, and count as one; by default each for itself.
    """

    p: float = 1.0
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_probability(self.p, "LoseOne.p")
        _grouped((), self.groups, "LoseOne.groups", known=False)

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every group is a unit; one number chooses it, another whether it is masked."""
        units = _grouped(keys, self.groups, "LoseOne.groups")
        numbers_of_units = Constants(torch.arange(len(units)))

        def draw(numbers: Tensor, strength: float) -> Tensor:
            lost = (numbers[:, :1] * len(units)).long().clamp_(max=len(units) - 1)
            return (lost == numbers_of_units.on(lost.device)) & (numbers[:, -1:] < self.p * strength)

        return Bound(units, (self.p / len(units),) * len(units), draw)


@dataclass(frozen=True)
class Subsets(Law):
    """All non-empty subsets of the sensors are equally likely to be what is left."""

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every sensor is a unit; one number chooses the subset."""
        if len(keys) > 50:
            raise InputError(f"Subsets can tell the subsets of at most 50 sensors apart, got {len(keys)}")
        last = (1 << len(keys)) - 1
        columns = Constants(torch.arange(len(keys)))

        def draw(numbers: Tensor, strength: float) -> Tensor:
            left = (numbers[:, :1] * last).long().clamp_(max=last - 1) + 1
            return ((left >> columns.on(left.device)) & 1 == 0) & (numbers[:, -1:] < strength)

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
        _check_rate(self.fail, "Markov.fail")
        _check_rate(self.recover, "Markov.recover")
        _grouped((), self.groups, "Markov.groups", known=False)

    def bind(self, keys: Sequence[str]) -> Bound:
        """Every group is a unit; `follow` moves the chains by a step."""
        units = _grouped(keys, self.groups, "Markov.groups")
        fail, recover = _per_unit(self.fail, units, "Markov.fail"), _per_unit(self.recover, units, "Markov.recover")
        for unit, f, r in zip(units, fail, recover, strict=True):
            if f and not r:
                raise InputError(
                    f"Markov: {' and '.join(unit)} can fail but never recover, and would be missing for ever in the "
                    f'long run; give recover above 0, or use Independent with every="outage"'
                )
        both = Constants(torch.tensor([fail, recover], dtype=torch.float64))

        def draw(numbers: Tensor, strength: float) -> Tensor:
            # a sensor that never fails may have no rate of recovery either: 0 of 0 is 0 here
            failing, recovering = both.on(numbers.device)
            share = failing * strength / (failing * strength + recovering).clamp_min(1e-300)
            return numbers[:, :-1] < share

        def follow(numbers: Tensor, strength: float, masked: Tensor) -> Tensor:
            failing, recovering = both.on(masked.device)
            return numbers[:, :-1] < torch.where(masked, 1.0 - recovering, failing * strength)

        rates = tuple(f / (f + r) if f else 0.0 for f, r in zip(fail, recover, strict=True))
        return Bound(units, rates, draw, follow)

    @classmethod
    def fit(
        cls,
        available: Any,  # noqa: ANN401
        keys: Sequence[str],
        starts: Any = None,  # noqa: ANN401
        groups: tuple[tuple[str, ...], ...] = (),
    ) -> "Markov":
        """The most likely rates, given a log of which sensors delivered and how its episodes begin.

        They are the shares of delivering steps that were followed by an outage, and of missing ones that were followed
        by its end (maximum likelihood of a chain; Anderson and Goodman 1957).

        Args:
            available: the log, (T, M) or (T, N, M), see `as_log`.
            keys: its sensors.
            starts: where its episodes begin; no step leads from one to the next.
            groups: sensors that fail together, as in `Groups`.

        Raises:
            InputError: not a log; a group whose sensors are not missing together; or a sensor whose rates it cannot
                tell, as it never delivers, or never comes back.
        """
        log = as_log(available, keys, starts)
        units = _grouped(log.keys, groups, "groups")
        fail, recover = dict[str, float](), dict[str, float]()
        for unit, counts in zip(units, transitions(log, units), strict=True):
            names, ((stays, fails), (returns, lasts)) = " and ".join(unit), counts.tolist()
            delivers = log.available[..., log.keys.index(unit[0])]
            if not delivers.any():
                raise InputError(f"{names} never delivered in this log, so it cannot tell how often they fail")
            if not delivers.all() and not returns:
                raise InputError(
                    f"in this log {names} never came back before an episode ended, so it cannot tell how long an "
                    "outage lasts; give a longer log, or take Empirical.from_log, for whole episodes"
                )
            rate = fails / max(stays + fails, 1)
            back = returns / (returns + lasts) if returns else 1.0
            fail |= {key: rate for key in unit}
            recover |= {key: back for key in unit}
        return cls(fail, recover, groups)


class Schedule(ABC):
    """A strength in [0, 1] that depends on training progress; to write your own, implement `strength`.

    Strength multiplies the probabilities of a law (of `Subsets`: the probability to draw a subset rather than
    everything; of `Markov`: the probability to fail). A policy holds only up to the rate it was trained with, so a
    schedule should not end below the rate that the policy will be tested at. `varies`: progress makes a difference, and
    must be reported.
    """

    varies: ClassVar[bool] = True

    @abstractmethod
    def strength(self, progress: float) -> float:
        """Strength in [0, 1] at training progress in [0, 1]."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same strength throughout."""

    value: float = 1.0

    varies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_probability(self.value, "Constant.value")

    def strength(self, progress: float) -> float:
        """The value, whatever the progress."""
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """A curriculum: strength `start` until progress `warmup`, then evenly to `end` at progress `until` and after."""

    start: float = 0.0
    end: float = 1.0
    warmup: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "warmup", "until"):
            check_probability(getattr(self, name), f"{type(self).__name__}.{name}")
        if self.warmup >= self.until:
            raise InputError(f"the ramp must end after it begins, got warmup={self.warmup} and until={self.until}")

    def strength(self, progress: float) -> float:
        """Between `start` and `end`, by the share of the ramp that is done."""
        share = min(max((progress - self.warmup) / (self.until - self.warmup), 0.0), 1.0)
        return self.start * (1.0 - self._bend(share)) + self.end * self._bend(share)

    def _bend(self, share: float) -> float:
        return share


@dataclass(frozen=True)
class Cosine(Linear):
    """As `Linear`, but along half a cosine: it leaves `start` and reaches `end` gently."""

    def _bend(self, share: float) -> float:
        return 0.5 - 0.5 * math.cos(math.pi * share)


@dataclass(frozen=True)
class Dropout:
    """Masking sensors on purpose, to train.

    Attributes:
        law: which sensors are masked together, and how often.
        every: how long a draw lasts: an `episode`; an `outage`, a piece of an episode of random length; or one control
            `step`. By default `step` for processes in time (`Markov`), which know no other, and `episode` for the rest
            (`outage` if `shared`).
        schedule: strength of the law in the course of training.
        full: share of the episodes in which nothing is masked, so that the policy also knows the healthy robot.
        outage_steps: mean length of a piece [control steps], of `every="outage"`; lengths are geometric.
        shared: per batch: at any time all environments have the same mask, by default in pieces of random length, as
            their episodes end at different times. `full` is the share of those pieces then. Else each environment
            draws its own.
    """

    law: Law = field(default_factory=Independent)
    every: Every | None = None
    schedule: Schedule = field(default_factory=Constant)
    full: float = 0.0
    outage_steps: float = 20.0
    shared: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.law, Law):
            raise InputError(f"law must be a robofuse.dropout law such as Independent(0.3), got {self.law!r}")
        if not isinstance(self.schedule, Schedule):
            raise InputError(f"schedule must be a robofuse.dropout schedule such as Linear(), got {self.schedule!r}")
        if self.every is None:
            alone = "outage" if self.shared else "episode"
            object.__setattr__(self, "every", "step" if self.law.stepwise else alone)
        if self.every not in get_args(Every):
            raise InputError(f"every must be one of {', '.join(get_args(Every))}, got {self.every!r}")
        if self.law.stepwise and self.every != "step":
            raise InputError(
                f"{type(self.law).__name__} is a process in time that moves at every control step and makes outages "
                f'by itself: every="{self.every}" has no meaning for it; leave `every` out'
            )
        if self.shared and self.every == "episode":
            raise InputError(
                "shared masks change for all environments at once, and their episodes end at different times: give "
                'every="outage" or "step"'
            )
        if check_probability(self.full, "full") and self.shared and self.law.stepwise:
            raise InputError(
                f"shared masks of {type(self.law).__name__} have no pieces of which `full` could be a share; leave it 0"
            )
        steps = self.outage_steps
        if isinstance(steps, bool) or not isinstance(steps, int | float | np.number) or not 1.0 <= steps < np.inf:
            raise InputError(f"outage_steps must be a number of at least 1, got {steps!r}")


def as_dropout(value: Dropout | Law | float | None) -> Dropout | None:
    """Completes what users may write for short: a law, or the probability of `Independent`. Else InputError."""
    if value is None or isinstance(value, Dropout):
        return value
    if isinstance(value, Law):
        return Dropout(value)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"dropout must be a probability, a robofuse.dropout.Dropout or a law, got {value!r}")
    check_probability(value, "dropout")
    return Dropout(Independent(float(value)))


def singles(keys: Sequence[str]) -> Units:
    """Every sensor a unit of its own."""
    return tuple((key,) for key in keys)


def check_probability(value: Any, what: str) -> float:  # noqa: ANN401
    """The value as a float; InputError unless it is a number in [0, 1]."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:
        raise InputError(f"{what} must lie in [0, 1], got {value!r}")
    return float(value)


def check_names(names: Sequence[str], keys: Sequence[str], what: str) -> None:
    """InputError that lists the sensors unless all names are among them."""
    for name in names:
        if name not in keys:
            raise InputError(f"unknown sensor {name!r} in {what}; sensors: {', '.join(sorted(keys))}")


def _by_unit(units: Units, rates: Sequence[float]) -> Bound:
    """Every unit for itself."""
    table = Constants(torch.tensor(rates, dtype=torch.float64))
    return Bound(units, tuple(rates), lambda numbers, strength: numbers[:, :-1] < table.on(numbers.device) * strength)


def _check_rate(rate: Any, what: str, all_one: bool = False) -> None:  # noqa: ANN401
    """InputError unless it is a probability or maps sensors to such; `all_one`: 1 for every sensor is refused too."""
    if isinstance(rate, Mapping):
        for key, value in rate.items():
            check_probability(value, f"{what}[{key!r}]")
    elif check_probability(rate, what) == 1.0 and all_one:
        raise InputError(f"{what} is 1 for every sensor: {ALWAYS_ALL}")


def same_camera(keys: Sequence[str]) -> Units:
    """The colour and the depth of each camera: (rgb, depth), (rgb_wrist, depth_wrist) and so on."""
    pairs = ((key, key.replace("rgb", "depth", 1)) for key in keys if key == "rgb" or key.startswith("rgb_"))
    return tuple(pair for pair in pairs if pair[1] in keys)


def _grouped(keys: Sequence[str], groups: Any, what: str, known: bool = True) -> Units:  # noqa: ANN401
    """The groups, and every other sensor as a unit of its own; `known`: names that are not among `keys` are refused."""
    groups = () if groups is None else groups
    if isinstance(groups, str) or not all(isinstance(group, tuple | list) for group in groups):
        raise InputError(f'{what} must be groups of sensors such as (("rgb", "depth"), ("proprio",)), got {groups!r}')
    if not all(groups):
        raise InputError(f"{what} has an empty group; leave it out")
    named = [key for group in groups for key in group]
    if known:
        check_names(named, keys, what)
    for key in named:
        if named.count(key) > 1:
            raise InputError(f"{what} names {key!r} more than once; a sensor belongs to one group")
    return tuple(tuple(group) for group in groups) + singles([key for key in keys if key not in named])


def _per_unit(rate: Rate, units: Units, what: str) -> tuple[float, ...]:
    """The probability of each unit; of those that a mapping does not name, 0."""
    if not isinstance(rate, Mapping):
        return (float(rate),) * len(units)
    check_names(list(rate), [key for unit in units for key in unit], what)
    found = []
    for unit in units:
        values = {float(rate[key]) for key in unit if key in rate}
        if len(values) > 1:
            raise InputError(f"{what} gives {', '.join(unit)} different numbers, but they are masked together")
        found.append(values.pop() if values else 0.0)
    return tuple(found)
