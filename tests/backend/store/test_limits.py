from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import StoreBusy, StoreFull
from backend.store import Store, StoredAnswer, WorkState
from backend.store.database import MAX_READERS
from tests.backend.store.connections import Connections
from tests.backend.store.given import ANSWER, QUICK, accepted, done, opened, states, task, tasks
from tests.limits import WAIT_S

IMPATIENT = replace(QUICK, busy_timeout_s=0.05)


def test_on_a_full_disk_nothing_is_half_written_and_it_goes_on_when_there_is_space(path: Path) -> None:
    connections = Connections()
    with opened(path, options=replace(QUICK, connect=connections)) as store:
        rows = done(store, 2)
        accepted(store, [task(3)])
        with connections.full_disk():
            with pytest.raises(StoreFull, match="Free some space"):
                accepted(store, tasks(200))
            with pytest.raises(StoreFull):
                store.finish(3, StoredAnswer("long", "x" * 50_000), None, False, 2.0)
            assert [row.id for row in store.due("12.17", 9, 9.0)] == [row.id for row in rows]
            assert store.answer("long") is None
            assert states(store) == {WorkState.DONE: 2, WorkState.QUEUED: 1}
        assert len(accepted(store, tasks(200))) == 200
        assert store.finish(3, StoredAnswer("long", "x" * 50_000), None, False, 2.0).state == WorkState.DONE


def test_a_file_that_may_not_grow_is_a_full_disk(path: Path) -> None:
    with opened(path) as store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, hard))
        try:
            with pytest.raises(StoreFull):
                accepted(store, tasks(500))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.summary() == []
        assert len(accepted(store, tasks(500))) == 500


def test_a_lock_held_by_another_program_is_an_error_after_a_while_and_passes(path: Path) -> None:
    with opened(path, options=IMPATIENT) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        accepted(store, tasks(2))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another program"):
            store.claim(1, 2.0)
        assert states(store) == {WorkState.QUEUED: 2}  # reading goes on
        other.execute("ROLLBACK")
        assert len(store.claim(2, 2.0)) == 2


def test_a_file_locked_at_the_start_is_busy_and_not_damaged(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy):
            Store.open(path, 0.0, IMPATIENT)
    with Store.open(path, 0.0) as store:
        assert store.set_aside is None


def test_a_write_waits_for_another_one_only_so_long(path: Path) -> None:
    with opened(path, options=IMPATIENT) as store:

        def a_long_write() -> Iterator[StoredAnswer]:
            with pytest.raises(StoreBusy, match="long write"):
                store.claim(1, 2.0)
            yield ANSWER

        store.save_answers(a_long_write(), 1.0)
        assert store.answer(ANSWER.key) == ANSWER
        assert store.claim(1, 2.0) == []


def test_readers_have_a_limit(path: Path) -> None:
    with opened(path, options=IMPATIENT) as store:
        store.save_answers([ANSWER, StoredAnswer("picture-2:v1", "{}")], 1.0)
        for _ in range(2):
            readers = [store.answer_keys(":v1") for _ in range(MAX_READERS)]
            assert {next(keys) for keys in readers} == {ANSWER.key}
            with pytest.raises(StoreBusy, match="being read"):
                store.summary()
            assert [list(keys) for keys in readers] == [["picture-2:v1"]] * MAX_READERS
            assert store.summary() == []


def test_an_error_inside_a_transaction_rolls_it_back(store: Store) -> None:
    def breaks() -> Iterator[StoredAnswer]:
        yield ANSWER
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.save_answers(breaks(), 1.0)
    assert store.answer(ANSWER.key) is None
    store.save_answers([ANSWER], 1.0)
    assert store.answer(ANSWER.key) == ANSWER


def test_the_write_ahead_log_stays_bounded(store: Store, path: Path) -> None:
    done(store, 1_000)
    assert Path(f"{path}-wal").stat().st_size < 20e6


def test_threads_share_one_store(store: Store) -> None:
    accepted(store, tasks(100))

    def work(_: int) -> list[int]:
        claimed: list[int] = []
        while rows := store.claim(3, 2.0):
            for row in rows:
                store.finish(row.id, StoredAnswer(f"{row.task_id}", "{}"), None, False, 3.0)
                claimed.append(row.task_id)
            store.summary()
        return claimed

    with ThreadPoolExecutor(8) as threads:
        claimed = [task_id for found in threads.map(work, range(8), timeout=WAIT_S) for task_id in found]
    assert sorted(claimed) == list(range(1, 101))
    assert states(store) == {WorkState.DONE: 100}
