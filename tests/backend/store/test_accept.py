from __future__ import annotations

import pytest

from backend.store import NewWork, Store, WorkState
from tests.backend.store.given import ANSWER, RECIPE, accepted, done, task, tasks


def test_new_work_is_queued_in_the_order_of_the_request(store: Store) -> None:
    rows = accepted(store, [task(3), task(1), task(2)])
    assert [row.task_id for row in rows] == [3, 1, 2]
    assert {(row.state, row.attempts, row.answer_key) for row in rows} == {(WorkState.QUEUED, 0, None)}


def test_the_same_task_is_the_same_work(store: Store) -> None:
    (first,) = accepted(store, [task(1)])
    assert accepted(store, [task(1)], now=2.0) == [first]


def test_a_task_named_twice_in_one_request_is_one_row_and_one_open_reply(store: Store) -> None:
    first, second = accepted(store, [task(1), task(1)], reply_until=50.0)
    assert first == second
    store.finish(first.id, ANSWER, None, False, 2.0)
    store.reply_ended([first.id, first.id], 3.0)
    assert store.projects_due(3.0) == ["12.17"]


@pytest.mark.parametrize(
    "other", [task(1, project="13.2"), task(1, version="v2"), task(2)], ids=["project", "version", "task"]
)
def test_another_project_version_or_task_is_other_work(store: Store, other: NewWork) -> None:
    rows = accepted(store, [task(1), other])
    assert rows[0].id != rows[1].id


def test_what_failed_is_queued_again_with_fresh_attempts_and_the_new_address(store: Store) -> None:
    accepted(store, [task(1)])
    (row,) = store.claim(1, 2.0)
    store.fail(row.id, "image_timeout", "The picture's host was too slow.", 3.0)
    (again,) = accepted(store, [task(1, url="https://pictures/new")], 4.0)
    assert (again.id, again.state, again.attempts, again.reason, again.message) == (row.id, "queued", 0, "", "")
    assert again.image_url == "https://pictures/new"


def test_what_was_cancelled_is_queued_again(store: Store) -> None:
    accepted(store, [task(1)])
    store.cancel_project("12.17", 2.0)
    assert accepted(store, [task(1)], 3.0)[0].state == WorkState.QUEUED


def test_running_and_done_work_keeps_its_state(store: Store) -> None:
    done(store, 1)
    accepted(store, [task(2)])
    store.claim(1, 2.0)
    assert [row.state for row in accepted(store, tasks(2), 3.0)] == [WorkState.DONE, WorkState.RUNNING]


def test_delivered_work_comes_back_with_its_answer(store: Store) -> None:
    (row,) = done(store)
    store.delivered([row.id], 2.0)
    (again,) = accepted(store, [task(1)], 3.0)
    assert (again.state, again.answer_key) == (WorkState.DELIVERED, ANSWER.key)
    assert store.answer(ANSWER.key) == ANSWER


def test_a_person_who_waits_raises_the_priority_for_good(store: Store) -> None:
    accepted(store, tasks(3))
    accepted(store, [task(3)], interactive=True)
    assert accepted(store, [task(3)])[0].interactive
    assert store.claim(1, 2.0)[0].task_id == 3


def test_an_unsaved_recipe_is_refused_and_nothing_is_accepted(store: Store) -> None:
    with pytest.raises(ValueError, match="recipe"):
        accepted(store, [task(1), NewWork("12.17", 2, "v1", "unknown", None)])
    assert store.summary() == []


@pytest.mark.parametrize("task_id", [2**63, -(2**63) - 1, 10**30])
def test_a_task_id_beyond_64_bits_is_refused_at_once(task_id: int) -> None:
    with pytest.raises(ValueError, match="task_id"):
        task(task_id)


def test_half_a_surrogate_pair_is_stored_as_the_replacement_character(store: Store) -> None:
    (row,) = accepted(store, [task(1, project="1\ud800", version="v\udfff", url="https://a/\ud83d")])
    assert (row.project, row.model_version, row.image_url) == ("1\ufffd", "v\ufffd", "https://a/\ufffd")
    store.claim(1, 2.0)
    store.fail(row.id, "odd\ud800", "said \udc00", 3.0)
    assert store.failures("1\ud800", 5)[0].message == "said \ufffd"


def test_no_tasks_are_no_work(store: Store) -> None:
    assert accepted(store, []) == []


def test_a_recipe_is_kept_and_may_be_saved_again(store: Store) -> None:
    store.save_recipe(RECIPE, 5.0)
    assert store.recipe(RECIPE.fingerprint) == RECIPE
    assert store.recipe("unknown") is None
