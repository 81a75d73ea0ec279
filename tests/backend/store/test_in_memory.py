"""The store in memory: one connection for all threads, and nothing is left of a request that is over."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backend.store import Store, WorkState
from tests.backend.store.given import ANSWER, RECIPE, accepted, states, task, tasks


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.in_memory() as store:
        store.save_recipe(RECIPE, 0.0)
        yield store


def test_many_threads_read_and_write_and_each_write_counts(store: Store) -> None:
    def work(number: int) -> int:
        [row] = accepted(store, [task(number)])
        store.claim(1, 2.0)
        store.finish(row.id, ANSWER, 0.9, False, 2.0)
        assert store.answer(ANSWER.key) == ANSWER
        return store.summary()[0].num_tasks

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(work, range(100))) == 100
    assert sum(states(store).values()) == 100


def test_calls_that_share_a_transaction_may_read_in_it(store: Store) -> None:
    [row] = accepted(store, [task(1)])
    ended = store.together([
        lambda: store.finish(row.id, ANSWER, 0.9, False, 2.0),
        lambda: store.answer(ANSWER.key),
        lambda: store.recipe("unknown"),
    ])  # fmt: skip
    assert [one.error for one in ended] == [None, None, None]
    assert ended[1].result == ANSWER


def test_nothing_but_the_newest_row_is_left_of_requests_that_are_over(store: Store) -> None:
    ids: set[int] = set()
    for number in range(5):
        rows = accepted(store, tasks(10, first=10 * number))
        store.claim(3, 2.0)
        store.finish(rows[0].id, ANSWER, 0.9, False, 2.0)
        store.fail(rows[1].id, "image_not_found", "", 2.0)
        store.abandon([row.id for row in rows], 3.0)
        assert states(store) == {WorkState.CANCELLED: 1}
        assert store.answer(ANSWER.key) is None
        assert not ids & {row.id for row in rows}, (
            "an id is given again, and a job that still ends would hit the wrong row"
        )
        ids |= {row.id for row in rows}
    assert store.claim(9, 4.0) == []


def test_a_request_that_is_over_takes_nothing_from_another(store: Store) -> None:
    one, other = accepted(store, tasks(3)), accepted(store, tasks(3, first=100))
    for row in store.claim(9, 2.0):
        store.finish(row.id, ANSWER, 0.9, False, 2.0)
    store.abandon([row.id for row in one], 3.0)
    assert states(store) == {WorkState.DONE: 3}
    assert store.returned([row.id for row in other], 9.0, 4.0) == [row.id for row in other]
    assert store.answer(ANSWER.key) == ANSWER


def test_a_job_that_ends_after_its_request_changes_nothing(store: Store) -> None:
    rows = accepted(store, tasks(2))
    store.claim(2, 2.0)
    store.abandon([row.id for row in rows], 3.0)
    assert store.finish(rows[0].id, ANSWER, 0.9, False, 4.0) is None
    newest = store.finish(rows[1].id, ANSWER, 0.9, False, 4.0)
    assert newest
    assert newest.state is WorkState.CANCELLED


def test_recipes_nobody_needs_are_forgotten_by_pruning(store: Store) -> None:
    rows = accepted(store, tasks(2))
    store.abandon([row.id for row in rows], 3.0)
    assert store.prune(100.0, 50.0) == 1
    assert (store.recipe(RECIPE.fingerprint), store.summary()) == (None, [])
