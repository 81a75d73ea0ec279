"""Writes that share a transaction: each is whole or not at all, and none is called done before it is on the disk."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from backend.errors import StoreError, StoreFull
from backend.store import NewWork, Store, StoredAnswer, WorkState, faults
from backend.store.calls import StoreCalls
from backend.store.store import Ended
from tests.backend.store.given import accepted, opened, task, tasks
from tests.limits import eventually


def finishing(store: Store, work_id: int, size: int = 10) -> Callable[[], object]:
    answer = StoredAnswer(f"picture-{work_id}:v1", "x" * size)
    return partial(store.finish, work_id, answer, 0.9, False, 2.0)


def commits(calls: Callable[[], object]) -> int:
    """How many transactions `calls` commits."""
    points: list[str] = []
    faults.install(points.append)
    try:
        calls()
    finally:
        faults.install(None)
    return points.count("after_commit")


def test_they_are_one_transaction_and_each_has_its_result(store: Store) -> None:
    rows = accepted(store, tasks(20))
    ended: list[Ended] = []
    calls = [finishing(store, row.id) for row in rows]
    assert commits(lambda: ended.extend(store.together(calls))) == 1
    assert [one.error for one in ended] == [None] * 20
    assert store.summary()[0].states == {WorkState.DONE: 20}


def test_reads_alone_begin_no_transaction(store: Store) -> None:
    assert commits(lambda: store.together([partial(store.answer, "none"), store.summary])) == 0


def test_one_that_raises_changes_nothing_and_costs_the_others_nothing(store: Store) -> None:
    first, second, _ = accepted(store, tasks(3))
    unknown = [task(7), NewWork("12.17", 8, "v1", "a recipe that was never saved", None)]
    half_a_write = partial(store.accept, unknown, interactive=False, reply_until=0.0, now=2.0)
    ended = store.together([finishing(store, first.id), half_a_write, finishing(store, second.id)])
    assert [type(one.error) for one in ended] == [type(None), ValueError, type(None)]
    assert store.summary()[0].states == {WorkState.DONE: 2, WorkState.QUEUED: 1}


def test_when_the_transaction_is_lost_none_that_wrote_is_said_to_be_done(tmp_path: Path) -> None:
    with opened(tmp_path / "prelabel.db") as store:
        rows = accepted(store, tasks(30))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            calls = [*(finishing(store, row.id, 50_000) for row in rows), store.summary]
            *wrote, read = store.together(calls)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert {type(one.error) for one in wrote} == {StoreFull}
        assert read.error is None
        assert store.summary()[0].states == {WorkState.QUEUED: 30}
        assert all(one.error is None for one in store.together(calls))


def test_a_closed_store_says_so_to_each(tmp_path: Path) -> None:
    store = opened(tmp_path / "prelabel.db")
    rows = accepted(store, tasks(2))
    store.close()
    ended = store.together([finishing(store, row.id) for row in rows])
    assert all(isinstance(one.error, StoreError) for one in ended)


class Held:
    """A store that does short calls when it is let."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def together(self, calls: Sequence[Callable[[], object]]) -> list[Ended]:
        self.sizes.append(len(calls))
        self.go.wait()
        return [Ended(call()) for call in calls]


def test_what_comes_during_a_transaction_is_the_next_one() -> None:
    held = Held()

    async def go() -> list[int]:
        calls = StoreCalls(held)
        first = asyncio.create_task(calls.short(lambda: 0))
        await eventually(lambda: held.sizes == [1], "the first")
        rest = [asyncio.create_task(calls.short(partial(int, number))) for number in range(1, 100)]
        await asyncio.sleep(0)
        held.go.set()
        return [await one for one in (first, *rest)]

    assert asyncio.run(go()) == list(range(100))
    assert held.sizes == [1, 64, 35]


def test_nobody_waits_for_ever_and_a_cancelled_one_is_left_out() -> None:
    held = Held()
    done: list[str] = []

    async def go() -> None:
        calls = StoreCalls(held)
        first = asyncio.create_task(calls.short(lambda: done.append("first")))
        await eventually(lambda: held.sizes == [1], "the first")
        second = asyncio.create_task(calls.short(lambda: done.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        held.go.set()
        await first

    asyncio.run(go())
    assert done == ["first"]


def test_a_store_that_fails_as_a_whole_is_heard_by_each() -> None:
    class Broken:
        def together(self, calls: Sequence[Callable[[], object]]) -> list[Ended]:
            raise StoreError("gone")

    async def go() -> list[object]:
        calls = StoreCalls(Broken())
        return list(await asyncio.gather(*(calls.short(lambda: 0) for _ in range(3)), return_exceptions=True))

    assert [type(error) for error in asyncio.run(go())] == [StoreError] * 3
