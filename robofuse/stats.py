"""How sure one can be of success rates and of their differences, and how gracefully success falls as sensors fail."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robofuse.errors import InputError

__all__ = [
    "Estimate",
    "Violation",
    "Violations",
    "bootstrap",
    "effective_robustness",
    "iqm",
    "monotonicity_violations",
    "paired_difference",
    "probability_of_improvement",
    "relative_robustness",
    "wilson",
]

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], Any]
_AT_A_TIME = 4_000_000  # numbers that a bootstrap draws at a time, as they take memory


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
    """The interval (low, high) of a success probability (Wilson 1927), good at few trials and near 0 and 1 too.

    `n` trials, at least 1, had so many `successes`; `level` is how often such an interval covers the truth.
    """
    from scipy.stats import binomtest  # takes half a second

    _check_level(level)
    if not 0 <= successes <= n or n < 1:
        raise InputError(f"successes must lie in 0 … n and n be at least 1, got {successes} of {n}")
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: Sequence[bool], second: Sequence[bool], level: float = 0.95) -> Estimate:
    """How much more often the second succeeds than the first, on the same scenes, with its interval, within [−1, 1].

    The interval is Bonett and Price's (2012): Wald's, after one scene has been added to each kind that tells the two
    apart. It stays sensible where they never differ. `level` is how often it covers the truth. InputError for no
    scenes, or not as many for both.
    """
    from scipy.stats import norm

    _check_level(level)
    if len(first) != len(second) or not len(first):
        raise InputError(f"as many scenes for both, and at least one: got {len(first)} and {len(second)}")
    n = len(first)
    won = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    lost = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    p, q = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Estimate((won - lost) / n, max(p - q - half, -1.0), min(p - q + half, 1.0))


def iqm(scores: ArrayLike) -> float:
    """The interquartile mean: of n numbers, without the ⌊n/4⌋ lowest and as many highest.

    `scores` may have any shape; all numbers count alike. InputError for none, or some that are not finite.
    """
    return float(_middle_means(_finite(scores).reshape(1, -1))[0])


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

    Tasks are strata: each keeps its number of runs, and its runs are drawn anew with replacement. The interval covers
    the variation between runs, not what other tasks would have given.

    Args:
        scores: (runs, tasks), such as training seeds × tasks, or scenes × conditions.
        statistic: from an array of that shape to a number.
        paired: row k is the same scene under every task, so that all tasks draw the same rows. Without it, tasks that
            succeed and fail on the same scenes would seem surer than they are.
        level: how often such an interval covers the truth, for many runs; with a handful it does so less often.
        resamples: how many draws.
        seed: of the draws; the same call gives the same interval.

    Raises:
        InputError: not runs × tasks, empty, or not finite.
    """
    _check_level(level)
    table = _table(scores)
    rng = np.random.default_rng(seed)
    runs, tasks = table.shape
    draws, found = _at_least_one(resamples), list[Any]()
    rows = rng.integers(runs, size=(draws, runs, 1 if paired else tasks))
    for some in np.array_split(rows, math.ceil(draws * table.size / _AT_A_TIME)):
        drawn = table[some, np.arange(tasks)]
        if statistic in _OF_ROWS:  # all draws in one call take a tenth of the time
            found.extend(_OF_ROWS[statistic](drawn.reshape(len(some), -1)))
        else:
            found.extend(statistic(one) for one in drawn)
    return _estimate(float(statistic(table)), found, level)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """How probably a run of the second method beats one of the first on the same task, ties counting half.

    Per task this is the Mann-Whitney statistic divided by the number of pairs, then the mean over tasks; the interval
    is a stratified bootstrap over the runs of both (Agarwal et al. 2021). Other arguments are those of `bootstrap`.

    Args:
        first: (runs, tasks).
        second: (runs, tasks); the same tasks, not necessarily as many runs.
        level: how often such an interval covers the truth.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        InputError: not runs × tasks, empty, not finite, or other tasks.
    """
    _check_level(level)
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


class Violation(NamedTuple):
    """A set of sensors that does better than a larger one around it.

    Attributes:
        fewer: the smaller set of live sensors.
        more: the larger one.
        gain: success with fewer minus success with more, above 0.
        p: probability of such a gain or a larger one if both were as good (Fisher's exact test, one-sided).
    """

    fewer: frozenset[str]
    more: frozenset[str]
    gain: float
    p: float


class Violations(NamedTuple):
    """Where losing a sensor helps.

    Attributes:
        raw: pairs in which fewer sensors did better at all; noise alone makes some.
        pairs: those that are significant, the largest gain first.
        compared: pairs of a set and a larger one around it.
    """

    raw: int
    pairs: tuple[Violation, ...]
    compared: int


def relative_robustness(severities: Sequence[float], success: Sequence[float]) -> float | None:
    """What is left of the clean success on average over the severities: 1 = the fault costs nothing, above 1 it helps.

    The area under `success` against `severities` (trapezoids), divided by clean success × range of severities; None
    where the clean success is 0. Severities are in any order; 0 is the success without the fault.

    Raises:
        InputError: no severity 0, nothing beside it, one twice, or not as many rates.
    """
    if len(severities) != len(success):
        raise InputError(f"as many severities as rates: got {len(severities)} and {len(success)}")
    at = dict(sorted(zip(severities, success, strict=True)))
    if len(at) != len(severities) or len(at) < 2 or next(iter(at)) != 0:
        raise InputError(f"severities must be 0 and larger ones, each once, got {', '.join(map(str, severities))}")
    for rate in success:
        _check_rate(rate)
    places, rates = np.array(list(at)), np.array(list(at.values()), dtype=np.float64)
    if rates[0] == 0.0:
        return None
    return float(np.trapezoid(rates, places) / (rates[0] * places[-1]))


def effective_robustness(
    clean: float, faulty: float, baselines: Iterable[tuple[float, float]], episodes: int = 100
) -> float:
    """Success under a fault beyond what the clean success alone lets one expect (Taori et al. 2020), within [−1, 1].

    It is `faulty − β(clean)`: β says from the baselines what a policy of that clean success has under the fault. With
    baselines of different clean success, β is a straight line between the logits of the two rates, by least squares, as
    in the paper. One baseline, or several equally good ones, tell no slope: then the fault is expected to take the same
    share of any success, β(c) = c · (their mean success under the fault) / (their clean success), at most 1. (A line of
    slope 1 through one point of logits would turn two points of clean success near 1 into ten.)

    Args:
        clean: success with all sensors.
        faulty: success under the fault, or the mean over several.
        baselines: (clean, faulty) of each.
        episodes: behind each rate. For logits, rates of 0 and 1 count as half an episode from there.

    Raises:
        InputError: no baseline that ever succeeds, or a rate outside [0, 1].
    """
    from scipy.special import expit, logit

    points = np.array([*baselines], dtype=np.float64).reshape(-1, 2)
    for rate in (clean, faulty, *points.ravel()):
        _check_rate(rate)
    if not points[:, 0].any():
        raise InputError("at least one baseline is needed that has some clean success")
    if np.ptp(points[:, 0]) == 0.0:
        expected = min(clean * points[:, 1].mean() / points[0, 0], 1.0)
    else:
        half = 0.5 / episodes
        x, y = logit(points.clip(half, 1.0 - half)).T
        slope = np.cov(x, y, bias=True)[0, 1] / x.var()
        expected = expit(y.mean() + slope * (logit(np.clip(clean, half, 1.0 - half)) - x.mean()))
    return float(faulty - expected)


def monotonicity_violations(subsets: Mapping[frozenset[str], tuple[int, int]], level: float = 0.95) -> Violations:
    """Pairs in which fewer sensors do better than more: what a policy that fuses well does not have.

    `subsets` are live sensors → (successes, episodes). Many pairs are compared, so the share of false ones among those
    found is held at 1 − level (Benjamini and Hochberg 1995). On the same scenes, Fisher's test is conservative.

    Raises:
        InputError: a set without episodes, or with more successes than episodes.
    """
    from scipy.stats import false_discovery_control, fisher_exact

    _check_level(level)
    for live, (won, n) in subsets.items():
        if n < 1 or not 0 <= won <= n:
            raise InputError(f"successes must lie in 0 … n and n be at least 1, got {won} of {n} for {sorted(live)}")
    test: Any = fisher_exact  # the types of what it returns are not declared
    found: list[Violation] = []
    for fewer, more in ((a, b) for a, b in permutations(subsets, 2) if a < b):
        (won, n), (won_more, n_more) = subsets[fewer], subsets[more]
        p = test([[won, n - won], [won_more, n_more - won_more]], alternative="greater").pvalue
        found.append(Violation(fewer, more, won / n - won_more / n_more, float(p)))
    adjusted = false_discovery_control([pair.p for pair in found]) if found else []
    sure = [pair for pair, p in zip(found, adjusted, strict=True) if p <= 1.0 - level]
    sure.sort(key=lambda pair: (-pair.gain, sorted(pair.fewer), sorted(pair.more)))
    return Violations(sum(pair.gain > 0 for pair in found), tuple(sure), len(found))


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie between 0 and 1, got {level}")


def _estimate(value: float, found: Sequence[Any] | Scores, level: float) -> Estimate:
    low, high = np.quantile(np.asarray(found, dtype=np.float64), [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, float(low), float(high))


def _middle_means(rows: Scores) -> Scores:
    """The interquartile mean of every row.

    scipy.stats.trim_mean says the same, but checks its arguments for ten times as long.
    """
    cut = rows.shape[1] // 4
    return np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut].mean(axis=1)


_OF_ROWS: dict[Statistic, Statistic] = {iqm: _middle_means, np.mean: lambda rows: rows.mean(axis=1)}


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


def _check_rate(rate: float) -> None:
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"success rates lie in [0, 1], got {rate}")
