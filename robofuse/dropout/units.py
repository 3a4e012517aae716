"""Units: sensors that are hidden as one; and numbers given for all of them or by sensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robofuse.errors import InputError

Units = tuple[tuple[str, ...], ...]
NO_WAY_OUT = "no sensor would ever be left; give at least one of them a probability below 1"


def check_probability(value: Any, what: str) -> float:  # noqa: ANN401
    """The value as a float; ValueError unless it is a number in [0, 1]."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:
        raise InputError(f"{what} must lie in [0, 1], got {value!r}")
    return float(value)


def check_rate(rate: Any, what: str, all_one: bool = False) -> None:  # noqa: ANN401
    """A probability, or a mapping from sensor to probability, or ValueError.

    Args:
        rate: what was passed.
        what: its name, for the message.
        all_one: whether 1 for every sensor is refused too.
    """
    if isinstance(rate, Mapping):
        for key, value in rate.items():
            check_probability(value, f"{what}[{key!r}]")
    elif check_probability(rate, what) == 1.0 and all_one:
        raise InputError(f"{what} is 1 for every sensor: {NO_WAY_OUT}")


def singles(keys: Sequence[str]) -> Units:
    """Every sensor a unit of its own."""
    return tuple((key,) for key in keys)


def same_camera(keys: Sequence[str]) -> Units:
    """The colour and the depth of each camera: (rgb, depth), (rgb_wrist, depth_wrist) and so on."""
    pairs = ((key, key.replace("rgb", "depth", 1)) for key in keys if key == "rgb" or key.startswith("rgb_"))
    return tuple(pair for pair in pairs if pair[1] in keys)


def grouped(keys: Sequence[str], groups: Any, what: str, known: bool = True) -> Units:  # noqa: ANN401
    """The groups, and every other sensor as a unit of its own.

    Args:
        keys: all sensors.
        groups: sets of sensors, or None for none.
        what: their name, for the message.
        known: whether to refuse names that are not among `keys`.

    Raises:
        ValueError: no sets of names, an empty one, an unknown name, or a sensor named twice.
    """
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


def check_names(names: Sequence[str], keys: Sequence[str], what: str) -> None:
    """ValueError that lists the sensors unless all names are among them."""
    for name in names:
        if name not in keys:
            raise InputError(f"unknown sensor {name!r} in {what}; sensors: {', '.join(sorted(keys))}")


def per_unit(rate: float | Mapping[str, float], units: Units, what: str) -> tuple[float, ...]:
    """The probability of each unit; of those that a mapping does not name, 0.

    Raises:
        ValueError: an unknown sensor, or different numbers within one unit.
    """
    if not isinstance(rate, Mapping):
        return (float(rate),) * len(units)
    check_names(list(rate), [key for unit in units for key in unit], what)
    found = []
    for unit in units:
        values = {float(rate[key]) for key in unit if key in rate}
        if len(values) > 1:
            raise InputError(f"{what} gives {', '.join(unit)} different numbers, but they are hidden together")
        found.append(values.pop() if values else 0.0)
    return tuple(found)
