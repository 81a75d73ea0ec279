"""From which score on answers may pass: what is found, what is missing, and that the promise is kept."""

from __future__ import annotations

import random

import pytest

from backend.quality.threshold import GRID, guaranteed_threshold

ALPHA, DELTA = 0.05, 0.1


def sample(chance: random.Random, num: int) -> list[tuple[float, bool]]:
    """Tasks whose score says how probably they are right, but for the high ones, which it flatters."""
    scores = [chance.random() ** 0.5 for _ in range(num)]
    return [(score, chance.random() < 1 - 0.35 * (1 - score) - 0.02) for score in scores]


def true_wrong_share(threshold: float) -> float:
    """Of `sample`, by its density 2s."""
    mean = 2 / 3 * (1 - threshold**3) / (1 - threshold**2)
    return 0.02 + 0.35 * (1 - mean)


def test_all_right_passes_as_soon_as_there_are_enough() -> None:
    assert guaranteed_threshold([(0.99, True)] * 45, ALPHA, DELTA).threshold == GRID[-1]

    found = guaranteed_threshold([(0.99, True)] * 44, ALPHA, DELTA)
    assert (found.threshold, found.num, found.num_missing) == (None, 44, 1)


def test_the_search_ends_at_the_first_that_is_too_bad_whatever_comes_below() -> None:
    scored = [(0.97, True)] * 100 + [(0.8, False)] * 20 + [(0.3, True)] * 10_000

    found = guaranteed_threshold(scored, ALPHA, DELTA)

    assert found.threshold == 0.81
    assert (found.num, found.num_wrong, found.num_all) == (100, 0, 10_120)


@pytest.mark.parametrize("highest", [0.99, 0.9, 0.5])
def test_a_model_that_is_never_sure_of_itself_may_pass_as_one_that_always_is(highest: float) -> None:
    """As a calibrated one is. The search begins with the 45 surest, however sure they are."""
    surest, others = [(highest, True)] * 60, [(highest - 0.2, number % 4 > 0) for number in range(100)]

    found = guaranteed_threshold([*surest, *others], ALPHA, DELTA)

    assert found.threshold == pytest.approx(highest - 0.19)
    assert (found.num, found.num_wrong) == (60, 0)


def test_where_there_is_nothing_it_says_how_many_it_takes() -> None:
    nothing = guaranteed_threshold([], ALPHA, DELTA)
    assert (nothing.threshold, nothing.bound, nothing.num_missing) == (None, 1.0, 45)


def test_where_even_the_highest_scores_are_wrong_too_often_no_number_of_tasks_helps() -> None:
    scored = [(0.99, number % 10 > 0) for number in range(200)]

    found = guaranteed_threshold(scored, ALPHA, DELTA)
    assert (found.num_missing, found.is_too_wrong) == (None, True)


@pytest.mark.parametrize(("num", "wrong"), [(1, 1), (3, 1), (20, 2), (101, 5)])
def test_that_a_few_of_a_few_are_wrong_does_not_say_that_too_many_are(num: int, wrong: int) -> None:
    found = guaranteed_threshold([(0.99, number >= wrong) for number in range(num)], ALPHA, DELTA)

    assert (found.threshold, found.num_missing, found.is_too_wrong) == (None, None, False)


def test_the_most_promising_threshold_is_not_the_one_that_a_single_task_reaches() -> None:
    scored = [(0.96, False), *[(0.9, number % 10 > 0) for number in range(100)]]

    assert guaranteed_threshold(scored, ALPHA, DELTA).num == 101


@pytest.mark.parametrize(("num", "wrong"), [(40, 0), (60, 1), (80, 2)])
def test_what_is_missing_would_do_if_the_wrong_share_stays(num: int, wrong: int) -> None:
    scored = [(0.99, number >= wrong) for number in range(num)] + [(0.5, False)] * num
    missing = guaranteed_threshold(scored, 0.04, DELTA).num_missing
    assert missing

    enough = num + missing // 2 + 1
    more = [(0.99, number >= round(wrong * enough / num)) for number in range(enough)]
    assert guaranteed_threshold(more, 0.04, DELTA).threshold is not None


def test_the_promise_is_broken_no_more_often_than_it_may() -> None:
    """200 projects of 400 tasks: with 1/10 allowed, 29 or more would be broken by a chance of 2 in 100."""
    chance = random.Random(7)
    broken = 0
    for _ in range(200):
        found = guaranteed_threshold(sample(chance, 400), ALPHA, DELTA).threshold
        broken += found is not None and true_wrong_share(found) > ALPHA

    assert broken <= 28
