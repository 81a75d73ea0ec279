"""A project's quality from what was read of it: which answers count, for which model version, since when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.recipe import recipe_of
from backend.quality.calibration import fitted_temperature
from backend.quality.drift import Drift
from backend.quality.project import Asked, OfVersion, project_quality
from backend.quality.reading import read_people
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from label_config.rating import calibrated
from tests.backend.bulk.given import SCHEMA
from tests.backend.quality.fake_people import PROJECT, VERSION, FakePeople, prediction, seen

ASKED = Asked()
BLIND = Asked(blind=True)


@pytest.fixture
def people() -> FakePeople:
    return FakePeople()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "a.db", 0.0) as opened:
        opened.save_recipe(RecipeRecord("r1", PROJECT, "<View/>", "{}"), 0.0)
        yield opened


def answered(store: Store, task_id: int, season: str = "冬季", at: float = 2.0) -> None:
    """By us; Label Studio was told nothing."""
    fields = {
        "season": FieldAnswer((season,), 0.9),
        "category": FieldAnswer((("服饰", "女装", "连衣裙"),), 0.8),
    }
    [row] = store.accept([NewWork(PROJECT, task_id, VERSION, "r1", None)], interactive=False, reply_until=0.0, now=1.0)
    answer = Answered(f"picture-{task_id}:{VERSION}", VERSION, Answer(fields))
    store.finish(row.id, StoredAnswer(answer.key, answer.content), 0.8, False, at)


def quality(people: FakePeople, store: Store, asked: Asked = ASKED, present: str = VERSION) -> list[OfVersion]:
    assert read_people(people, store, PROJECT, 5.0) == "all"
    return project_quality(store, PROJECT, SCHEMA, present, asked, task_url="http://labels/projects/12/data?task=")


def test_tasks_are_accounted_for_by_reason_and_what_was_not_chosen_by_chance_is_not_blind(
    people: FakePeople, store: Store
) -> None:
    people.add(*range(1, 11), predicted=VERSION)
    people.annotate(1, **seen())
    people.annotate(2, **seen(), season="夏季")
    people.annotate(3)
    people.annotate(4, was_cancelled=True)
    people.annotate(5, parent_prediction=5, lead_time=None)
    people.annotate(6, **seen("another"))
    people.add(7)
    people.annotate(7)
    people.huge = {8}
    people.annotate(8)

    [found] = quality(people, store)
    assert found.model_version == VERSION
    assert (found.quality.num_blind, found.quality.num_filled, found.quality.filled.num_right) == (0, 2, 1)
    assert found.quality.unused == {
        "not_labelled": 2, "not_chosen": 1, "cancelled": 1, "from_predictions": 1, "other_version": 1, "no_answer": 1,
        "too_large": 1,
    }  # fmt: skip
    assert found.quality.num_entries == 10
    assert found.account.examples["other_version"] == ["6"]
    assert found.quality.task_url + found.account.examples["cancelled"][0] == "http://labels/projects/12/data?task=4"

    [found] = quality(people, store, BLIND)
    assert (found.quality.num_blind, found.quality.num_filled) == (1, 2)


def test_tasks_of_the_blind_audit_were_chosen_by_chance(people: FakePeople, store: Store) -> None:
    tasks = range(1, 41)
    people.add(*tasks)
    items = [NewWork(PROJECT, task_id, VERSION, "r1", None) for task_id in tasks]
    store.accept(items, interactive=False, reply_until=0.0, now=1.0, audit_share=0.5)
    for row in store.claim(len(tasks), 2.0):
        fields = {"season": FieldAnswer(("冬季",), 0.9), "category": FieldAnswer((("服饰", "女装", "连衣裙"),), 0.8)}
        answer = Answered(f"picture-{row.task_id}:{VERSION}", VERSION, Answer(fields))
        store.finish(row.id, StoredAnswer(answer.key, answer.content), 0.8, False, 2.0)
    chosen = store.audited_tasks(PROJECT)
    assert 0 < len(chosen) < len(tasks)
    for task_id in tasks:
        people.annotate(task_id)
    [found] = quality(people, store)
    assert found.quality.num_blind == len(chosen)
    assert found.quality.unused == {"not_chosen": len(tasks) - len(chosen)}
    assert store.audited_tasks(PROJECT) == chosen, "they are let go, and it stays known which they were"
    assert store.withheld_tasks(PROJECT, tasks, 0.5) == set()


def test_a_person_s_label_measures_every_version_whose_answer_nobody_showed_them(
    people: FakePeople, store: Store
) -> None:
    """Of a task that was labelled before any answer was shown, ours may be in the store alone."""
    people.add(1, 2, 3)
    for task_id in (1, 2, 3):
        people.annotate(task_id)
    answered(store, 1, "夏季")
    answered(store, 2)
    for task_id, season in ((2, "夏季"), (3, "winter")):
        people.tasks[task_id].predictions["older"] = prediction(season)  # type: ignore[index]

    present, older = quality(people, store, BLIND)
    assert [one.model_version for one in (present, older)] == [VERSION, "older"]
    assert [(one.quality.blind.num_right, one.quality.blind.num) for one in (present, older)] == [(1, 2), (1, 2)]
    assert present.quality.unused == older.quality.unused == {"no_answer": 1}

    assert quality(people, store, BLIND, present="newer")[0].model_version in (VERSION, "older")


def test_our_own_answer_counts_before_the_prediction_and_an_empty_field_is_as_sure_as_the_score_says(
    people: FakePeople, store: Store
) -> None:
    people.add(1, 2)
    people.annotate(1)
    people.annotate(2)
    answered(store, 1)
    regions = [region for region in prediction()["result"] if region["from_name"] != "season"]
    for task_id in (1, 2):
        people.tasks[task_id].predictions[VERSION] = {"score": 0.3, "result": regions}  # type: ignore[index]

    [found] = quality(people, store, BLIND)
    season = next(field for field in found.quality.fields if field.name == "season")
    assert (season.blind.num_right, season.blind.num) == (1, 2)
    assert season.threshold is not None
    assert season.threshold.num_all == 2, "the empty one has a confidence, too"


@pytest.mark.parametrize("score", [10**400, 1e308, float("inf"), float("nan"), -3.0, 7, "0.9", True, None, [0.9]])
def test_a_score_that_somebody_imported_and_is_none_says_nothing(people: FakePeople, store: Store, score: Any) -> None:
    people.add(1, predicted=VERSION)
    people.annotate(1, **seen())
    predicted = people.tasks[1].predictions[VERSION]
    predicted["score"], predicted["result"] = score, [{**region, "score": score} for region in predicted["result"][:1]]  # type: ignore[index]
    read_people(people, store, PROJECT, 5.0)

    [found] = project_quality(store, PROJECT, SCHEMA, VERSION, Asked())
    assert found.quality.num_filled == 1
    assert found.quality.threshold.num_all == 0


def test_only_what_was_done_since_a_day_counts(people: FakePeople, store: Store) -> None:
    people.add(1, 2, predicted=VERSION)
    people.annotate(1, **seen())
    since = people.now + 1.0
    people.annotate(2, **seen())

    [found] = quality(people, store, Asked(since=since))
    assert (found.quality.num_filled, found.quality.unused) == (1, {"earlier": 1})


def test_where_nobody_said_anything_there_is_nothing(people: FakePeople, store: Store) -> None:
    people.add(1, predicted=VERSION)
    assert quality(people, store) == []


def test_an_answer_that_cannot_be_read_is_none(people: FakePeople, store: Store, caplog: Any) -> None:
    people.add(1)
    people.annotate(1)
    [row] = store.accept([NewWork(PROJECT, 1, VERSION, "r1", None)], interactive=False, reply_until=0.0, now=1.0)
    store.finish(row.id, StoredAnswer("k", "{}"), 0.8, False, 2.0)

    [found] = quality(people, store, BLIND)
    assert found.quality.unused == {"no_answer": 1}
    assert "task 1 cannot be read" in caplog.text


def test_what_is_rated_anew_is_measured_as_it_is_rated_now_and_needs_no_new_labels(
    people: FakePeople, store: Store
) -> None:
    """By the calibration that is in force; a temperature that is found says what should be in force."""
    people.add(*range(1, 61))
    for task_id in range(1, 61):
        people.annotate(task_id, season="winter" if task_id > 6 else "夏季")
        answered(store, task_id)
    store.delivered(list(range(1, 61)), 2.5)
    [before] = quality(people, store, BLIND)
    options = ProjectOptions(calibration=(("season", 4.0),))
    present = recipe_of(SCHEMA, options, 0).rated_version(VERSION)
    store.set_present(RecipeRecord("r2", PROJECT, "<View/>", options.model_dump_json()), present, 3.0)

    after = quality(people, store, BLIND, present)[0]

    assert present != VERSION
    assert after.model_version == present
    assert after.quality.blind == before.quality.blind
    was, now = (next(f for f in one.quality.fields if f.name == "season") for one in (before, after))
    assert [b.mean_confidence for b in was.reliability] == [pytest.approx(0.9)]
    assert [b.mean_confidence for b in now.reliability] == [pytest.approx(calibrated(0.9, 4.0))]
    assert now.temperature == pytest.approx(
        4.0 * fitted_temperature([(calibrated(0.9, 4.0), n > 6) for n in range(1, 61)]), abs=0.02
    )


def test_later_answers_that_are_unlike_the_checked_ones_end_the_guarantee(people: FakePeople, store: Store) -> None:
    people.add(*range(1, 61))
    for task_id in range(1, 61):
        people.annotate(task_id)
        answered(store, task_id)
    for task_id in range(100, 300):
        answered(store, task_id, at=9.0)
    [quiet] = quality(people, store, BLIND)
    for task_id in range(300, 500):
        answered(store, task_id, "夏季", at=1_000.0)

    [changed] = quality(people, store, BLIND)

    assert quiet.quality.drift is None
    assert changed.quality.drift == Drift(1_000.0, "300", 200, ("season",))
