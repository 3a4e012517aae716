"""How strong dropout is in the course of training.

Strength multiplies the probabilities of a law (of `Subsets`: the probability to draw a subset rather than everything;
of `Markov`: the probability to fail). A policy holds only up to the rate it was trained with, so a schedule should
not end below the rate that the policy will be tested at.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from robofuse.dropout.units import check_probability
from robofuse.errors import InputError


class Schedule(ABC):
    """A strength in [0, 1] for every moment of training; to write your own, implement `strength`."""

    @abstractmethod
    def strength(self, progress: float) -> float:
        """Strength in [0, 1] at training progress in [0, 1]."""

    @property
    def varies(self) -> bool:
        """Whether progress makes a difference, so that somebody has to report it."""
        return True


@dataclass(frozen=True)
class Constant(Schedule):
    """The same throughout.

    Attributes:
        value: strength in [0, 1].
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        check_probability(self.value, "Constant.value")

    def strength(self, progress: float) -> float:
        """See `Schedule.strength`."""
        return self.value

    @property
    def varies(self) -> bool:
        """See `Schedule.varies`."""
        return False


@dataclass(frozen=True)
class Linear(Schedule):
    """A curriculum: `start` during the warm-up, then evenly to `end`, and `end` from then on.

    Attributes:
        start: strength at first.
        end: strength at last.
        warmup: progress at which the ramp begins.
        until: progress at which it is over.
    """

    start: float = 0.0
    end: float = 1.0
    warmup: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        for field in ("start", "end", "warmup", "until"):
            check_probability(getattr(self, field), f"{type(self).__name__}.{field}")
        if self.warmup >= self.until:
            raise InputError(f"the ramp must end after it begins, got warmup={self.warmup} and until={self.until}")

    def strength(self, progress: float) -> float:
        """See `Schedule.strength`."""
        share = min(max((progress - self.warmup) / (self.until - self.warmup), 0.0), 1.0)
        return self.start * (1.0 - self._bend(share)) + self.end * self._bend(share)

    def _bend(self, share: float) -> float:
        return share


@dataclass(frozen=True)
class Cosine(Linear):
    """As `Linear`, but along half a cosine: it leaves `start` and reaches `end` gently."""

    def _bend(self, share: float) -> float:
        return 0.5 - 0.5 * math.cos(math.pi * share)
