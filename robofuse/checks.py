"""Checks of what users pass, with sentences that say what would be right."""

from typing import Any

import numpy as np


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
        raise ValueError(f"{what} must be an integer {end}, got {value!r}")
    return int(value)


def at_least_zero(value: Any, what: str) -> None:  # noqa: ANN401
    """A finite number that is not negative, or ValueError."""
    if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value < 0:
        raise ValueError(f"{what} must be a finite number of at least 0, got {value!r}")
