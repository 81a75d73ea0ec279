from __future__ import annotations

from collections import Counter

import pytest

from backend.store import Store, WorkState
from backend.store.types import Places
from tests.backend.store.given import ANSWER, RECIPE, accepted, states, task, tasks


def test_a_claim_counts_as_an_attempt(store: Store) -> None:
    accepted(store, tasks(3))
    rows = store.claim(2, 2.0)
    assert [(row.task_id, row.state, row.attempts) for row in rows] == [(1, "running", 1), (2, "running", 1)]
    assert [row.task_id for row in store.claim(5, 2.0)] == [3]
    assert store.claim(5, 2.0) == []


def test_those_a_person_waits_for_come_first(store: Store) -> None:
    accepted(store, tasks(5))
    accepted(store, [task(9), task(8)], interactive=True)
    assert [row.task_id for row in store.claim(3, 2.0)] == [9, 8, 1]


def test_projects_take_turns_whatever_their_size(store: Store) -> None:
    accepted(store, tasks(100, "big"))
    accepted(store, tasks(4, "small"))
    accepted(store, tasks(4, "other"))
    first = store.claim(6, 2.0)
    assert Counter(row.project for row in first) == {"big": 2, "small": 2, "other": 2}
    one_by_one = [store.claim(1, 2.0)[0].project for _ in range(6)]
    assert Counter(one_by_one) == {"big": 2, "small": 2, "other": 2}
    assert {row.project for row in store.claim(10, 2.0)} == {"big"}


def test_a_late_project_does_not_catch_up_on_turns_it_never_waited_for(store: Store) -> None:
    accepted(store, tasks(200, "old"))
    for row in store.claim(100, 2.0):
        store.finish(row.id, ANSWER, None, False, 2.0)
    accepted(store, tasks(50, "new"))
    assert Counter(row.project for row in store.claim(20, 3.0)) == {"old": 10, "new": 10}


def test_a_project_whose_tasks_never_end_leaves_the_others_their_share(store: Store) -> None:
    accepted(store, tasks(200, "stuck"))
    store.claim(8, 2.0)
    accepted(store, tasks(200, "quick"))
    running = 8
    for _ in range(50):
        rows = store.claim(12 - running, 3.0)
        for row in rows:
            if row.project == "quick":
                store.finish(row.id, ANSWER, None, False, 3.0)
        running += sum(row.project == "stuck" for row in rows)
    assert running == 8, "more than its share already: nothing is added"


def test_places_that_no_other_project_needs_go_to_the_one_that_has_work(store: Store) -> None:
    accepted(store, tasks(20, "large"))
    accepted(store, tasks(2, "small"))
    assert Counter(row.project for row in store.claim(12, 2.0)) == {"large": 10, "small": 2}


PLACES = Places(of_one=4, urgent=2, others=3)


@pytest.mark.parametrize(
    ("interactive", "of_one", "of_another"),
    [pytest.param(False, 4, 3, id="tasks of many"), pytest.param(True, 6, 5, id="those a person waits for")],
)
def test_a_project_that_has_all_it_may_have_leaves_places_to_others(
    store: Store, interactive: bool, of_one: int, of_another: int
) -> None:
    accepted(store, tasks(20, "slow"), interactive=interactive)
    assert len(store.claim(99, 2.0, PLACES)) == of_one
    accepted(store, tasks(20, "other"), interactive=interactive)
    assert [row.project for row in store.claim(99, 3.0, PLACES)] == ["other"] * of_another
    assert store.claim(99, 4.0, PLACES) == []


def test_what_people_of_a_project_wait_for_takes_no_place_of_anothers_tasks_nor_of_its_people(store: Store) -> None:
    accepted(store, tasks(20, "slow"))
    accepted(store, [task(n, "slow") for n in range(100, 120)], interactive=True)
    assert len(store.claim(99, 2.0, PLACES)) == 6
    accepted(store, tasks(20, "other"))
    assert [row.project for row in store.claim(99, 3.0, PLACES)] == ["other"] * 3
    accepted(store, [task(100, "other")], interactive=True)
    assert [(row.project, row.task_id) for row in store.claim(99, 4.0, PLACES)] == [("other", 100)]


def test_people_of_several_projects_take_turns(store: Store) -> None:
    accepted(store, tasks(20, "many"), interactive=True)
    accepted(store, tasks(1, "one"), interactive=True)
    assert [row.project for row in store.claim(2, 2.0)].count("one") == 1


def test_a_requeue_takes_the_attempt_back(store: Store) -> None:
    accepted(store, tasks(1))
    (row,) = store.claim(1, 2.0)
    back = store.requeue(row.id, 3.0)
    assert (back.state, back.attempts) == (WorkState.QUEUED, 0)


def test_what_a_shutdown_gives_back_is_queued_at_once_and_nothing_counts(store: Store) -> None:
    accepted(store, tasks(4))
    store.claim(3, 2.0)
    store.finish(3, ANSWER, None, False, 2.0)
    store.give_back([1, 2, 3], 3.0)
    assert states(store) == {WorkState.QUEUED: 3, WorkState.DONE: 1}
    assert [(row.task_id, row.attempts) for row in store.claim(9, 4.0)] == [(1, 1), (2, 1), (4, 1)]


def test_a_row_that_was_forgotten_while_it_ran_is_no_trouble_for_the_others(store: Store) -> None:
    accepted(store, tasks(3))
    store.claim(3, 2.0)
    store.set_present(RECIPE, "v2", 3.0)
    accepted(store, [task(4, version="v2")], 4.0)
    store.claim(1, 5.0)
    store.give_back([3, 1, 4, 2], 8.0)
    assert store.requeue(3, 9.0) is None
    assert states(store) == {WorkState.QUEUED: 4}


def test_a_requeue_of_finished_work_changes_nothing(store: Store) -> None:
    accepted(store, tasks(1))
    (row,) = store.claim(1, 2.0)
    store.finish(row.id, ANSWER, None, False, 3.0)
    assert store.requeue(row.id, 4.0).state == WorkState.DONE


def test_recovery_queues_what_was_running(store: Store) -> None:
    accepted(store, tasks(4))
    store.claim(3, 2.0)
    assert store.recover(3.0) == 3
    assert store.recover(3.0) == 0
    assert states(store) == {WorkState.QUEUED: 4}


def test_of_suspects_only_one_runs_at_a_time_beside_others(store: Store) -> None:
    accepted(store, tasks(6))
    store.claim(3, 2.0)
    store.recover(3.0)
    assert [row.task_id for row in store.claim(3, 4.0)] == [1, 4, 5]
    assert [row.task_id for row in store.claim(3, 4.0)] == [6]
    store.finish(1, ANSWER, None, False, 5.0)
    assert [row.task_id for row in store.claim(3, 6.0)] == [2]


def test_of_suspects_the_one_a_person_waits_for_is_first_and_the_one_tried_most_is_last(store: Store) -> None:
    accepted(store, tasks(4))
    store.claim(4, 2.0)
    store.recover(3.0)
    assert [row.task_id for row in store.claim(4, 4.0)] == [1]
    store.recover(5.0)
    accepted(store, [task(4)], 6.0, interactive=True)
    order = []
    while rows := store.claim(4, 7.0):
        order += [row.task_id for row in rows]
        store.finish(rows[0].id, ANSWER, None, False, 8.0)
    assert order == [4, 2, 3, 1]


def test_a_task_that_ends_the_engine_is_quarantined_alone(store: Store) -> None:
    """Whoever claims up to 16 at a time and dies whenever task 20 is among them still does all the others."""
    accepted(store, tasks(60))
    num_crashes = 0
    while rows := store.claim(16, 2.0):
        if any(row.task_id == 20 for row in rows):
            num_crashes += 1
            store.recover(3.0)
            continue
        for row in rows:
            store.finish(row.id, ANSWER, None, False, 3.0)
    (failed,) = store.failures("12.17", 10)
    assert (num_crashes, failed.task_id, failed.reason) == (3, 20, "crashed")
    assert states(store) == {WorkState.DONE: 59, WorkState.FAILED: 1}
