"""Tasks that Label Studio lost, or people did: out of every count, never retried, and back when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.store import Store, WorkState
from tests.backend.store.given import ANSWER, accepted, done, task, tasks

P = "12.17"
NOW = 100.0


def failed(store: Store) -> None:
    store.fail(accepted(store, tasks(1))[0].id, "image_not_found", "HTTP 404", 2.0)


def delivered(store: Store) -> None:
    store.delivered([done(store)[0].id], 2.0)


AT_REST: dict[str, Callable[[Store], object]] = {
    "waiting": lambda store: accepted(store, tasks(1)),
    "failed": failed,
    "to be delivered": done,
    "in a reply": lambda store: store.returned([done(store)[0].id], 9.0, 2.0),
    "in Label Studio": delivered,
}


def at_rest(store: Store, before: Callable[[Store], object]) -> None:
    before(store)
    store.reply_ended([1], 2.0)


@pytest.mark.parametrize("before", AT_REST.values(), ids=AT_REST)
@pytest.mark.parametrize("whole", [False, True], ids=["the task", "the project"])
def test_what_label_studio_has_lost_counts_nowhere_else(
    store: Store, before: Callable[[Store], object], whole: bool
) -> None:
    at_rest(store, before)
    if whole:
        assert store.project_gone(P, "project_deleted", NOW) == 1
    else:
        assert store.tasks_gone(P, [1, 99], "task_deleted", NOW) == 1
    [summary] = store.summary()
    assert dict(summary.gone) == {"project_deleted" if whole else "task_deleted": 1}
    assert (summary.states, summary.failures, summary.num_delivered, summary.num_tasks) == ({}, {}, 0, 0)
    assert store.retry_failed(P, NOW) == 0
    assert store.claim(9, NOW) == store.due(P, 9, 1e9) == []
    (again,) = accepted(store, tasks(1), NOW + 1)
    assert again.state is WorkState.QUEUED, "when it is asked for, it is there after all"
    assert not store.summary()[0].gone


def test_what_was_forgotten_of_a_project_that_is_gone_is_not_in_label_studio_any_more(store: Store) -> None:
    at_rest(store, delivered)
    accepted(store, [task(2)], 3.0)
    store.reply_ended([2], 3.0)
    store.prune(1_000.0, 990.0)
    assert store.summary()[0].num_delivered == 1
    assert store.project_gone(P, "task_deleted", NOW) == 1
    assert store.summary()[0].num_delivered == 0


BUSY: dict[str, Callable[[Store], object]] = {
    "asked for by a request that is open": lambda store: accepted(store, tasks(1), reply_until=NOW + 45),
    "asked for since": lambda store: store.reply_ended(
        [accepted(store, tasks(1), reply_until=NOW + 45)[0].id], NOW + 1
    ),
    "running": lambda store: (at_rest(store, AT_REST["waiting"]), store.claim(1, 3.0)),
    "on its way to Label Studio": lambda store: (at_rest(store, done), store.take_due(P, 1, NOW + 600, 3.0)),
}


@pytest.mark.parametrize("before", BUSY.values(), ids=BUSY)
def test_what_is_under_way_is_left_alone(store: Store, before: Callable[[Store], object]) -> None:
    before(store)
    assert store.tasks_gone(P, [1], "task_deleted", NOW) == 0
    assert store.project_gone(P, "project_deleted", NOW) == 0
    assert store.tasks_at_rest(P, 0, 9, NOW, told=True) == []
    assert store.summary()[0].num_tasks == 1


@pytest.mark.parametrize("before", AT_REST.values(), ids=AT_REST)
def test_what_people_annotated_leaves_only_what_failed_and_keeps_why(
    store: Store, before: Callable[[Store], object]
) -> None:
    at_rest(store, before)
    did_fail = before is failed
    assert store.tasks_done_by_people(P, [1], NOW) == did_fail
    [summary] = store.summary()
    assert dict(summary.done_by_people) == ({"image_not_found": 1} if did_fail else {})
    assert summary.num_tasks == (not did_fail)
    assert not summary.failures
    assert store.retry_failed(P, NOW) == 0


def test_the_tasks_to_look_up_come_in_order_each_once(store: Store) -> None:
    accepted(store, tasks(5), 1.0)
    store.reply_ended([1, 2, 3, 4, 5], 2.0)
    store.finish(1, ANSWER, 0.9, False, 2.0)
    store.delivered([1], 2.0)
    seen, after = [], 0
    while found := store.tasks_at_rest(P, after, 2, NOW, told=False):
        seen += [task_id for _, task_id in found]
        after = found[-1][0]
    assert seen == [2, 3, 4, 5]
    assert [task_id for _, task_id in store.tasks_at_rest(P, 0, 9, NOW, told=True)] == [1, 2, 3, 4, 5]
    assert store.tasks_at_rest("another", 0, 9, NOW, told=True) == []


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (done, WorkState.DONE),
        (AT_REST["in a reply"], WorkState.RETURNED),
        (delivered, WorkState.RETURNED),
        (failed, None),
        (AT_REST["waiting"], None),
    ],
    ids=["to be delivered", "in a reply", "in Label Studio", "failed", "waiting"],
)
def test_answers_of_a_project_that_is_found_again_are_to_be_delivered(
    store: Store, before: Callable[[Store], object], then: WorkState | None
) -> None:
    at_rest(store, before)
    assert store.project_back(P, NOW) == 0
    store.project_gone(P, "project_deleted", NOW)
    assert store.is_worth_asking(P, NOW)
    assert store.project_back(P, NOW + 1) == (then is not None)
    [summary] = store.summary()
    assert summary.states == ({} if then is None else {then: 1})
    assert [row.state for row in store.take_due(P, 9, NOW + 600, NOW + 1)] == ([] if then is None else [then])


def test_a_deleted_task_does_not_come_back_with_its_project(store: Store) -> None:
    at_rest(store, done)
    store.tasks_gone(P, [1], "task_deleted", NOW)
    assert store.project_back(P, NOW + 1) == 0
    assert not store.is_worth_asking(P, NOW)
