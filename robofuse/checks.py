"""Checks of arguments; the messages say what is allowed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from robofuse.errors import InputError


def whole(value: Any, what: str, low: int, high: int | None = None) -> int:  # noqa: ANN401
    """The value as an int within [low, high]; InputError, naming `what`, if it is anything else."""
    good = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not good or value < low or (high is not None and value > high):
        end = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise InputError(f"{what} must be an integer {end}, got {value!r}")
    return int(value)


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_least_zero(value: Any, what: str) -> None:  # noqa: ANN401
    """Raise InputError, naming `what`, unless the value is a finite number of at least 0."""
    if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value < 0:
        raise InputError(f"{what} must be a finite number of at least 0, got {value!r}")


def zeros_and_ones(values: Any, what: str) -> None:  # noqa: ANN401
    """Raise InputError, naming `what`, unless every element of an array or a tensor is 0 or 1."""
    if not bool(((values == 0) | (values == 1)).all()):
        raise InputError(f"{what} must hold 0 and 1 alone, 1 = delivering; got {values.min()} to {values.max()}")


def check_types(options: Any) -> None:  # noqa: ANN401
    """Raise InputError unless the options of a command, a dataclass, and its groups have their declared types."""
    for name, hint in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if not _has_type(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise InputError(f"--{name.replace('_', '-')} must be {wanted}, got {value!r}")
        if is_dataclass(value):
            check_types(value)


def _has_type(value: Any, hint: Any) -> bool:  # noqa: ANN401
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inner
    if kind is tuple:
        return isinstance(value, tuple | list) and all(_has_type(x, inner[0]) for x in value)
    if kind in (Union, UnionType):
        return any(_has_type(value, one) for one in inner)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def parse_numbers(option: str, example: str, texts: Sequence[str]) -> dict[str, float]:
    """`parse_pairs`, with numbers for values."""
    pairs = parse_pairs(option, example, texts)
    try:
        return {key: float(value) for key, value in pairs.items()}
    except ValueError:
        raise InputError(f"{option} takes entries such as {example}, got {' '.join(texts)!r}") from None


def parse_pairs(option: str, example: str, texts: Sequence[str]) -> dict[str, str]:
    """The entries KEY=VALUE of an option; InputError, naming the option and an example, for anything else."""
    pairs = [text.partition("=") for text in texts]
    for text, (key, _, value) in zip(texts, pairs, strict=True):
        if not key or not value:
            raise InputError(f"{option} takes entries such as {example}, got {text!r}")
    return {key: value for key, _, value in pairs}


def check_name(name: Any, thing: Any, known: Mapping[str, Any], what: str) -> None:  # noqa: ANN401
    """Check the name of a user's task, robot, encoder or fusion.

    Args:
        name: letters, digits, _ and -, a letter first.
        thing: what gets the name; it may have it already, such as the class of a notebook's cell that runs twice.
        known: name → what has it.
        what: task, robot, …, for the message.

    Raises:
        InputError: not a name, or something else has it.
    """
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
        raise InputError(f"a {what} needs a name of letters, digits, _ and -, got {name!r}")
    held = known.get(name, thing)
    if held is not thing and held != thing and _home(held) != _home(thing):
        raise InputError(f"the name {name!r} belongs to another {what} already; {what}s: {', '.join(known)}")


def _home(thing: Any) -> tuple[Any, ...]:  # noqa: ANN401
    names = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return names if None not in names else (id(thing),)
