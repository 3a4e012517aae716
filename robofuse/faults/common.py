"""Faults that any sensor can have."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext, number
from robofuse.sensors import Kind


@dataclass(frozen=True)
class Blackout(Fault):
    """Nothing arrives: the reading is 0. Announced by default; any severity above 0 is all of it."""

    name: ClassVar[str] = "blackout"
    announced: ClassVar[bool] = True
    erases: ClassVar[bool] = True

    @classmethod
    def graded(cls, kind: Kind) -> bool:
        return False

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        return torch.zeros_like(reading)


@dataclass(frozen=True)
class Intermittent(Blackout):
    """A loose contact: outages come and go, at severity 1 in 0.9 of the time; announced by default.

    They are a two-state Markov process of mean length `steps` [control steps]; longer where gaps would be shorter than
    a step.
    """

    name: ClassVar[str] = "intermittent"
    steps: float = number(5.0, 1.0, 1e6)

    @classmethod
    def graded(cls, kind: Kind) -> bool:
        return True

    def bursts(self) -> tuple[float, float]:
        share = 0.9 * self.severity
        if not share:
            return self.steps, math.inf
        gap = self.steps * (1.0 - share) / share
        return (self.steps, gap) if gap >= 1.0 else (share / (1.0 - share), 1.0)  # no gap is shorter than a step


@dataclass(frozen=True)
class Freeze(Fault):
    """The last reading before it stays; at severity s, of elements of vectors and windows the first share s does.

    A frozen camera is frozen as a whole.
    """

    name: ClassVar[str] = "freeze"
    holds: ClassVar[bool] = True

    @classmethod
    def graded(cls, kind: Kind) -> bool:
        return kind in ("vector", "window")

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        if reading.ndim == 4:
            return context.before
        count = max(1, round(self.severity * reading.shape[-1]))
        reading[..., :count] = context.before[..., :count]
        return reading


@dataclass(frozen=True)
class Latency(Fault):
    """Readings arrive late, by `seconds` at severity 1, and by up to `jitter` more [s], drawn anew for each."""

    name: ClassVar[str] = "latency"
    seconds: float = number(0.5, 0.0, 1.0)
    jitter: float = number(0.0, 0.0, 1.0)
    history: ClassVar[float] = 2.0

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        late = self.severity * (self.seconds + self.jitter * context.uniform(1)[:, 0])
        return context.past((late / context.dt).round().long().minimum(context.step))


@dataclass(frozen=True)
class Jitter(Latency):
    """Readings arrive late by anything up to `jitter` [s] at severity 1, drawn anew for each."""

    name: ClassVar[str] = "jitter"
    seconds: float = number(0.0, 0.0, 1.0)
    jitter: float = number(0.3, 0.0, 1.0)


@dataclass(frozen=True)
class Slow(Fault):
    """A reduced rate: each reading is held, for `seconds` at severity 1."""

    name: ClassVar[str] = "slow"
    seconds: float = number(1.0, 1e-6, 2.0)
    history: ClassVar[float] = 2.0

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        interval = max(1, round(self.severity * self.seconds / context.dt))
        return context.past(context.since % interval)


@dataclass(frozen=True)
class NotANumber(Fault):
    """NaN in a share of the elements: all of them at severity 1, each drawn anew at every step."""

    value: ClassVar[float] = float("nan")

    name: ClassVar[str] = "nan"
    kinds: ClassVar = ("vector", "window")

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        hit = context.uniform(*reading.shape[1:]) <= self.severity
        return reading.masked_fill(hit, self.value)


@dataclass(frozen=True)
class Infinite(NotANumber):
    """Inf in a share of the elements: all of them at severity 1, each drawn anew at every step."""

    value: ClassVar[float] = float("inf")

    name: ClassVar[str] = "inf"


@dataclass(frozen=True)
class Stale(Fault):
    """A driver that delivers another episode: the readings that this environment's last one had at the same step.

    In the first episode of an environment there is no other, and the reading before the fault stays; of an episode
    longer than 128 steps, the first 128 are known, and the last of them stays. At severity s it happens in a share s of
    the episodes. What it shows depends on what the environment played before, so it is no fault for paired comparisons.
    """

    name: ClassVar[str] = "stale"
    holds: ClassVar[bool] = True
    recalls: ClassVar[bool] = True

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        hit = context.uniform(1, fixed=True)[:, 0] <= self.severity
        hit = hit.reshape(-1, *[1] * (reading.ndim - 1))
        return select(hit, context.other(), reading)


def select(chosen: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`torch.where`, of unsigned 16-bit numbers too."""
    if first.dtype == torch.uint16:
        return torch.where(chosen, first.view(torch.int16), second.view(torch.int16)).view(torch.uint16)
    return torch.where(chosen, first, second)
