from __future__ import annotations

import math

from backend.store import Store, StoredAnswer, WorkState
from tests.backend.store.given import ANSWER, accepted, done, task, tasks


def test_an_answer_and_its_state_are_stored_together(store: Store) -> None:
    accepted(store, tasks(1))
    (row,) = store.claim(1, 2.0)
    finished = store.finish(row.id, ANSWER, 0.25, True, 3.0)
    assert (finished.state, finished.answer_key, finished.score, finished.needs_review) == (
        WorkState.DONE, ANSWER.key, 0.25, True,
    )  # fmt: skip
    assert store.answer(ANSWER.key) == ANSWER


def test_the_same_picture_shares_one_answer(store: Store) -> None:
    accepted(store, tasks(2))
    first, second = store.claim(2, 2.0)
    store.finish(first.id, ANSWER, 0.5, False, 3.0)
    row = store.finish(second.id, ANSWER, 0.5, False, 3.0)
    assert (row.state, row.answer_key) == (WorkState.DONE, ANSWER.key)


def test_the_first_content_of_a_key_stays(store: Store) -> None:
    done(store)
    accepted(store, [task(2)])
    store.finish(2, StoredAnswer(ANSWER.key, "another"), None, False, 4.0)
    assert store.answer(ANSWER.key) == ANSWER


def test_the_answer_of_a_row_that_was_forgotten_is_kept(store: Store) -> None:
    assert store.finish(77, ANSWER, None, False, 3.0) is None
    assert store.answer(ANSWER.key) == ANSWER
    assert store.summary() == []


def test_news_of_a_row_that_was_forgotten_changes_nothing(store: Store) -> None:
    (row,) = done(store)
    store.fail(77, "image_timeout", "", 3.0)
    store.reply_ended([77], 3.0)
    assert store.returned([77, row.id], 9.0, 3.0) == [row.id]
    assert store.summary()[0].states == {WorkState.RETURNED: 1}


def test_cancelled_work_keeps_its_state_and_the_answer_is_kept(store: Store) -> None:
    accepted(store, tasks(1))
    (row,) = store.claim(1, 2.0)
    store.cancel_project("12.17", 3.0)
    assert store.finish(row.id, ANSWER, 0.5, False, 4.0).state == WorkState.CANCELLED
    assert store.answer(ANSWER.key) == ANSWER
    assert store.due("12.17", 10, 99.0) == []


def test_a_failure_keeps_its_reason_and_only_running_or_queued_work_can_fail(store: Store) -> None:
    (finished,) = done(store)
    accepted(store, [task(2)])
    for work_id in (finished.id, 2):
        store.fail(work_id, "image_corrupt", "坏图", 4.0)
    (failed,) = store.failures("12.17", 10)
    assert (failed.id, failed.reason, failed.message) == (2, "image_corrupt", "坏图")


def test_reasons_and_messages_are_bounded(store: Store) -> None:
    accepted(store, tasks(1))
    store.fail(1, "r" * 10_000, "m" * 10_000, 2.0)
    (failed,) = store.failures("12.17", 1)
    assert (len(failed.reason), len(failed.message)) == (64, 500)


def test_a_score_that_is_no_number_is_none(store: Store) -> None:
    accepted(store, tasks(1))
    assert store.finish(1, ANSWER, math.nan, False, 2.0).score is None


def test_answers_are_found_by_many_keys_even_odd_ones(store: Store) -> None:
    accepted(store, tasks(2))
    odd = StoredAnswer("key\ud800", "text \udc00")
    store.finish(1, ANSWER, None, False, 2.0)
    store.finish(2, odd, None, False, 2.0)
    found = store.answers([ANSWER.key, "missing", odd.key])
    assert set(found) == {ANSWER.key, odd.key}
    assert found[odd.key].content == "text \ufffd"


def test_failed_work_of_one_project_can_be_retried(store: Store) -> None:
    accepted(store, [*tasks(2, "a"), *tasks(1, "b")])
    for row in store.claim(3, 2.0):
        store.fail(row.id, "engine_dead", "", 3.0)
    assert store.retry_failed("a", 4.0) == 2
    assert store.retry_failed("a", 4.0) == 0
    assert [(row.project, row.attempts) for row in store.claim(9, 5.0)] == [("a", 1), ("a", 1)]


def test_what_failed_in_its_delivery_is_delivered_again_and_not_computed_again(store: Store) -> None:
    first, second = done(store, 2)
    store.take_due("12.17", 1, 60.0, 2.0)
    store.push_failed([first.id], 5.0, "unsent", 3.0, sent=False)
    store.drop([first.id, second.id], "config_changed", "The label config was changed.", 4.0)
    assert store.retry_failed("12.17", 5.0) == 2
    assert store.claim(9, 6.0) == []
    due = store.due("12.17", 9, 6.0)
    assert [(row.id, row.answer_key, row.score, row.reason) for row in due] == [
        (first.id, ANSWER.key, 0.9, ""),
        (second.id, ANSWER.key, 0.9, ""),
    ]
    assert [(row.told, row.push_attempts) for row in due] == [(True, 0), (False, 0)]


def test_a_task_without_answer_and_picture_stays_failed(store: Store) -> None:
    accepted(store, [task(1, url=None), task(2)])
    for row in store.claim(2, 2.0):
        store.fail(row.id, "image_missing", "The task's data has no picture.", 3.0)
    assert store.retry_failed("12.17", 4.0) == 1
    (failed,) = store.failures("12.17", 9)
    assert (failed.task_id, failed.reason) == (1, "image_missing")


def test_cancelling_stops_what_is_not_computed_and_nothing_else(store: Store) -> None:
    (finished,) = done(store)
    accepted(store, [*tasks(5), *tasks(2, "other")])
    store.claim(2, 2.0)
    assert store.cancel_project("12.17", 3.0) == 4
    assert [row.id for row in store.due("12.17", 9, 9.0)] == [finished.id]
    assert store.cancel_project("other", 4.0) == 2
    assert store.cancel_project("unknown", 4.0) == 0
