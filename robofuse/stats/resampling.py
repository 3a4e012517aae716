"""Figures over many runs and tasks, with intervals by resampling (Agarwal et al. 2021)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robofuse.errors import InputError
from robofuse.stats.intervals import Estimate, check_level

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], Any]


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
