"""A task whose picture was changed, which shows as another address, does not get the answer to the earlier one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from backend.store import Store, StoredAnswer, Work, WorkState
from tests.backend.store.given import ANSWER, RECIPE, accepted, done, opened, states, task

NEW = "https://pictures/new"
OTHER = StoredAnswer("picture-2:v1", '{"result": []}')
P = "12.17"


def changed(store: Store, now: float, reply_until: float = 0.0) -> Work:
    (row,) = accepted(store, [task(1, url=NEW)], now, reply_until=reply_until)
    return row


@pytest.mark.parametrize("state", ["done", "returned", "delivered"])
def test_it_is_computed_again_from_any_state(store: Store, state: str) -> None:
    (row,) = done(store)
    if state == "returned":
        store.returned([row.id], 5.0, 2.0)
    elif state == "delivered":
        store.delivered([row.id], 2.0)
    again = changed(store, 10.0)
    assert (again.id, again.state, again.answer_key, again.image_url) == (row.id, "queued", None, NEW)
    assert (again.attempts, again.told) == (0, state != "done")
    (claimed,) = store.claim(9, 11.0)
    finished = store.finish(row.id, OTHER, 0.5, False, 12.0, image_hash=claimed.image_hash)
    assert finished is not None
    assert (finished.state, finished.answer_key) == (WorkState.DONE, OTHER.key)


def test_the_same_address_changes_nothing_although_it_is_forgotten(store: Store) -> None:
    (row,) = done(store)
    store.delivered([row.id], 2.0)
    (again,) = accepted(store, [task(1)], 3.0)
    assert (again.state, again.answer_key, again.image_url) == (WorkState.DELIVERED, ANSWER.key, None)
    assert changed(store, 4.0).state == WorkState.QUEUED


def test_only_a_hash_of_the_address_is_kept_once_it_is_over(tmp_path: Path) -> None:
    with opened(tmp_path / "prelabel.db") as store:
        (row,) = done(store)
        store.delivered([row.id], 2.0)
        [kept] = accepted(store, [task(1)], 3.0)
        assert (len(kept.image_hash), kept.image_url) == (16, None)
    assert b"https://pictures" not in (tmp_path / "prelabel.db").read_bytes()


@pytest.mark.parametrize("how", ["finish", "fail"])
def test_a_job_of_the_earlier_picture_settles_nothing(store: Store, how: str) -> None:
    accepted(store, [task(1), task(2)])
    old = store.claim(2, 2.0)[0]
    store.finish(2, ANSWER, None, False, 2.0)
    assert changed(store, 3.0).state == WorkState.RUNNING
    if how == "finish":
        row = store.finish(old.id, OTHER, None, False, 4.0, image_hash=old.image_hash)
    else:
        row = store.fail(old.id, "image_not_found", "", 4.0, image_hash=old.image_hash)
    assert row is not None
    assert (row.state, row.attempts, row.answer_key, row.reason) == (WorkState.QUEUED, 0, None, "")
    (new,) = store.claim(9, 5.0)
    assert (new.image_url, new.attempts, new.image_hash != old.image_hash) == (NEW, 1, True)
    row = store.finish(new.id, OTHER, None, False, 6.0, image_hash=new.image_hash)
    assert row is not None
    assert row.state == WorkState.DONE


def test_a_late_job_of_the_earlier_picture_leaves_a_settled_row_alone(store: Store) -> None:
    accepted(store, [task(1)])
    (old,) = store.claim(1, 2.0)
    store.cancel_project(P, 3.0)
    changed(store, 4.0)
    (new,) = store.claim(1, 5.0)
    store.finish(new.id, OTHER, None, False, 6.0, image_hash=new.image_hash)
    row = store.finish(old.id, ANSWER, None, False, 7.0, image_hash=old.image_hash)
    assert row is not None
    assert (row.state, row.answer_key) == (WorkState.DONE, OTHER.key)
    assert store.answer(ANSWER.key) == ANSWER, "another task may show that picture"


@pytest.mark.parametrize("end", ["delivered", "push_failed"])
def test_a_push_of_the_earlier_answer_keeps_its_effect(store: Store, end: str) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 600.0, 2.0)
    changed(store, 3.0, reply_until=50.0)
    (claimed,) = store.claim(1, 4.0)
    store.finish(row.id, OTHER, None, False, 5.0, image_hash=claimed.image_hash)
    assert store.returned([row.id], 200.0, 6.0, chosen_at=3.0) == [], "the push may be arriving"
    if end == "delivered":
        store.delivered([row.id], 7.0)
        assert states(store) == {WorkState.DELIVERED: 1}
    else:
        store.push_failed([row.id], 60.0, "in_doubt", 7.0)
        assert [work.state for work in store.due(P, 9, 60.0)] == [WorkState.RETURNED]


@pytest.mark.parametrize("sent", [True, False], ids=["perhaps sent", "not sent"])
def test_a_push_that_fails_while_the_new_picture_waits_is_waited_for_all_the_same(store: Store, sent: bool) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 600.0, 2.0)
    changed(store, 3.0)
    store.push_failed([row.id], 60.0, "in_doubt", 7.0, sent=sent)
    (claimed,) = store.claim(1, 8.0)
    assert (claimed.reason, claimed.told) == ("", True)
    store.finish(row.id, OTHER, None, False, 9.0, image_hash=claimed.image_hash)
    assert (store.due(P, 9, 59.0), len(store.due(P, 9, 60.0))) == ([], 1)


def test_a_push_that_ends_well_while_the_new_picture_waits_is_noted(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 600.0, 2.0)
    changed(store, 3.0, reply_until=50.0)
    store.delivered([row.id], 4.0)
    store.finish(row.id, OTHER, None, False, 5.0)
    assert store.returned([row.id], 200.0, 6.0, chosen_at=3.0) == [], "it was told after this request came"
    store.reply_ended([row.id], 7.0)
    assert [work.told for work in store.due(P, 9, 8.0)] == [True]


def test_what_an_earlier_reply_may_still_bring_is_waited_for(store: Store) -> None:
    (row,) = done(store)
    store.returned([row.id], 120.0, 2.0)
    changed(store, 3.0)
    store.finish(row.id, OTHER, None, False, 4.0)
    assert (store.due(P, 9, 119.0), len(store.due(P, 9, 120.0))) == ([], 1)


def test_rows_of_the_first_schema_have_any_picture_until_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "prelabel.db"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8"))
    connection.close()
    with Store.open(path, 0.0) as store:
        store.save_recipe(RECIPE, 0.0)
        (row,) = store.due(P, 9, 99.0)
        assert row.image_hash == ""
        assert changed(store, 100.0).state == WorkState.DONE
        assert accepted(store, [task(1, url=NEW)], 101.0)[0].state == WorkState.DONE
        assert accepted(store, [task(1, url="https://pictures/newer")], 102.0)[0].state == WorkState.QUEUED
        (queued,) = [work for work in store.claim(9, 103.0) if work.task_id == 3]
        finished = store.finish(queued.id, OTHER, None, False, 104.0, image_hash=queued.image_hash)
        assert finished is not None
        assert finished.state == WorkState.DONE
