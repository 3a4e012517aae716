"""Intervals against cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, trim_mean

from robofuse.stats import (
    bootstrap,
    effective_robustness,
    iqm,
    monotonicity_violations,
    paired_difference,
    probability_of_improvement,
    relative_robustness,
    wilson,
)

Z = 1.959963984540054  # 97.5 % point of the normal distribution


@pytest.mark.parametrize("successes, n", [(0, 10), (8, 10), (10, 10), (1, 1), (137, 200)])
def test_wilson_is_its_formula(successes, n):
    p = successes / n
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert wilson(successes, n) == pytest.approx((max(middle - half, 0), min(middle + half, 1)), abs=1e-12)


def test_wilson_as_printed_elsewhere():
    # Newcombe, Statistics in Medicine 17 (1998), table I: method 3 (score, no continuity correction)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_at_another_level_is_narrower():
    low, high = wilson(30, 50, 0.5)
    wide = wilson(30, 50)
    assert wide[0] < low < 0.6 < high < wide[1]


def test_paired_difference_by_hand():
    # 10 scenes: 5 both, 3 the first alone, 1 the second alone, 1 neither
    first = [True] * 5 + [True] * 3 + [False, False]
    second = [True] * 5 + [False] * 3 + [True, False]
    found = paired_difference(first, second)
    assert found.value == pytest.approx(-0.2)
    # p = 2/12, q = 4/12: p − q = −1/6, variance (1/2 − 1/36) / 12 = 17/432
    assert found.low == pytest.approx(-1 / 6 - Z * math.sqrt(17 / 432))
    assert found.high == pytest.approx(-1 / 6 + Z * math.sqrt(17 / 432))


def test_paired_difference_turns_round():
    first, second = [True, False, True, True, False], [False, False, True, False, True]
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.value == -back.value and (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_equal_results_leave_some_doubt():
    found = paired_difference([True] * 20, [True] * 20)
    assert found.value == 0.0 and found.low < 0.0 < found.high
    # p = q = 1/22: the half width is z √(2/22/22)
    assert found.high == pytest.approx(Z * math.sqrt(2) / 22)


def test_no_interval_leaves_its_range():
    assert paired_difference([True], [False]).low == -1.0
    assert paired_difference([False] * 2, [True] * 2).high == 1.0


def test_pairing_narrows():
    """The same two rates, on scenes that agree and on scenes that do not."""
    easy = [True] * 50 + [False] * 50
    alike, apart = [True] * 40 + [False] * 60, [False] * 50 + [True] * 40 + [False] * 10
    close, wide = paired_difference(easy, alike), paired_difference(easy, apart)
    assert close.value == wide.value == pytest.approx(-0.1)
    assert close.high - close.low < 0.5 * (wide.high - wide.low)


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_count_is_refused(successes, n):
    with pytest.raises(ValueError, match="successes must lie in 0 … n"):
        wilson(successes, n)


def test_other_refusals():
    with pytest.raises(ValueError, match="level .*95"):
        wilson(1, 2, 95)
    with pytest.raises(ValueError, match="as many scenes for both"):
        paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="as many scenes for both"):
        paired_difference([], [])


RATE = some.integers(0, 200).map(lambda won: won / 200)
SCORES = arrays(np.float64, some.tuples(some.integers(2, 6), some.integers(1, 4)), elements=some.floats(0, 1))
BRIEF = settings(max_examples=30, deadline=None)


def test_iqm_by_hand():
    assert iqm([9, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm([[1, 5], [2, 90]]) == pytest.approx(3.5)  # without the lowest and the highest of four
    assert iqm([1, 2, 6]) == pytest.approx(3)  # of three, ⌊3/4⌋ = 0 are left out


@BRIEF
@given(arrays(np.float64, some.integers(1, 20), elements=some.floats(-5, 5)), some.floats(-3, 3))
def test_iqm_lies_among_the_numbers_and_moves_with_them(scores, shift):
    middle = iqm(scores)
    assert middle == pytest.approx(trim_mean(scores, 0.25))
    assert scores.min() - 1e-9 <= middle <= scores.max() + 1e-9
    assert iqm(scores + shift) == pytest.approx(middle + shift) and iqm(scores[::-1]) == pytest.approx(middle)


def test_bootstrap_repeats_and_keeps_tasks_apart():
    scores = np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]])
    found = bootstrap(scores, np.mean, seed=3)
    assert found == bootstrap(scores, np.mean, seed=3)
    many = np.random.default_rng(0).random((30, 2))
    assert bootstrap(many, seed=3) == bootstrap(many, seed=3) != bootstrap(many, seed=4)
    assert found.value == 6.0
    # were tasks mixed, means would reach from 0 to 12; within tasks from 5 to 7
    assert 5.0 <= found.low < 6.0 < found.high <= 7.0


def test_bootstrap_of_a_mean_is_as_wide_as_the_normal_approximation():
    scores = np.random.default_rng(0).normal(size=(400, 1))
    found = bootstrap(scores, np.mean)
    half = Z * scores.std() / 20
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.012)


def test_paired_rows_are_drawn_together():
    # two tasks that mirror each other: their sum is the same in every row, so drawing whole rows leaves no doubt
    first = np.linspace(0, 1, 20)
    scores = np.stack([first, 1 - first], axis=1)
    together, apart = bootstrap(scores, np.sum, paired=True), bootstrap(scores, np.sum)
    assert together.high - together.low == pytest.approx(0, abs=1e-9) and apart.high - apart.low > 1.0


def test_bootstrap_counts_each_row_as_often_as_chance_has_it():
    """The share of draws without row 0 is (1 − 1/n)ⁿ."""
    gone = []
    bootstrap(np.arange(5.0)[:, None], lambda drawn: gone.append(0.0 not in drawn) or 0.0, resamples=4000)
    assert np.mean(gone) == pytest.approx(0.8**5, abs=0.025)


@BRIEF
@given(SCORES)
def test_bootstrap_stays_among_the_scores(scores):
    found = bootstrap(scores, resamples=50)
    assert scores.min() - 1e-12 <= found.low <= found.high <= scores.max() + 1e-12 and found.value == iqm(scores)
    narrow = bootstrap(scores, resamples=50, level=0.5)
    assert found.low <= narrow.low <= narrow.high <= found.high


def test_probability_of_improvement_by_hand():
    # task 1: of 2 × 2 pairs the second wins (1, 2), (1, 3), (2, 3) and ties (2, 2): 3.5 / 4; task 2: it loses all
    found = probability_of_improvement([[1, 5], [2, 5]], [[2, 4], [3, 4]])
    assert found.value == pytest.approx((3.5 / 4 + 0) / 2)
    assert 0 <= found.low <= found.value <= found.high <= 1


@BRIEF
@given(SCORES, some.integers(0, 9))
def test_probability_of_improvement_is_mann_whitney_and_turns_round(scores, seed):
    scores = scores.round(3)  # exp, below, makes ties of what is closer
    other = np.random.default_rng(seed).random((5, scores.shape[1])).round(1)
    there, back = (probability_of_improvement(*pair, resamples=20) for pair in ((scores, other), (other, scores)))
    assert there.value + back.value == pytest.approx(1) and 0 <= there.low <= there.high <= 1
    n = len(scores) * 5
    u = [mannwhitneyu(b, a, method="asymptotic").statistic for a, b in zip(scores.T, other.T, strict=True)]
    assert there.value == pytest.approx(np.mean(u) / n)
    # only the order counts
    bent = probability_of_improvement(np.exp(scores), np.exp(other), resamples=20)
    assert bent.value == pytest.approx(there.value, abs=2 / n)


def test_probability_of_improvement_is_sure_where_it_should_be():
    a = np.random.default_rng(1).random((50, 3))
    assert probability_of_improvement(a, a + 2) == (1, 1, 1)
    same = probability_of_improvement(a, np.random.default_rng(2).random((50, 3)))
    assert same.low < 0.5 < same.high and same.high - same.low < 0.25


def test_relative_robustness_by_hand():
    # trapezoids: 0.25 · 0.85 + 0.75 · 0.5 = 0.5875; divided by 0.9 · 1
    assert relative_robustness([1, 0, 0.25], [0.2, 0.9, 0.8]) == pytest.approx(0.5875 / 0.9)
    assert relative_robustness([0, 2], [0.8, 0.4]) == pytest.approx(0.75)
    assert relative_robustness([0, 1], [0.0, 0.5]) is None


@BRIEF
@given(some.lists(RATE, min_size=2, max_size=6), some.floats(0.1, 1))
def test_relative_robustness_knows_neither_scale_nor_unit(rates, factor):
    severities = np.arange(len(rates))
    found = relative_robustness(severities, rates)
    if not rates[0]:
        assert found is None
        return
    assert min(rates) / rates[0] - 1e-9 <= found <= max(rates) / rates[0] + 1e-9
    assert relative_robustness(severities * 3.0, [rate * factor for rate in rates]) == pytest.approx(found)
    flat = relative_robustness(severities, [rates[0]] * len(rates))
    assert flat == pytest.approx(1)


def test_effective_robustness_of_one_baseline_by_hand():
    # the baseline keeps 3/4 of its success; so would 0.5 · 3/4 = 0.375 be expected
    assert effective_robustness(0.5, 0.6, [(0.8, 0.6)]) == pytest.approx(0.225)
    assert effective_robustness(0.5, 0.6, [(0.8, 0.5), (0.8, 0.7)]) == pytest.approx(0.225)
    assert effective_robustness(1.0, 1.0, [(0.5, 0.9)]) == 0.0  # nobody can be expected to have more than all


def test_effective_robustness_of_several_baselines_is_a_line_of_logits():
    def logistic(x):
        return 1 / (1 + math.exp(-x))

    baselines = [(logistic(x), logistic(0.5 * x - 1)) for x in (-1.0, 0.0, 2.0)]
    for x in (-0.5, 1.0):
        assert effective_robustness(logistic(x), logistic(0.5 * x - 1) + 0.1, baselines) == pytest.approx(0.1)
    ends = effective_robustness(1.0, 0.9, [(1.0, 0.9), (0.0, 0.1)])
    assert ends == pytest.approx(0, abs=1e-9)  # rates of 0 and 1 have logits too


@BRIEF
@given(some.floats(0.01, 1), RATE, RATE)
def test_effective_robustness_is_zero_for_the_baseline_itself(clean, faulty, other):
    faulty *= clean
    assert effective_robustness(clean, faulty, [(clean, faulty)]) == pytest.approx(0, abs=1e-9)
    assert -1 <= effective_robustness(other, faulty, [(clean, faulty)]) <= 1


def live(text):
    return frozenset(text)


def test_monotonicity_by_hand():
    subsets = {live("ab"): (50, 100), live("a"): (90, 100), live("b"): (51, 100), live("c"): (100, 100)}
    found = monotonicity_violations(subsets)
    # c is in neither; a and b are both in ab, and both do better, one of them surely
    assert (found.raw, found.compared) == (2, 2)
    (pair,) = found.pairs
    assert (pair.fewer, pair.more, pair.gain) == (live("a"), live("ab"), pytest.approx(0.4))
    # 1 of 1 against 0 of 1: the one table that is as extreme has the probability 1/2
    small = monotonicity_violations({live("ab"): (0, 1), live("a"): (1, 1)}, level=0.4)
    assert small.pairs[0].p == pytest.approx(0.5) and not monotonicity_violations({live("a"): (1, 1)}).pairs


def test_chance_among_many_pairs_is_no_violation():
    """Twelve pairs, one with p = 0.02: significant alone, not as the best of twelve."""
    more = {live("abcdefghijkl"): (50, 100)}
    same = {live(key): (50, 100) for key in "bcdefghijkl"}
    lucky = {live("a"): (65, 100)}
    assert monotonicity_violations(more | lucky).pairs and not monotonicity_violations(more | same | lucky).pairs


@BRIEF
@given(some.lists(some.integers(0, 20), min_size=7, max_size=7))
def test_no_violation_where_more_is_never_worse(counts):
    sets = [live(text) for text in ("a", "b", "c", "ab", "ac", "bc", "abc")]
    risen = dict(zip(sets, ((count, 20) for count in sorted(counts)), strict=True))
    found = monotonicity_violations(risen)
    assert found.raw == 0 and not found.pairs and found.compared == 12
    mixed = monotonicity_violations(dict(zip(sets, ((count, 20) for count in counts), strict=True)))
    assert len(mixed.pairs) <= mixed.raw <= 12 and all(p.gain > 0 and p.fewer < p.more for p in mixed.pairs)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: iqm([]), "at least one score"),
        (lambda: iqm([math.nan]), "must be finite"),
        (lambda: bootstrap([1, 2]), r"runs × tasks, got an array of the shape \(2,\)"),
        (lambda: bootstrap([[1]], resamples=0), "resamples must be at least 1, got 0"),
        (lambda: bootstrap([[1]], level=95), "level must lie between"),
        (lambda: probability_of_improvement([[1]], [[1, 2]]), "the same tasks for both: got 1 and 2"),
        (lambda: relative_robustness([0.5, 1], [1, 1]), "severities must be 0 and larger ones"),
        (lambda: relative_robustness([0, 0], [1, 1]), "each once"),
        (lambda: relative_robustness([0, 1], [1]), "as many severities as rates: got 2 and 1"),
        (lambda: relative_robustness([0, 1], [1, 95]), r"success rates lie in \[0, 1\], got 95"),
        (lambda: effective_robustness(1, 1, []), "at least one baseline"),
        (lambda: effective_robustness(1, 1, [(0, 0)]), "has some clean success"),
        (lambda: effective_robustness(1, 80, [(1, 1)]), "got 80"),
        (lambda: monotonicity_violations({live("a"): (3, 2)}), r"got 3 of 2 for \['a'\]"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
