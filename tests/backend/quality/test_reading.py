"""What people did is read once, then only what changed; whatever ends a reading, the next one goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.label_studio.people import PAGE, Extent
from backend.label_studio.predictions import CallFailed
from backend.quality.reading import MAX_TASK_BYTES, OVERLAP_S, read_people
from backend.store import Store
from backend.store.people import LabelledTask, PeopleCounts
from tests.backend.quality.fake_people import PROJECT, FakePeople, annotation, seen

NUM = PAGE + 30


@pytest.fixture
def people() -> FakePeople:
    return FakePeople()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "a.db", 0.0) as opened:
        yield opened


def read(people: FakePeople, store: Store, **options: Any) -> str:
    people.asked.clear()
    return read_people(people, store, PROJECT, 5.0, **options)


def kept(store: Store) -> dict[int, list[Any]]:
    """By task, its annotations."""
    return {task.task_id: json.loads(task.content)["annotations"] for task in store.labelled(PROJECT, 0, 10_000)}


def test_only_tasks_with_annotations_are_kept_and_read_again_only_when_they_change(
    people: FakePeople, store: Store
) -> None:
    people.add(*range(1, NUM + 1))
    people.annotate(3)
    people.annotate(NUM, was_cancelled=True)

    assert read(people, store) == "all"
    assert set(kept(store)) == {3, NUM}
    assert people.asked == [(3,), (NUM,)]
    assert store.people_counts(PROJECT) == PeopleCounts(2, 1, 1, people.tasks[NUM].changed_at)
    assert store.reading(PROJECT).num_tasks == NUM

    people.annotate(7)
    people.now += 2 * OVERLAP_S
    read(people, store)
    people.add(NUM + 1)
    read(people, store)
    assert people.asked == [(7,)], "what changed just before is looked at once more"
    assert set(kept(store)) == {3, 7, NUM}


def test_what_is_changed_deleted_or_gone_is_so_here_after_the_next_reading(people: FakePeople, store: Store) -> None:
    people.add(*range(1, 6))
    for task_id in range(1, 5):
        people.annotate(task_id)
    people.annotate(5, was_cancelled=True)
    read(people, store)

    people.change(1, lead_time=99.0)
    people.delete_annotations(2)
    del people.tasks[3], people.tasks[5]
    read(people, store)

    assert [one["lead_time"] for one in kept(store)[1]] == [99.0]
    assert set(kept(store)) == {1, 4}


@pytest.mark.parametrize("stop", ["an error", "the end of the process"])
def test_a_reading_that_was_left_goes_on_where_it_was(tmp_path: Path, people: FakePeople, stop: str) -> None:
    people.add(*range(1, 2 * NUM))
    for task_id in (1, 2 * NUM - 1):
        people.annotate(task_id)
    pages = iter([True, False])
    with Store.open(tmp_path / "a.db", 0.0) as store:
        if stop == "an error":
            people.fail = 1
            with pytest.raises(CallFailed):
                read(people, store)
            assert not kept(store)
        assert read(people, store, may_go_on=lambda: next(pages)) == "some"
        assert set(kept(store)) == {1}
    people.annotate(2)  # meanwhile, and behind us: found by the reading after this one
    with Store.open(tmp_path / "a.db", 0.0) as store:
        assert read(people, store) == "all"
        assert people.asked == [(2 * NUM - 1,)]
        read(people, store)
        assert set(kept(store)) == {1, 2, 2 * NUM - 1}


@pytest.mark.parametrize("left", ["", "12.1800000000", "13.1700000000"])
def test_what_was_read_is_forgotten_with_the_project(people: FakePeople, store: Store, left: str) -> None:
    people.add(1)
    people.annotate(1)
    read(people, store)
    people.project = left

    assert read(people, store) == "gone"
    assert not kept(store)
    assert not store.people_projects()


def test_replies_that_are_too_large_are_asked_for_in_halves_and_one_task_alone_is_marked(
    people: FakePeople, store: Store
) -> None:
    people.add(*range(1, 8))
    for task_id in range(1, 8):
        people.annotate(task_id)
    people.huge, people.max_at_once = {4}, 3

    assert read(people, store) == "all"
    assert [task.task_id for task in store.labelled(PROJECT, 0, 10) if not task.content] == [4]
    assert store.people_counts(PROJECT).num_tasks == 7


@pytest.mark.parametrize(
    ("num_faults", "left_out"), [(math.inf, [2, 5]), (1, []), (5, [2])], ids=["always", "once", "of one"]
)
def test_tasks_on_which_label_studio_itself_fails_are_left_out_and_the_others_count(
    people: FakePeople, store: Store, num_faults: float, left_out: list[int]
) -> None:
    """It keeps half a surrogate pair, and answers 500 to whoever asks for the task, and for any other with it."""
    people.add(*range(1, 8))
    for task_id in range(1, 8):
        people.annotate(task_id)
    people.faulty, people.num_faults = {2, 5}, num_faults

    assert read(people, store) == "all"
    assert [task.task_id for task in store.labelled(PROJECT, 0, 10) if not task.content] == left_out
    assert store.people_counts(PROJECT).num_submitted == 7 - len(left_out)


MANY = 100


class Failing(FakePeople):
    """A Label Studio that fails on everything as soon as it has failed on a task."""

    def extent(self, project_id: int) -> Extent:
        if self.num_faults < MANY and self.faulty:
            raise CallFailed("Label Studio answered 500", "busy", is_fault=True)
        return super().extent(project_id)


def test_of_a_label_studio_that_fails_on_everything_no_task_is_left_out(store: Store) -> None:
    people = Failing(num_faults=MANY)
    people.add(1, 2)
    people.annotate(1)
    people.annotate(2)
    people.faulty = {1, 2}
    with pytest.raises(CallFailed):
        read(people, store)
    assert not kept(store)
    people.faulty = set()
    assert read(people, store) == "all"
    assert set(kept(store)) == {1, 2}


LONG = "字" * (MAX_TASK_BYTES // 3)
TOO_MUCH: dict[str, dict[str, Any]] = {
    "a text": {"result": [{"from_name": "caption", "value": {"text": [LONG]}}]},
    "texts": {"result": [{"from_name": "caption", "value": {"text": ["a"] * MAX_TASK_BYTES}}]},
    "labels": {"result": [{"from_name": "season", "value": {"choices": [LONG]}}]},
    "regions": {"result": [{"from_name": "season", "value": {"choices": []}}] * (MAX_TASK_BYTES // 40)},
    "a name": {"result": [{"from_name": LONG, "value": {"text": ["a"]}}]},
    "the version of what was seen": {"prediction": {"model_version": LONG}},
}


@pytest.mark.parametrize("more", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_task_that_somebody_typed_too_much_into_is_left_out_and_the_others_count(
    people: FakePeople, store: Store, more: dict[str, Any]
) -> None:
    """Hundreds are in memory at a time, and the store has all of them."""
    people.add(1, 2, 3)
    people.annotate(1)
    people.annotate(2, **more)
    people.annotate(3, result=[{"from_name": "caption", "value": {"text": [LONG[:8_000]]}}])

    assert read(people, store) == "all"
    assert [task.task_id for task in store.labelled(PROJECT, 0, 10) if not task.content] == [2]
    assert store.people_counts(PROJECT).num_submitted == 2
    people.change(2, **annotation())
    read(people, store)
    assert set(kept(store)) == {1, 2, 3}


def test_what_an_annotation_was_made_from_stays_known_when_the_prediction_is_deleted(
    people: FakePeople, store: Store
) -> None:
    people.add(1, predicted="old")
    people.annotate(1, **seen("old"))
    read(people, store)
    people.tasks[1].predictions.clear()  # type: ignore[attr-defined]
    people.change(1, parent_prediction=None, prediction={})
    read(people, store)

    [one] = kept(store)[1]
    assert (one["parent_prediction"], one["prediction"]) == (5, {"model_version": "old"})
    [task] = store.labelled(PROJECT, 0, 1)
    assert set(json.loads(task.content)["predictions"]) == {"old"}


def test_what_was_read_earlier_never_replaces_what_was_read_later(store: Store) -> None:
    """Two may read at once: the server, and a command beside it."""
    store.begin_reading(PROJECT, 9.0)
    later, earlier = LabelledTask(1, 8.0, 1, 0, "later"), LabelledTask(1, 7.0, 1, 0, "earlier")
    store.save_people(PROJECT, [later], {}, until=9.0, after=1)
    store.save_people(PROJECT, [earlier], {}, until=9.0, after=1)
    store.save_people(PROJECT, [], {1: 7.5}, until=9.0, after=1)
    assert store.labelled(PROJECT, 0, 9) == [later]

    store.save_people(PROJECT, [], {1: 8.5}, until=9.0, after=1)
    assert not store.labelled(PROJECT, 0, 9)
