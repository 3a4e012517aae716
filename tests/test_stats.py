"""Intervals against cases worked out by hand."""

import math

import pytest

from robofuse.stats import paired_difference, retention, wilson

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


def test_retention():
    assert retention(0.45, 0.9) == pytest.approx(0.5)
    assert retention(0.0, 0.9) == 0.0
    assert retention(0.0, 0.0) is None


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_count_is_refused(successes, n):
    with pytest.raises(ValueError, match="successes must lie in 0 … n"):
        wilson(successes, n)


def test_other_refusals():
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        wilson(1, 2, 95)
    with pytest.raises(ValueError, match="as many scenes for both"):
        paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="as many scenes for both"):
        paired_difference([], [])
