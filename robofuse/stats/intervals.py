"""How sure one can be of a success rate, and of the difference between two."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from robofuse.errors import InputError


class Estimate(NamedTuple):
    """A number and the interval it may lie in.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a success probability (Wilson 1927), good at few trials and near 0 and 1 too.

    Args:
        successes: how many of the trials succeeded.
        n: independent trials, at least 1.
        level: how often such an interval covers the truth.

    Returns:
        (low, high), each within [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    from scipy.stats import binomtest  # takes half a second

    check_level(level)
    if not 0 <= successes <= n or n < 1:
        raise InputError(f"successes must lie in 0 … n and n be at least 1, got {successes} of {n}")
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: Sequence[bool], second: Sequence[bool], level: float = 0.95) -> Estimate:
    """How much more often the second succeeds than the first, on the same scenes.

    The interval is Bonett and Price's (2012): Wald's, after one scene has been added to each kind that tells the two
    apart. It stays sensible where they never differ.

    Args:
        first: success per scene.
        second: success on the same scenes, in the same order.
        level: how often such an interval covers the truth.

    Returns:
        The difference of the two rates and its interval, within [−1, 1].

    Raises:
        ValueError: no scenes, or not as many for both.
    """
    from scipy.stats import norm

    check_level(level)
    if len(first) != len(second) or not len(first):
        raise InputError(f"as many scenes for both, and at least one: got {len(first)} and {len(second)}")
    n = len(first)
    won = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    lost = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    p, q = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Estimate((won - lost) / n, max(p - q - half, -1.0), min(p - q + half, 1.0))


def retention(success: float, full: float) -> float | None:
    """What is left of the success with every sensor.

    Args:
        success: rate under the fault.
        full: rate with every sensor.

    Returns:
        success / full; None where full is 0.
    """
    return success / full if full else None


def check_level(level: float) -> None:
    """ValueError for a level that is no share, such as 95."""
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie between 0 and 1, got {level}")
