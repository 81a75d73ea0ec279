"""A project's label config, its options or the model changed: what is not in Label Studio yet is answered anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from backend.store import Store, Work, WorkState
from tests.backend.store.given import ANSWER, RECIPE, accepted, done, states, task, tasks

P = RECIPE.project
NEW = replace(RECIPE, fingerprint="recipe-2", label_config="<View>2</View>")


def change(store: Store, version: str = "v2", now: float = 50.0) -> int | None:
    return store.set_present(NEW, version, now)


def claimed(store: Store, num: int = 1) -> list[Work]:
    return store.claim(num, 2.0)


def failed(store: Store, reason: str) -> None:
    store.fail(claimed(store)[0].id, reason, "why", 3.0)


def dropped(store: Store, reason: str) -> None:
    store.finish(claimed(store)[0].id, ANSWER, 0.9, True, 3.0)
    store.drop([1], reason, "why", 4.0)


def returned(store: Store) -> None:
    store.finish(claimed(store)[0].id, ANSWER, 0.9, True, 3.0)
    store.returned([1], 9.0, 4.0)


def delivered(store: Store) -> None:
    returned(store)
    store.delivered([1], 5.0)


def pushing(store: Store) -> None:
    store.finish(claimed(store)[0].id, ANSWER, 0.9, True, 3.0)
    store.take_due(P, 9, 500.0, 4.0)


QUEUED, FAILED = {WorkState.QUEUED: 1}, {WorkState.FAILED: 1}
CASES: dict[str, tuple[Callable[[Store], object], dict[WorkState, int], int]] = {
    "queued": (lambda store: None, QUEUED, 0),
    "running": (lambda store: claimed(store), QUEUED, 0),
    "answered and not delivered": (lambda store: done(store), QUEUED, 0),
    "failed by its picture": (lambda store: failed(store, "image_timeout"), FAILED, 0),
    "failed by the model that changed": (lambda store: failed(store, "model_changed"), QUEUED, 0),
    "dropped for its label config": (lambda store: dropped(store, "config_changed"), QUEUED, 0),
    "rejected by Label Studio": (lambda store: dropped(store, "rejected"), QUEUED, 0),
    "dropped with its task": (lambda store: dropped(store, "task_deleted"), {}, 0),
    "cancelled": (lambda store: store.cancel_project(P, 3.0), {}, 0),
    "in a reply": (returned, {}, 1),
    "in Label Studio": (delivered, {}, 1),
    "on its way there": (pushing, {}, 0),
}


@pytest.mark.parametrize(("before", "after", "num_older"), CASES.values(), ids=CASES)
def test_what_is_not_in_label_studio_moves_and_the_rest_stays_uncounted(
    store: Store, before: Callable[[Store], object], after: dict[WorkState, int], num_older: int
) -> None:
    accepted(store, tasks(1))
    before(store)
    assert change(store) == sum(after.values())
    [summary] = store.summary()
    assert (summary.states, summary.num_older, summary.model_version) == (after, num_older, "v2")
    assert summary.num_needs_review == 0, "what an earlier version doubted is no news of this one"
    for row in store.claim(9, 60.0):
        assert (row.model_version, row.recipe, row.image_url, row.answer_key) == (
            "v2",
            "recipe-2",
            task(1).image_url,
            None,
        )
        assert row.told, "Label Studio may have that version of it: it is looked up before it is pushed"
    assert change(store) is None, "once more, nothing"


def test_a_task_asked_again_under_the_new_version_is_one_task(store: Store) -> None:
    accepted(store, tasks(1_000))
    for row in claimed(store, 200):
        store.finish(row.id, ANSWER, 0.9, False, 3.0)
    store.returned(range(1, 201), 9.0, 4.0)
    change(store)
    assert states(store) == {WorkState.QUEUED: 800}
    accepted(store, [replace(one, model_version="v2", recipe="recipe-2") for one in tasks(1_000)], 60.0)
    [summary] = store.summary()
    assert (summary.states, summary.num_older) == ({WorkState.QUEUED: 1_000}, 200)


def test_a_failure_under_the_new_version_is_retried_under_it(store: Store) -> None:
    accepted(store, tasks(1))
    failed(store, "image_timeout")
    change(store)
    assert store.failures(P, 9)[0].message == "why"
    assert store.retry_failed(P, 60.0) == 1
    assert [row.model_version for row in store.claim(9, 61.0)] == ["v2"]


def test_a_job_and_a_reply_of_the_earlier_version_end_in_nothing(store: Store) -> None:
    accepted(store, tasks(2), reply_until=45.0)
    running, _ = claimed(store, 2)
    store.finish(running.id, ANSWER, 0.9, False, 3.0)
    change(store)
    assert store.returned([1, 2], 99.0, 60.0) == [], "its answer is of the earlier version"
    late = store.finish(2, ANSWER, 0.9, False, 60.0)
    assert late is None or late.state is WorkState.CANCELLED
    store.reply_ended([1, 2], 61.0)
    assert states(store) == {WorkState.QUEUED: 2}


def test_going_back_finds_what_label_studio_has(store: Store) -> None:
    accepted(store, tasks(3))
    for row in claimed(store, 2):
        store.finish(row.id, ANSWER, 0.9, False, 3.0)
    store.delivered([1], 5.0)
    store.fail(claimed(store)[0].id, "image_timeout", "", 5.0)
    change(store)
    accepted(store, [replace(task(number), model_version="v2", recipe="recipe-2") for number in (1, 2, 3)], 60.0)
    store.set_present(RECIPE, "v1", 70.0)
    assert states(store) == {WorkState.DELIVERED: 1, WorkState.QUEUED: 2}, "what was asked for since is not given up"


def test_going_back_with_another_picture_answers_that_one(store: Store) -> None:
    (row,) = done(store)
    store.delivered([row.id], 5.0)
    change(store)
    accepted(store, [replace(task(1, url="https://pictures/other"), model_version="v2", recipe="recipe-2")], 60.0)
    store.set_present(RECIPE, "v1", 70.0)
    assert [row.image_url for row in store.claim(9, 71.0)] == ["https://pictures/other"]


def test_the_id_of_a_row_that_moved_is_not_given_to_another(store: Store) -> None:
    done(store, 3)
    old = [row.id for row in accepted(store, tasks(3, first=10))]
    change(store)
    store.set_present(RECIPE, "v1", 60.0)
    assert not set(old) & {row.id for row in accepted(store, tasks(30, first=20), 70.0)}


def test_what_was_set_later_is_not_set_back_by_a_request_from_before(store: Store) -> None:
    accepted(store, tasks(1))
    change(store, now=50.0)
    accepted(store, tasks(2), 49.0)
    store.set_present(RECIPE, "v1", 49.0)
    assert store.present(P) == ("v2", NEW)
    assert {row.model_version for row in store.claim(9, 60.0)} == {"v2"}


def test_what_is_asked_for_under_an_earlier_version_says_that_it_waits_elsewhere(store: Store) -> None:
    accepted(store, tasks(1))
    change(store)
    [late] = accepted(store, tasks(1, first=7))
    [there] = accepted(store, [replace(one, model_version="v2") for one in tasks(1)])
    assert (late.state, there.state) == (WorkState.CANCELLED, WorkState.QUEUED)
    assert {(row.task_id, row.model_version) for row in store.claim(9, 60.0)} == {(1, "v2"), (7, "v2")}


def test_where_no_project_is_named_every_config_stands_for_itself(store: Store) -> None:
    accepted(store, [task(1, "", "v1"), task(1, "", "v2")])
    assert store.set_present(replace(NEW, project=""), "v2", 50.0) is None
    assert states(store) == {WorkState.QUEUED: 2}


def test_another_project_keeps_its_version(store: Store) -> None:
    accepted(store, [*tasks(2), *tasks(2, "13.5")])
    change(store)
    assert {(row.project, row.model_version) for row in store.claim(9, 60.0)} == {(P, "v2"), ("13.5", "v1")}


def test_a_start_goes_on_with_a_move_that_was_cut(store: Store) -> None:
    accepted(store, tasks(2))
    change(store)
    accepted(store, tasks(3), 40.0)
    store.recover(70.0)
    assert states(store) == {WorkState.QUEUED: 3}
    assert {row.model_version for row in store.claim(9, 71.0)} == {"v2"}


def test_earlier_versions_are_forgotten_when_label_studio_has_no_predictions_of_them(store: Store) -> None:
    accepted(store, tasks(3))
    for row in claimed(store, 2):
        store.finish(row.id, ANSWER, 0.9, False, 3.0)
    store.delivered([1, 2], 5.0)
    change(store)
    assert store.forget_older(P) == 2
    [summary] = store.summary()
    assert (summary.states, summary.num_older, summary.num_delivered) == ({WorkState.QUEUED: 1}, 0, 0)


def test_what_was_pruned_of_an_earlier_version_is_not_counted(store: Store) -> None:
    accepted(store, tasks(3))
    for row in claimed(store, 2):
        store.finish(row.id, ANSWER, 0.9, False, 3.0)
    store.delivered([1], 5.0)
    assert store.prune(100.0, 90.0) == 1
    assert store.summary()[0].num_delivered == 1
    store.delivered([2], 95.0)
    change(store)
    assert store.prune(200.0, 90.0) == 1
    assert store.summary()[0].num_delivered == 0


def test_the_label_config_of_a_project_that_was_never_asked_for_any_task_is_not_kept(store: Store) -> None:
    assert change(store) is None
    assert store.recipe(NEW.fingerprint) is None
    accepted(store, tasks(1))
    assert change(store) == 1
    assert store.recipe(NEW.fingerprint) == NEW
