"""Shares and their exact intervals, against published figures and against the binomial itself."""

from __future__ import annotations

import math

import pytest

from backend.quality.intervals import share_of, upper_bound


@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (81, 263, 0.2527, 0.3676), (1, 1, 0.025, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_the_exact_one(num_right: int, num: int, low: float, high: float) -> None:
    share = share_of(num_right, num)

    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-4)
    assert share.share == (num_right / num if num else None)


@pytest.mark.parametrize("num", [1, 20, 45, 300])
@pytest.mark.parametrize("share_wrong", [0.0, 0.04, 0.5])
def test_at_the_bound_so_few_wrong_ones_come_by_a_chance_of_delta(num: int, share_wrong: float) -> None:
    num_wrong = int(num * share_wrong)
    bound = upper_bound(num_wrong, num, 0.1)

    chance = sum(math.comb(num, k) * bound**k * (1 - bound) ** (num - k) for k in range(num_wrong + 1))
    assert chance == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("num", [0, 1, 7])
def test_of_what_is_all_wrong_nothing_is_promised(num: int) -> None:
    assert upper_bound(num, num, 0.1) == 1.0
