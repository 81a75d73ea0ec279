"""When later answers are unlike the checked ones an alarm is raised, with a time, and seldom otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from backend.quality.drift import BLOCK, FALSE_ALARM, MIN_CHECKED, Drift, Look, drift, look_of
from backend.quality.looks import threshold_at_looks
from backend.quality.summary import quality_of
from label_config.answer import Answer, FieldAnswer
from tests.backend.quality.given import schema, task


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


def test_in_a_project_it_is_of_the_checked_tasks_of_a_planned_look_whatever_is_checked_after_it() -> None:
    """Each further one would compare everything anew: of 60 such projects 14 had an alarm at one time or another."""
    chance = random.Random(6)
    labels, scores = ("summer", "winter"), (0.97, 0.6)
    tasks = [task(number, True, scores[chance.random() < 0.3]) for number in range(180)]
    later = [Look(f"later-{n}", scores[chance.random() < 0.3], {"season": labels[0]}, 1.0) for n in range(3 * BLOCK)]
    unlike = [Look(f"unlike-{n}", 0.2, {"season": labels[1]}, 2.0) for n in range(BLOCK)]

    def found_after(num_checked: int, *answered: Look) -> Drift | None:
        all_ = [*(look_of(schema(), one.name, one.answer) for one in tasks), *answered]
        some = tasks[:num_checked]
        return quality_of(schema(), some, {}, target=0.05, delta=0.1, answered=all_, find=threshold_at_looks).drift

    assert found_after(99, *unlike) is None, "nothing is promised yet"
    assert found_after(100, *later) is None
    found = found_after(100, *later, *unlike)
    assert found is not None
    assert found_after(180, *later, *unlike) == found


def test_the_looks_share_the_chance_of_a_false_alarm() -> None:
    """A block that is as unlike as one look alone would just call so is none where the look may use half of it."""
    checked = [Look(str(number), None, {"season": "summer" if number % 2 else "winter"}) for number in range(200)]

    def alarm(num_winter: int, share: float) -> bool:
        block = [Look(f"l{n}", None, {"season": "winter" if n < num_winter else "summer"}) for n in range(BLOCK)]
        return drift(checked, [checked[0], *block, *checked[1:]], share * FALSE_ALARM) is not None

    least = {share: next(num for num in range(100, BLOCK) if alarm(num, share)) for share in (1.0, 0.5, 0.25)}
    assert least[1.0] < least[0.5] < least[0.25] < 135


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
