from __future__ import annotations

from backend.store import Store, Work, WorkState
from tests.backend.store.given import ANSWER, accepted, done, task, tasks

P = "12.17"


def ids(rows: list[Work]) -> list[int]:
    return [row.id for row in rows]


def test_nothing_is_due_while_a_request_may_still_return_it(store: Store) -> None:
    (row,) = done(store, reply_until=45.0)
    assert (store.due(P, 9, 44.0), store.projects_due(44.0)) == ([], [])
    assert (ids(store.due(P, 9, 45.0)), store.projects_due(45.0)) == ([row.id], [P])


def test_the_end_of_the_request_makes_it_due_at_once(store: Store) -> None:
    rows = done(store, 2, reply_until=45.0)
    store.reply_ended(ids(rows), 10.0)
    assert ids(store.due(P, 9, 10.0)) == ids(rows)


def test_work_that_finishes_after_the_request_is_due_at_once(store: Store) -> None:
    (row,) = accepted(store, tasks(1), reply_until=45.0)
    store.reply_ended([row.id], 10.0)
    store.finish(row.id, ANSWER, None, False, 20.0)
    assert ids(store.take_due(P, 9, 60.0, 20.0)) == [row.id]


def test_two_open_requests_protect_it_until_both_are_over(store: Store) -> None:
    (row,) = done(store, reply_until=45.0)
    accepted(store, [task(1)], 5.0, reply_until=50.0)
    store.reply_ended([row.id], 10.0)
    assert store.due(P, 9, 44.0) == []
    store.reply_ended([row.id], 11.0)
    assert ids(store.due(P, 9, 11.0)) == [row.id]


def test_a_request_that_never_ends_protects_only_until_its_time(store: Store) -> None:
    (row,) = done(store, reply_until=45.0)
    assert ids(store.due(P, 9, 46.0)) == [row.id]


def test_what_a_reply_held_is_looked_up_later(store: Store) -> None:
    first, second = done(store, 2, reply_until=45.0)
    assert store.returned([first.id], 120.0, 10.0, chosen_at=1.0) == [first.id]
    store.reply_ended([first.id, second.id], 10.0)
    assert ids(store.due(P, 9, 119.0)) == [second.id]
    store.delivered([second.id], 50.0)
    (row,) = store.take_due(P, 9, 150.0, 120.0)
    assert (row.id, row.state) == (first.id, WorkState.RETURNED)


def test_what_is_not_computed_cannot_be_in_a_reply(store: Store) -> None:
    rows = accepted(store, tasks(2), reply_until=45.0)
    store.fail(rows[1].id, "x", "", 2.0)
    assert store.returned(ids(rows), 120.0, 10.0) == []


def test_a_delivered_answer_can_be_returned_again(store: Store) -> None:
    (row,) = done(store)
    store.delivered([row.id], 2.0)
    accepted(store, [task(1)], 100.0, reply_until=145.0)
    assert store.returned([row.id], 220.0, 110.0, chosen_at=100.0) == [row.id]


def test_what_is_being_pushed_is_in_no_reply(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 60.0, 10.0)
    accepted(store, [task(1)], 11.0, reply_until=56.0)
    assert store.returned([row.id], 120.0, 12.0, chosen_at=11.0) == []


def test_what_was_delivered_after_the_request_came_is_not_in_its_reply(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 60.0, 10.0)
    accepted(store, [task(1)], 11.0, reply_until=56.0)
    store.delivered([row.id], 12.0)
    assert store.returned([row.id], 120.0, 13.0, chosen_at=11.0) == []


def test_what_may_have_arrived_after_the_request_came_is_not_in_its_reply(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 60.0, 10.0)
    accepted(store, [task(1)], 11.0, reply_until=56.0)
    store.push_failed([row.id], 50.0, "no_reply", 12.0)
    assert store.returned([row.id], 120.0, 13.0, chosen_at=11.0) == []


def test_of_two_requests_at_once_only_one_reply_holds_it(store: Store) -> None:
    (row,) = done(store, now=1.0, reply_until=45.0)
    accepted(store, [task(1)], 2.0, reply_until=46.0)
    assert store.returned([row.id], 120.0, 3.0, chosen_at=1.0) == [row.id]
    assert store.returned([row.id], 120.0, 4.0, chosen_at=2.0) == []


def test_a_row_is_taken_by_one_push_at_a_time(store: Store) -> None:
    rows = done(store, 3)
    assert ids(store.take_due(P, 2, 60.0, 10.0)) == ids(rows[:2])
    assert ids(store.take_due(P, 9, 60.0, 10.0)) == ids(rows[2:])
    assert store.take_due(P, 9, 90.0, 59.0) == []


def test_a_push_that_never_ends_is_looked_up_before_it_is_repeated(store: Store) -> None:
    (row,) = done(store)
    assert store.take_due(P, 9, 60.0, 10.0)[0].state == WorkState.DONE
    (again,) = store.take_due(P, 9, 99.0, 60.0)
    assert (again.id, again.state) == (row.id, WorkState.RETURNED)


def test_a_push_cut_by_a_restart_is_looked_up_at_once(store: Store) -> None:
    done(store)
    store.take_due(P, 9, 600.0, 10.0)
    store.recover(20.0)
    assert [row.state for row in store.take_due(P, 9, 600.0, 20.0)] == [WorkState.RETURNED]


def test_a_restart_ends_all_requests(store: Store) -> None:
    done(store, reply_until=45.0)
    store.recover(20.0)
    assert len(store.due(P, 9, 20.0)) == 1


def test_a_clock_that_was_set_back_by_days_keeps_nothing_waiting_after_a_restart(store: Store) -> None:
    year = 365 * 86_400.0
    rows = done(store, 3, now=year)
    store.returned([rows[0].id], year + 120.0, year)
    store.take_due(P, 1, year + 60.0, year)
    store.push_failed([rows[1].id], year + 60.0, "label_studio_down", year)
    accepted(store, [task(3)], year, reply_until=year + 60.0)
    assert store.due(P, 9, 100.0) == []
    store.recover(100.0)
    assert ids(store.due(P, 9, 100.0)) == ids(rows)
    accepted(store, [task(1)], 101.0, reply_until=160.0)
    assert store.returned([rows[0].id], 220.0, 102.0, chosen_at=101.0) == [rows[0].id]


def test_what_waits_for_less_than_a_day_goes_on_waiting_after_a_restart(store: Store) -> None:
    first, second = done(store, 2)
    store.returned([first.id], 120.0, 10.0)
    store.take_due(P, 1, 60.0, 10.0)
    store.push_failed([second.id], 610.0, "label_studio_down", 11.0)
    store.recover(20.0)
    assert (store.due(P, 9, 119.0), ids(store.due(P, 9, 609.0))) == ([], [first.id])


def test_a_failed_push_waits_counts_and_is_looked_up_first(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 60.0, 10.0)
    store.push_failed([row.id], 100.0, "label_studio_down", 11.0)
    assert store.due(P, 9, 99.0) == []
    (again,) = store.due(P, 9, 100.0)
    assert (again.state, again.push_attempts, again.reason) == (WorkState.RETURNED, 1, "label_studio_down")


def test_a_push_that_was_never_sent_needs_no_look(store: Store) -> None:
    first, second = done(store, 2)
    store.returned([second.id], 5.0, 5.0)
    store.take_due(P, 9, 60.0, 10.0)
    store.push_failed([first.id, second.id], 100.0, "connect", 11.0, sent=False)
    assert [row.state for row in store.due(P, 9, 100.0)] == [WorkState.DONE, WorkState.RETURNED]


def test_delivered_work_is_never_due_again(store: Store) -> None:
    (row,) = done(store)
    store.take_due(P, 9, 60.0, 10.0)
    store.delivered([row.id], 11.0)
    store.push_failed([row.id], 12.0, "late news", 12.0)
    store.drop([row.id], "late news", "", 12.0)
    assert (store.due(P, 9, 1e9), store.failures(P, 9)) == ([], [])


def test_the_address_of_the_picture_is_forgotten_once_it_is_delivered(store: Store) -> None:
    (row,) = done(store)
    assert row.image_url
    store.delivered([row.id], 2.0)
    assert accepted(store, [task(1)], 3.0)[0].image_url is None


def test_dropped_work_has_failed_with_its_reason(store: Store) -> None:
    (row,) = done(store)
    store.drop([row.id], "rejected", "Label Studio left it out.", 3.0)
    (failed,) = store.failures(P, 9)
    assert (failed.state, failed.reason) == (WorkState.FAILED, "rejected")
    assert store.due(P, 9, 1e9) == []


def test_due_work_comes_oldest_first_and_by_project(store: Store) -> None:
    accepted(store, [*tasks(3), *tasks(1, "other")])
    for work_id in (3, 4, 2, 1):
        store.finish(work_id, ANSWER, None, False, 2.0)
    assert ids(store.due(P, 2, 9.0)) == [1, 2]
    assert store.projects_due(9.0) == [P, "other"]
    assert store.due("unknown", 9, 9.0) == []
