from __future__ import annotations

from pathlib import Path

from backend.store import Store, WorkState
from backend.store.people import LabelledTask
from tests.backend.store.given import ANSWER, accepted, done, opened, task, tasks


def test_a_summary_counts_states_reviews_failures_and_deliveries(store: Store) -> None:
    accepted(store, tasks(6, "a"), 1.0)
    accepted(store, tasks(1, "b"), 9.0)
    store.finish(1, ANSWER, 0.2, True, 2.0)
    store.finish(2, ANSWER, 0.9, False, 3.0)
    store.delivered([1], 5.0)
    store.fail(3, "image_timeout", "", 4.0)
    store.fail(4, "image_timeout", "", 4.0)
    store.fail(5, "engine_dead", "", 4.5)
    b, a = store.summary()
    assert (b.project, b.states, b.last_finished_at, b.last_delivered_at) == ("b", {WorkState.QUEUED: 1}, None, None)
    assert a.states == {WorkState.DELIVERED: 1, WorkState.DONE: 1, WorkState.FAILED: 3, WorkState.QUEUED: 1}
    assert list(a.failures.items()) == [("image_timeout", 2), ("engine_dead", 1)]
    assert (a.num_needs_review, a.num_review_told, a.num_delivered, a.num_tasks) == (1, 1, 1, 6)
    assert (a.first_accepted_at, a.last_accepted_at, a.last_finished_at, a.last_delivered_at) == (1.0, 1.0, 4.5, 5.0)


def test_failures_come_newest_first_up_to_a_limit(store: Store) -> None:
    accepted(store, tasks(5))
    for work_id in range(1, 6):
        store.fail(work_id, "x", "", 2.0)
    assert [row.task_id for row in store.failures("12.17", 3)] == [5, 4, 3]


def test_the_answer_to_a_task_that_people_labelled_is_not_forgotten(store: Store) -> None:
    """Else nobody could say later how good it was."""
    rows = done(store, 3)
    store.delivered([row.id for row in rows], 5.0)
    store.begin_reading("12.17", 9.0)
    store.save_people("12.17", [LabelledTask(2, 8.0, 1, 0, "{}")], {}, until=9.0, after=3)

    assert store.prune(1_000.0, 100.0) == 2
    assert store.own_answers("12.17", [1, 2, 3]) == {(2, "v1"): ANSWER}

    store.forget_people("12.17")
    assert store.prune(1_000.0, 100.0) == 1


def test_the_rate_counts_what_finished_since_it_was_accepted(store: Store) -> None:
    rows = accepted(store, tasks(64), 100.0)
    for row in rows[:32]:
        store.finish(row.id, ANSWER, None, False, 110.0)
    store.fail(33, "x", "", 110.0)
    assert store.rate(110.0, 60.0) == 3.3, "a first batch that ends at once took its time all the same"
    assert store.rate(133.0, 60.0) == 1.0
    assert store.rate(165.0, 60.0) == 33 / 60
    assert store.rate(170.0, 60.0) == 0.0


def test_the_rate_counts_since_the_first_that_finished_if_more_was_accepted_later(store: Store) -> None:
    done(store, 2, now=10.0)
    done(store, 3, now=100.0, first=10)
    accepted(store, tasks(5, first=20), 104.0)
    store.fail(6, "x", "", 105.0)
    assert store.rate(105.0, 10.0) == 0.8
    accepted(store, tasks(1, "other"), 105.0)
    assert store.rate(108.0, 10.0) == 0.5, "a project that nothing was finished of does not count"


def test_of_less_than_a_second_no_rate_can_be_told(store: Store) -> None:
    done(store, 4, now=100.0)
    assert store.rate(100.1, 10.0) == 4.0


def test_old_delivered_failed_and_cancelled_rows_are_forgotten_with_their_answers(store: Store) -> None:
    rows = done(store, 2)
    store.delivered([rows[0].id], 10.0)
    accepted(store, tasks(3, first=10), 10.0)
    store.fail(3, "x", "", 10.0)
    store.cancel_project("12.17", 10.0)
    assert store.prune(100.0, 91.0) == 0
    assert store.prune(100.0, 89.0) == 4
    (left,) = store.summary()
    assert (left.states, left.num_delivered) == ({WorkState.DONE: 1}, 1)
    assert store.answer(ANSWER.key) == ANSWER
    store.delivered([rows[1].id], 100.0)
    assert store.prune(300.0, 100.0) == 1
    assert (store.answer(ANSWER.key), store.summary(), store.recipe("recipe-1")) == (None, [], None)


def test_what_is_not_over_is_never_forgotten(store: Store) -> None:
    accepted(store, tasks(3))
    store.claim(1, 2.0)
    store.finish(2, ANSWER, None, False, 2.0)
    assert store.prune(1e9, 1.0) == 0
    assert store.summary()[0].num_tasks == 3
    assert store.recipe("recipe-1") is not None


def test_what_a_reply_held_and_nobody_looks_up_is_forgotten_without_counting_as_delivered(store: Store) -> None:
    rows = done(store, 3)
    store.delivered([rows[0].id], 2.0)
    store.returned([rows[1].id], 120.0, 2.0)
    store.returned([rows[2].id], 500.0, 2.0)
    assert store.prune(300.0, 100.0) == 2
    (summary,) = store.summary()
    assert (summary.states, summary.num_delivered) == ({WorkState.RETURNED: 1}, 1)


def test_what_a_push_may_have_lost_is_not_forgotten(store: Store) -> None:
    (row,) = done(store)
    store.take_due("12.17", 1, 60.0, 2.0)
    store.push_failed([row.id], 50.0, "in_doubt", 3.0)
    assert store.prune(1e9, 100.0) == 0


def test_a_row_that_an_open_request_may_return_is_not_forgotten(store: Store) -> None:
    (row,) = done(store)
    store.delivered([row.id], 2.0)
    accepted(store, [task(1)], 1000.0, reply_until=1045.0)
    assert store.prune(1010.0, 100.0) == 0
    assert store.prune(1046.0, 100.0) == 1


def test_pruning_many_rows_goes_in_steps_and_gives_their_pages_back(path: Path) -> None:
    with opened(path) as store:
        rows = done(store, 2_100)
        store.delivered([row.id for row in rows], 2.0)
        assert store.prune(100.0, 10.0) == 2_100
    assert path.stat().st_size < 100 * 4096
