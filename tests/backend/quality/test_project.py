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
from backend.quality.words import Sentences
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from label_config.parse import parse_label_config
from label_config.rating import calibrated
from tests.backend.bulk.given import SCHEMA
from tests.backend.quality.fake_people import PROJECT, VERSION, FakePeople, annotation, prediction, seen
from tests.backend.serving import CONFIG

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


@pytest.fixture
def audited(people: FakePeople, store: Store) -> int:
    """A task of the blind audit that a person labelled, as a reading found; its prediction has come since."""
    people.add(*range(1, 21))
    items = [NewWork(PROJECT, task_id, VERSION, "r1", None) for task_id in range(1, 21)]
    store.accept(items, interactive=False, reply_until=0.0, now=1.0, audit_share=0.5)
    for row in store.claim(20, 2.0):
        answer = Answered(f"picture-{row.task_id}:{VERSION}", VERSION, Answer({"season": FieldAnswer(("冬季",), 0.9)}))
        store.finish(row.id, StoredAnswer(answer.key, answer.content), 0.9, False, 2.0)
    task_id = min(store.audited_tasks(PROJECT))
    people.annotate(task_id, season="夏季")
    assert read_people(people, store, PROJECT, 5.0) == "all"
    people.tasks[task_id].predictions[VERSION] = prediction()  # type: ignore[index]
    return task_id


@pytest.mark.parametrize("ground_truth", [False, True])
def test_what_was_said_blind_counts_before_what_others_say_who_see_the_answer_later(
    people: FakePeople, store: Store, audited: int, ground_truth: bool
) -> None:
    """Else every task of an audit were lost in a project where two people label each."""
    people.annotate(audited, **seen(), completed_by=2, ground_truth=ground_truth)

    [found] = quality(people, store)

    season = next(field for field in found.quality.fields if field.name == "season")
    assert (found.quality.num_blind, found.quality.num_filled) == (1, 0)
    assert (season.blind.num_right, season.blind.num) == (0, 1)
    assert (found.quality.agreement.num_right, found.quality.agreement.num) == (0, 1)


def test_what_was_said_blind_stays_so_when_its_author_changes_it_beside_the_answer(
    people: FakePeople, store: Store, audited: int
) -> None:
    people.change(audited, **annotation("winter", ground_truth=True))
    assert quality(people, store)[0].quality.blind.num_right == 0

    people.change(audited, was_cancelled=True)
    assert quality(people, store)[0].quality.unused == {"not_labelled": 19, "cancelled": 1}


def test_a_label_that_the_label_config_has_no_more_is_no_empty_field(people: FakePeople, store: Store) -> None:
    people.add(1, 2)
    people.annotate(1, season="monsoon")
    people.annotate(2)
    for task_id in (1, 2):
        answered(store, task_id)

    [found] = quality(people, store, BLIND)

    assert (found.quality.blind.num_right, found.quality.blind.num) == (1, 1)
    assert found.quality.unused == {"unreadable": 1}


def test_each_version_is_measured_by_the_label_config_that_it_was_asked_with(people: FakePeople, store: Store) -> None:
    """The label of summer was renamed after task 1 was answered and labelled."""
    people.add(1, 2)
    people.annotate(1, season="夏季")
    people.annotate(2, season="盛夏")
    store.save_recipe(RecipeRecord("r1", PROJECT, CONFIG, "{}"), 0.0)
    answered(store, 1, "夏季")
    store.delivered([1], 2.5)
    store.save_recipe(RecipeRecord("r2", PROJECT, CONFIG.replace("夏季", "盛夏"), "{}"), 3.0)
    renamed = parse_label_config(CONFIG.replace("夏季", "盛夏"))
    assert read_people(people, store, PROJECT, 5.0) == "all"

    [found] = project_quality(store, PROJECT, renamed, VERSION, BLIND)

    assert (found.quality.blind.num_right, found.quality.blind.num) == (1, 1)
    assert found.quality.unused == {"no_answer": 1}


def test_who_saw_the_same_answer_under_another_rating_said_something_of_it(people: FakePeople, store: Store) -> None:
    """`--apply` changes the rating, and so the model version: what was measured before is not lost by it."""
    people.add(*range(1, 11), predicted=VERSION)
    for task_id in range(1, 11):
        answered(store, task_id)
        people.annotate(task_id, **seen(VERSION if task_id > 2 else "another"))
    store.delivered(list(range(1, 11)), 2.5)
    options = ProjectOptions(review_thresholds=(("season", 0.8),))
    present = recipe_of(SCHEMA, options, 0).rated_version(VERSION)
    store.set_present(RecipeRecord("r2", PROJECT, "<View/>", options.model_dump_json()), present, 3.0)

    found = quality(people, store, present=present)[0]

    assert present != VERSION
    assert (found.model_version, found.quality.num_filled) == (present, 8)
    assert found.quality.unused == {"other_version": 2}


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

    newer, *others = quality(people, store, BLIND, present="newer")
    assert (newer.model_version, newer.quality.num_blind, newer.quality.threshold.threshold) == ("newer", 0, None)
    assert {one.model_version for one in others} == {VERSION, "older"}, "what is known of them holds for no other"


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
    assert season.threshold.num_labels == 2, "the empty one has a confidence, too"


@pytest.mark.parametrize("score", [10**400, 1e308, float("inf"), float("nan"), -3.0, 7, "0.9", True, None, [0.9]])
def test_a_score_that_somebody_imported_and_is_none_says_nothing(people: FakePeople, store: Store, score: Any) -> None:
    people.add(1, predicted=VERSION)
    people.annotate(1, **seen())
    predicted = people.tasks[1].predictions[VERSION]
    predicted["score"], predicted["result"] = score, [{**region, "score": score} for region in predicted["result"][:1]]  # type: ignore[index]
    read_people(people, store, PROJECT, 5.0)

    [found] = project_quality(store, PROJECT, SCHEMA, VERSION, Asked())
    assert found.quality.num_filled == 1
    assert found.quality.threshold.num_labels == 0


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
    """By the calibration that is in force; the temperature that is found says what should be in force, and the same
    labels say the same of it whatever is: else each --apply-calibration would go a step further."""
    people.add(*range(1, 61))
    for task_id in range(1, 61):
        people.annotate(task_id, season="winter" if task_id > 18 else "夏季")
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
    assert (was.rated_by, now.rated_by) == (1.0, 4.0)
    assert now.temperature == was.temperature == fitted_temperature([(0.9, n > 18) for n in range(1, 61)]) != 1.0


def test_a_project_s_threshold_is_found_on_the_first_labels_and_stands_until_the_next_planned_look(
    people: FakePeople, store: Store
) -> None:
    """The first 100 are those with the highest numbers; a label that is changed later keeps its place."""
    people.add(*range(1, 131))
    for task_id in range(130, 0, -1):
        answered(store, task_id)
        people.annotate(task_id, season="winter" if task_id > 30 else "夏季")
    [before] = quality(people, store, BLIND)
    for task_id in (101, 102):
        people.change(task_id, **annotation("夏季"))

    [after] = quality(people, store, BLIND)

    found = before.quality.threshold
    assert (found.num, found.num_wrong, found.num_all, found.num_labels) == (100, 0, 100, 130)
    assert (found.threshold, found.next_look) == (0.05, 200)
    assert before.quality.blind.num_right == 100, "how good they are is said of all"
    assert (after.quality.threshold.num_all, after.quality.threshold.num_wrong) == (100, 2)
    assert after.quality.threshold.threshold is None


@pytest.mark.parametrize(("num", "is_said"), [(1, True), (99, True), (100, False)])
def test_thresholds_that_are_in_force_and_that_nothing_guarantees_are_named(
    people: FakePeople, store: Store, num: int, is_said: bool
) -> None:
    """The model or the instructions were changed since --apply, say, and its tab is there still."""
    people.add(*range(1, num + 1))
    for task_id in range(1, num + 1):
        answered(store, task_id)
        people.annotate(task_id)
    store.delivered(list(range(1, num + 1)), 2.5)
    options = ProjectOptions(review_thresholds=(("season", 0.8),))
    present = recipe_of(SCHEMA, options, 0).rated_version(VERSION)
    store.set_present(RecipeRecord("r2", PROJECT, "<View/>", options.model_dump_json()), present, 3.0)

    found = quality(people, store, BLIND, present)[0].quality

    assert (found.blind.num, found.threshold.threshold is None) == (num, is_said)
    for said in (Sentences("en").of(found), Sentences("en").in_short(found, "12", 0.0)):
        assert (
            any("nothing guarantees now that by them at most 5% is wrong" in sentence for sentence in said) == is_said
        )


def test_an_answer_that_comes_after_its_label_is_as_new_as_the_answer(people: FakePeople, store: Store) -> None:
    """Else those that a new model version answers last would change what an earlier look was made of."""
    people.add(*range(1, 131))
    for task_id in range(1, 131):
        answered(store, task_id, at=3e9 if task_id <= 30 else 2.0)
        people.annotate(task_id, season="winter" if task_id > 30 else "夏季")

    [found] = quality(people, store, BLIND)

    assert (found.quality.threshold.num_all, found.quality.threshold.num_wrong) == (100, 0)


def test_later_answers_that_are_unlike_the_checked_ones_end_the_guarantee(people: FakePeople, store: Store) -> None:
    people.add(*range(1, 101))
    for task_id in range(1, 100):
        people.annotate(task_id)
        answered(store, task_id)
    answered(store, 100)
    for task_id in range(200, 400):
        answered(store, task_id, at=9.0)
    for task_id in range(400, 600):
        answered(store, task_id, "夏季", at=1_000.0)
    [before_a_look] = quality(people, store, BLIND)
    people.annotate(100)

    [changed] = quality(people, store, BLIND)

    assert before_a_look.quality.drift is None, "there is no guarantee that could end"
    assert changed.quality.drift == Drift(1_000.0, "400", 200, ("season",))
