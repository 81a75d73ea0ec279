"""Histograms: every number is in exactly the bin that says so, whatever the order and however many there are."""

from __future__ import annotations

import math
import pickle
import random
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.bulk.report.numbers import MAX_NUMBER, NumberTally
from backend.bulk.report.tally import NUM_CONFIDENCE_BINS, ShareTally

WHOLE = st.integers(-(10**6), 10**6)
DECIMALS = st.integers(-(10**7), 10**7).map(lambda n: n / 1000)


def tally_of(numbers: list[float], max_kept_bins: int = 2_000) -> NumberTally:
    tally = NumberTally(max_kept_bins)
    for number in numbers:
        tally.add(number)
    return tally


@given(st.lists(WHOLE) | st.lists(DECIMALS), st.integers(3, 40), st.sampled_from([5, 50, 2_000]))
def test_each_bin_holds_what_a_plain_count_finds(numbers: list[float], max_bins: int, max_kept: int) -> None:
    tally = tally_of(numbers, max_kept)
    bins = tally.bins(max_bins)
    exact = [Decimal(str(number)) for number in numbers]
    for one in bins:
        low, high = Decimal(repr(one.low)), Decimal(repr(one.high))
        assert one.num == sum(low <= number < high for number in exact)
    assert sum(one.num for one in bins) == len(numbers) == tally.num
    assert len(bins) <= max_bins
    assert all(one.high == after.low for one, after in pairwise(bins))
    if numbers:
        assert (tally.smallest, tally.largest) == (min(numbers), max(numbers))
        assert math.isclose(tally.mean, math.fsum(numbers) / len(numbers), rel_tol=1e-9, abs_tol=1e-6)
        assert bins[0].num
        assert bins[-1].num


@given(st.lists(WHOLE, min_size=1) | st.lists(DECIMALS, min_size=1), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(numbers: list[float], shuffle: random.Random) -> None:
    other = list(numbers)
    shuffle.shuffle(other)
    assert tally_of(numbers, 7).bins(20) == tally_of(other, 7).bins(20)


@pytest.mark.parametrize(
    ("numbers", "widths"),
    [
        ([3, 3, 7], 1),
        (list(range(97, 108)), 1),
        (list(range(500)), 50),
        ([0.0, 0.5, 1.0], 0.05),
        ([10, 199.5], 10),
        ([1e-9, 1e9], 5e7),
    ],
    ids=["few whole", "lengths", "many whole", "halves", "prices", "far apart"],
)
def test_bins_have_a_width_people_count_in(numbers: list[float], widths: float) -> None:
    assert {round(one.high - one.low, 6) for one in tally_of(numbers).bins(24)} == {widths}


def test_a_million_different_numbers_take_a_bounded_memory() -> None:
    tally = NumberTally(100)
    for number in range(0, 10**6, 7):
        tally.add(number)
        assert number % 1_000 or len(pickle.dumps(tally)) < 10_000
    assert sum(one.num for one in tally.bins(24)) == len(range(0, 10**6, 7))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400, MAX_NUMBER * 2.0], ids=str)
def test_what_is_no_usual_number_is_not_counted(number: float) -> None:
    tally = tally_of([number])
    assert (tally.num, tally.bins(10)) == (0, [])


@given(st.lists(st.integers(0, 10_000)))
def test_shares_are_in_their_bins_to_the_last_decimal(ten_thousandths: list[int]) -> None:
    tally = ShareTally()
    for number in ten_thousandths:
        tally.add(number / 10_000)
    width = 10_000 // NUM_CONFIDENCE_BINS
    wanted = [0] * NUM_CONFIDENCE_BINS
    for number in ten_thousandths:
        wanted[min(number // width, NUM_CONFIDENCE_BINS - 1)] += 1
    assert [one.num for one in tally.bins()] == wanted
    assert math.isclose(tally.mean, sum(ten_thousandths) / 10_000 / max(1, len(ten_thousandths)), abs_tol=1e-9)
