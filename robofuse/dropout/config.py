"""What to hide, in one frozen object."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from robofuse.dropout.laws import Independent, Law
from robofuse.dropout.schedules import Constant, Schedule
from robofuse.dropout.units import check_probability
from robofuse.errors import InputError

Every = Literal["episode", "outage", "step"]


@dataclass(frozen=True)
class Dropout:
    """Hiding sensors on purpose, to train.

    Attributes:
        law: which sensors are hidden together, and how often.
        every: how long a draw lasts: an `episode`; an `outage`, a piece of an episode of random length; or one control
            `step`. By default `step` for processes in time (`Markov`), which know no other, and `episode` for the rest.
        schedule: strength of the law in the course of training.
        full: share of the episodes in which nothing is hidden, so that the policy also knows the healthy robot.
        outage_steps: mean length of a piece [control steps], of `every="outage"`; lengths are geometric.
    """

    law: Law = field(default_factory=Independent)
    every: Every | None = None
    schedule: Schedule = field(default_factory=Constant)
    full: float = 0.0
    outage_steps: float = 20.0

    def __post_init__(self) -> None:
        if not isinstance(self.law, Law):
            raise InputError(f"law must be a robofuse.dropout law such as Independent(0.3), got {self.law!r}")
        if not isinstance(self.schedule, Schedule):
            raise InputError(f"schedule must be a robofuse.dropout schedule such as Linear(), got {self.schedule!r}")
        if self.every is None:
            object.__setattr__(self, "every", "step" if self.law.stepwise else "episode")
        if self.every not in get_args(Every):
            raise InputError(f"every must be one of {', '.join(get_args(Every))}, got {self.every!r}")
        if self.law.stepwise and self.every != "step":
            raise InputError(
                f"{type(self.law).__name__} is a process in time that moves at every control step and makes outages "
                f'by itself: every="{self.every}" has no meaning for it; leave `every` out'
            )
        check_probability(self.full, "full")
        steps = self.outage_steps
        if isinstance(steps, bool) or not isinstance(steps, int | float | np.number) or not 1.0 <= steps < np.inf:
            raise InputError(f"outage_steps must be a number of at least 1, got {steps!r}")


def as_dropout(value: Dropout | Law | float | None) -> Dropout | None:
    """What users may write for short: a law, or the probability of `Independent`; None is none.

    Returns:
        The whole thing, or None.

    Raises:
        ValueError: anything else.
    """
    if value is None or isinstance(value, Dropout):
        return value
    if isinstance(value, Law):
        return Dropout(value)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"dropout must be a probability, a robofuse.dropout.Dropout or a law, got {value!r}")
    check_probability(value, "dropout")
    return Dropout(Independent(float(value)))
