"""How sure one can be of a success rate, of a difference, and of figures over many runs and tasks."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robofuse.errors import InputError

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], Any]


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


def iqm(scores: ArrayLike) -> float:
    """The interquartile mean: of the middle half of the numbers, as no outlier moves it and the median wastes most.

    Args:
        scores: any shape; all numbers count alike. Of n, the ⌊n/4⌋ lowest and as many highest are left out.

    Returns:
        The mean of the others.

    Raises:
        ValueError: no numbers, or some that are not finite.
    """
    ordered = np.sort(_finite(scores), axis=None)
    cut = len(ordered) // 4
    # scipy.stats.trim_mean says the same, but checks its arguments for ten times as long; a bootstrap calls it often
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic of runs × tasks and its percentile interval, by the stratified bootstrap (Agarwal et al. 2021).

    Tasks are strata: each keeps its number of runs, and its runs are drawn anew with replacement. Only what the runs
    vary in is told by the interval, not what other tasks would have given.

    Args:
        scores: (runs, tasks), such as training seeds × tasks, or scenes × conditions.
        statistic: from an array of that shape to a number.
        paired: row k is the same scene under every task, so that all tasks draw the same rows. Without it, tasks that
            succeed and fail on the same scenes would seem to be surer than they are.
        level: how often such an interval covers the truth, for many runs; with a handful it does so less often.
        resamples: how many.
        seed: of the draws; the same call gives the same interval.

    Returns:
        The statistic of the scores themselves, and the interval.

    Raises:
        ValueError: not runs × tasks, empty, or not finite.
    """
    check_level(level)
    table = _table(scores)
    rng = np.random.default_rng(seed)
    runs, tasks = table.shape
    found = []
    for _ in range(_at_least_one(resamples)):
        if paired:
            drawn = table[rng.integers(runs, size=runs)]
        else:
            drawn = np.take_along_axis(table, rng.integers(runs, size=(runs, tasks)), axis=0)
        found.append(statistic(drawn))
    return _estimate(float(statistic(table)), found, level)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """How probably a run of the second method beats one of the first on the same task, ties counting half.

    Per task this is the Mann-Whitney statistic divided by the number of pairs, then the mean over tasks; the interval
    is a stratified bootstrap over the runs of both (Agarwal et al. 2021).

    Args:
        first: (runs, tasks).
        second: (runs, tasks); the same tasks, not necessarily as many runs.
        level: how often such an interval covers the truth.
        resamples: how many.
        seed: of the draws; the same call gives the same interval.

    Returns:
        The probability, within [0, 1]; 0.5 where there is nothing to choose.

    Raises:
        ValueError: not runs × tasks, empty, not finite, or other tasks.
    """
    check_level(level)
    a, b = _table(first), _table(second)
    if a.shape[1] != b.shape[1]:
        raise InputError(f"the same tasks for both: got {a.shape[1]} and {b.shape[1]}")
    rng = np.random.default_rng(seed)
    value, found = 0.0, np.zeros(_at_least_one(resamples))
    for x, y in zip(a.T, b.T, strict=True):
        better = (y > x[:, None]) + 0.5 * (y == x[:, None])
        value += better.mean()
        # how often each run is drawn; cheaper than to draw the runs
        of_x = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=resamples)
        of_y = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=resamples)
        found += ((of_x @ better) * of_y).sum(axis=1) / better.size
    tasks = a.shape[1]
    return _estimate(value / tasks, found / tasks, level)


def check_level(level: float) -> None:
    """ValueError for a level that is no share, such as 95."""
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie between 0 and 1, got {level}")


def _estimate(value: float, found: Sequence[Any] | Scores, level: float) -> Estimate:
    low, high = np.quantile(np.asarray(found, dtype=np.float64), [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, float(low), float(high))


def _table(scores: ArrayLike) -> Scores:
    table = _finite(scores)
    if table.ndim != 2:
        raise InputError(f"scores must be runs × tasks, got an array of the shape {table.shape}")
    return table


def _finite(scores: ArrayLike) -> Scores:
    table = np.asarray(scores, dtype=np.float64)
    if not table.size:
        raise InputError("at least one score is needed, got none")
    if not np.isfinite(table).all():
        raise InputError("scores must be finite; leave out what was not measured")
    return table


def _at_least_one(resamples: int) -> int:
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}")
    return resamples
