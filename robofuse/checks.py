"""Checks of what users pass, with sentences that say what would be right."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from robofuse.errors import InputError


def whole(value: Any, what: str, low: int, high: int | None = None) -> int:  # noqa: ANN401
    """An integer within [low, high].

    Args:
        value: what was passed.
        what: its name, for the message.
        low: smallest allowed.
        high: largest allowed, None for no end.

    Raises:
        ValueError: anything else.
    """
    good = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not good or value < low or (high is not None and value > high):
        end = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise InputError(f"{what} must be an integer {end}, got {value!r}")
    return int(value)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_least_zero(value: Any, what: str) -> None:  # noqa: ANN401
    """A finite number that is not negative, or ValueError."""
    if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value < 0:
        raise InputError(f"{what} must be a finite number of at least 0, got {value!r}")


def zeros_and_ones(values: Any, what: str) -> None:  # noqa: ANN401
    """ValueError unless every element of an array or a tensor is 0 or 1, as in masks; `what` is its name."""
    if not bool(((values == 0) | (values == 1)).all()):
        raise InputError(f"{what} must hold 0 and 1 alone, 1 = delivering; got {values.min()} to {values.max()}")


def check_name(name: Any, thing: Any, known: Mapping[str, Any], what: str) -> None:  # noqa: ANN401
    """Whether something of the user's can be made known by a name.

    Args:
        name: letters, digits, _ and -, a letter first.
        thing: what is to have it; the same thing again, such as the class of a notebook's cell that ran twice, is fine.
        known: name → what has it.
        what: task, robot, …, for the message.

    Raises:
        ValueError: not a name, or something else has it.
    """
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
        raise InputError(f"a {what} needs a name of letters, digits, _ and -, got {name!r}")
    held = known.get(name, thing)
    if held is not thing and held != thing and _home(held) != _home(thing):
        raise InputError(f"the name {name!r} belongs to another {what} already; {what}s: {', '.join(known)}")


def _home(thing: Any) -> tuple[Any, ...]:  # noqa: ANN401
    names = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return names if None not in names else (id(thing),)
