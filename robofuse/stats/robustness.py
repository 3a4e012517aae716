"""How gracefully success falls as sensors fail."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple, TypeVar

import numpy as np

from robofuse.errors import InputError
from robofuse.stats.intervals import check_level

A = TypeVar("A", bound=Any)


class Worst(NamedTuple):
    """The lowest of some figures.

    Attributes:
        name: whose it is.
        value: the figure.
    """

    name: str
    value: float


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
    """What is left of the clean success on average over the severities: 1 = the fault costs nothing.

    The area under success against severity (trapezoids), divided by clean success × range of severities.

    Args:
        severities: each once, in any order; 0 is the success without the fault.
        success: the rates.

    Returns:
        At least 0, above 1 if the fault helps; None where the clean success is 0.

    Raises:
        ValueError: no severity 0, nothing beside it, one twice, or not as many rates.
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
    """Success under a fault beyond what the clean success alone lets one expect (Taori et al. 2020).

    `faulty − β(clean)`, where β says from the baselines what a policy of that clean success has under the fault.
    Baselines of different clean success: β is a straight line between the logits of the two rates, by least squares, as
    in the paper. One baseline, or several equally good ones, tell no slope: then the fault is expected to take the same
    share of any success, β(c) = c · (their mean success under the fault) / (their clean success), at most 1. The excess
    is then 0 for a policy with the baseline's retention, however good it is without faults. A line of slope 1 through
    one point of logits would be no better: where success is near 1, it turns two points of clean success into ten.

    Args:
        clean: success with all sensors.
        faulty: success under the fault, or the mean over several.
        baselines: (clean, faulty) of each.
        episodes: behind each rate. For logits, rates of 0 and 1 count as half an episode from there.

    Returns:
        The excess, within [−1, 1]; above 0 is better than expected.

    Raises:
        ValueError: no baseline that ever succeeds, or a rate outside [0, 1].
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


def worst(figures: Mapping[str, float]) -> Worst:
    """The lowest figure and whose it is; the first of several that are equal.

    Raises:
        ValueError: no figures.
    """
    if not figures:
        raise InputError("there is no worst of no figures")
    name = min(figures, key=lambda name: figures[name])
    return Worst(name, float(figures[name]))


def monotonicity_violations(subsets: Mapping[frozenset[str], tuple[int, int]], level: float = 0.95) -> Violations:
    """Pairs in which fewer sensors do better than more: what a policy that fuses well does not have.

    Many pairs are compared, so the share of false ones among those found is held at 1 − level (Benjamini and Hochberg
    1995). On the same scenes, Fisher's test says rather too little than too much.

    Args:
        subsets: live sensors → (successes, episodes).
        level: 1 minus the share of false findings that is put up with.

    Returns:
        See `Violations`.

    Raises:
        ValueError: a set without episodes, or with more successes than episodes.
    """
    from scipy.stats import false_discovery_control, fisher_exact

    check_level(level)
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


def second_difference(now: A, before: A, older: A) -> A:
    """How much a sequence bends: a[t] − 2 a[t−1] + a[t−2]; its norm is the jerk of actions, in their unit per step².

    Args:
        now: a[t], array or tensor. For the jerk at a fault's onset, t is the first step that shows the fault.
        before: a[t−1].
        older: a[t−2].

    Returns:
        The same shape.
    """
    return now - 2.0 * before + older


def _check_rate(rate: float) -> None:
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"success rates lie in [0, 1], got {rate}")
