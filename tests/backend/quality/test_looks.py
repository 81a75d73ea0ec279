"""A project's threshold: the looks that are planned, what stands between them, and that the promise is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

import pytest

from backend.quality.looks import planned_looks, threshold_at_looks
from backend.quality.threshold import guaranteed_threshold

TARGET, DELTA = 0.05, 0.1


@pytest.mark.parametrize(
    ("target", "delta", "nums"),
    [
        (0.1, 0.1, [50, 100, 200]),
        (0.05, 0.1, [100, 200, 400]),
        (0.05, 0.01, [200, 400, 800]),
        (0.02, 0.1, [200, 400, 800]),
        (0.01, 0.1, [400, 800, 1_600]),
        (0.001, 0.001, [12_800, 25_600, 51_200]),
    ],
)
def test_looks_begin_where_anything_could_pass_and_share_delta(target: float, delta: float, nums: list[int]) -> None:
    looks = list(islice(planned_looks(target, delta), 30))

    assert [look.num for look in looks[:3]] == nums
    assert 0.99 * delta < sum(look.delta for look in looks) < delta
    assert threshold_at_looks([(0.9, True)] * nums[0], target, delta).threshold is not None


def test_between_two_looks_the_last_result_stands_whatever_comes() -> None:
    chance = random.Random(3)
    labels = [(0.9, True)] * 98 + [(0.2, False)] * 2 + [(0.9, False)] * 99
    first = threshold_at_looks(labels[:100], TARGET, DELTA)
    assert (first.threshold, first.num_all, first.next_look) == (0.21, 100, 200)

    for num in chance.sample(range(101, 200), 10):
        now = threshold_at_looks(labels[:num], TARGET, DELTA)
        assert now == replace(first, num_labels=num)
    assert threshold_at_looks([*labels, (0.9, False)], TARGET, DELTA).threshold is None


def test_before_the_first_look_nothing_is_found_and_nothing_is_too_wrong() -> None:
    for is_right in (True, False):
        found = threshold_at_looks([(0.99, is_right)] * 99, TARGET, DELTA)
        assert (found.threshold, found.next_look, found.num_labels, found.is_too_wrong) == (None, 100, 99, False)


@pytest.mark.parametrize(("num_wrong", "likely"), [(2, 400), (3, 800), (4, 6_400), (20, None)])
def test_what_is_missing_is_up_to_the_look_at_which_something_passes_if_the_wrong_share_stays(
    num_wrong: int, likely: int | None
) -> None:
    labels = [(0.99, number >= num_wrong) for number in range(100)]
    found = threshold_at_looks([*labels, *labels[:30]], TARGET, DELTA)

    assert (found.threshold, found.next_look) == (None, 200)
    assert found.num_missing == (None if likely is None else likely - 130)
    if likely is not None:
        assert threshold_at_looks(labels * (likely // 100), TARGET, DELTA).threshold is not None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_scores_are_what_is_said_to_pass_then_does_if_shares_stay(seed: int) -> None:
    """The search ends at the first threshold that is too bad, and so does what is said of later looks."""
    chance = random.Random(seed)
    groups = [(chance.randint(2, 19) / 20, chance.choice([0.0, 0.02, 0.05, 0.1])) for _ in range(3)]
    labels = [(score, chance.random() >= wrong) for score, wrong in chance.choices(groups, k=100)]
    found = threshold_at_looks(labels, TARGET, DELTA)

    if found.threshold is None and found.num_missing is not None:
        assert threshold_at_looks(labels * ((100 + found.num_missing) // 100), TARGET, DELTA).threshold is not None
    for planned in planned_looks(TARGET, DELTA) if found.threshold is None and found.num_missing is None else ():
        if planned.num > 12_800:
            break
        assert threshold_at_looks(labels * (planned.num // 100), TARGET, DELTA).threshold is None


def test_where_the_surest_are_wrong_too_often_no_later_look_is_said_to_let_anything_pass() -> None:
    labels = [(0.96, number >= 4) for number in range(60)] + [(0.9, True)] * 40

    for found in (threshold_at_looks(labels, TARGET, DELTA), guaranteed_threshold(labels, TARGET, DELTA)):
        assert (found.threshold, found.num_missing, found.is_too_wrong) == (None, None, False)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_who_looks_after_every_label_has_the_promise_broken_no_more_often_than_it_says(spread: float) -> None:
    """200 projects of which a little more than may be is wrong, so that whatever passes breaks the promise; whether the
    scores are all the same, or say nothing. Of one look that is taken again after every label it is 39 %."""
    chance = random.Random(8)
    broken = 0
    for _ in range(200):
        labels = [(0.9 - spread * 0.8 * chance.random(), chance.random() >= 0.051) for _ in range(800)]
        at_looks = (threshold_at_looks(labels[:num], TARGET, DELTA) for num in (100, 200, 400, 800))
        broken += any(found.threshold is not None for found in at_looks)

    assert broken <= 28
