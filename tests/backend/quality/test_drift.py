"""When later answers are unlike the checked ones an alarm is raised, with a time, and seldom otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from backend.quality.drift import BLOCK, MIN_CHECKED, Drift, Look, drift, look_of
from label_config.answer import Answer, FieldAnswer
from tests.backend.quality.given import schema


def looks(
    chance: random.Random, num: int, *, lower: float = 0.0, winters: float = 0.3, start: int = 0
) -> Iterator[Look]:
    for number in range(start, start + num):
        label = "winter" if chance.random() < winters else "summer"
        yield Look(f"{start}-{number}", chance.random() ** 0.3 * (1 - lower), {"season": label}, at=float(number))


def found_in(checked: list[Look], *later: Look) -> Drift | None:
    """As the tasks stand in a project: those that were checked among the others."""
    return drift(checked, [checked[0], *later, *checked[1:]])


def test_lower_scores_raise_it_and_the_time_is_that_of_the_first_block_that_differs() -> None:
    chance = random.Random(1)
    later = [*looks(chance, 2 * BLOCK, start=1_000), *looks(chance, BLOCK, lower=0.3, start=5_000)]

    assert found_in(list(looks(chance, 200)), *later) == Drift(5_000.0, "5000-5000", 2 * BLOCK, ("",))


def test_other_shares_of_labels_raise_it_where_scores_stay() -> None:
    chance = random.Random(2)

    found = found_in(list(looks(chance, 200)), *looks(chance, BLOCK, winters=0.7, start=1_000))

    assert found is not None
    assert found.fields == ("season",)


def test_a_label_that_nobody_saw_in_the_check_raises_it() -> None:
    chance = random.Random(3)
    later = [
        Look(one.name, one.score, {"season": "spring"} if number % 5 == 0 else one.labels)
        for number, one in enumerate(looks(chance, BLOCK, start=1_000))
    ]

    assert found_in(list(looks(chance, 200)), *later) is not None


def test_what_was_answered_before_the_check_is_not_looked_at() -> None:
    chance = random.Random(3)
    checked = list(looks(chance, 200, start=1_000))

    assert drift(checked, [*looks(chance, BLOCK, lower=0.9), *checked]) is None


def test_quiet_projects_raise_it_in_one_of_twenty_at_most() -> None:
    """40 projects of five blocks: with 1/20 allowed, 7 or more come by a chance of 3 in 1,000."""
    chance = random.Random(4)

    alarms = [found_in(list(looks(chance, 200)), *looks(chance, 5 * BLOCK, start=1_000)) for _ in range(40)]

    assert len(alarms) - alarms.count(None) <= 6


@pytest.mark.parametrize(("num_checked", "num_later"), [(MIN_CHECKED - 1, BLOCK), (200, BLOCK - 1), (200, 0)])
def test_of_too_few_nothing_is_said(num_checked: int, num_later: int) -> None:
    chance = random.Random(5)
    later = looks(chance, num_later, lower=0.9, start=1_000)
    assert found_in(list(looks(chance, num_checked)), *later) is None


def test_answers_without_scores_and_fields_with_a_label_of_their_own_each_are_no_alarm() -> None:
    checked = [Look(str(number), None, {"price": str(number)}) for number in range(100)]
    later = [Look(str(-number), None, {"price": str(-number)}) for number in range(1, BLOCK + 1)]

    assert found_in(checked, *later) is None


def test_a_look_holds_what_can_change_of_an_answer() -> None:
    answer = Answer({"season": FieldAnswer(("summer",), 0.5), "caption": FieldAnswer("red")})

    assert look_of(schema(), "t", answer, 3.0) == Look("t", 0.5, {"season": "summer"}, 3.0)
    assert look_of(schema(), "t", Answer({})) == Look("t", None, {"season": ""})
