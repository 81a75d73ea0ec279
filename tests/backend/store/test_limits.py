from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from backend.errors import StoreBusy, StoreError, StoreFull
from backend.store import Store, StoredAnswer, WorkState
from backend.store.database import MAX_READERS
from tests.backend.store.given import accepted, done, opened, task, tasks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prelabel.db"


@contextmanager
def full_disk(store: Store) -> Iterator[None]:
    writer = store._database._writer
    (num_pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {num_pages}").fetchall()
    yield
    writer.execute("PRAGMA max_page_count = 1000000").fetchall()


def test_on_a_full_disk_nothing_is_half_written_and_it_goes_on_when_there_is_space(path: Path) -> None:
    with opened(path) as store:
        rows = done(store, 2)
        accepted(store, [task(3)])
        with full_disk(store):
            with pytest.raises(StoreFull, match="Free some space"):
                accepted(store, tasks(2_000))
            with pytest.raises(StoreFull):
                store.finish(3, StoredAnswer("long", "x" * 50_000), None, False, 2.0)
            assert [row.id for row in store.due("12.17", 9, 9.0)] == [row.id for row in rows]
            assert store.answer("long") is None
            assert store.summary()[0].states == {WorkState.DONE: 2, WorkState.QUEUED: 1}
        assert len(accepted(store, tasks(2_000))) == 2_000
        assert store.finish(3, StoredAnswer("long", "x" * 50_000), None, False, 2.0).state == WorkState.DONE


def test_a_file_that_may_not_grow_is_a_full_disk(path: Path) -> None:
    with opened(path) as store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(StoreFull):
                accepted(store, tasks(5_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.summary() == []
        assert len(accepted(store, tasks(5_000))) == 5_000


def test_a_lock_held_by_another_program_is_an_error_after_a_while_and_passes(path: Path) -> None:
    with opened(path) as store:
        accepted(store, tasks(2))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another program"):
            store.claim(1, 2.0)
        assert store.summary()[0].states == {WorkState.QUEUED: 2}  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert len(store.claim(2, 2.0)) == 2


def test_a_file_locked_at_the_start_is_busy_and_not_damaged(path: Path) -> None:
    opened(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy):
        Store.open(path, 0.0, busy_timeout_s=0.1)
    other.close()
    with Store.open(path, 0.0) as store:
        assert store.set_aside is None


def test_a_write_waits_for_another_thread_only_so_long(path: Path) -> None:
    with opened(path) as store:
        with store._database.write(), pytest.raises(StoreBusy, match="long write"):
            store.claim(1, 2.0)
        assert store.claim(1, 2.0) == []


def test_readers_have_a_limit(path: Path) -> None:
    with opened(path) as store:
        with ExitStack() as readers:
            for _ in range(MAX_READERS):
                readers.enter_context(store._database.read())
            with pytest.raises(StoreBusy, match="being read"):
                store.summary()
        assert store.summary() == []
        assert len(store._database._idle) == MAX_READERS


def test_an_error_inside_a_transaction_rolls_it_back(path: Path) -> None:
    with opened(path) as store:
        with suppress(RuntimeError), store._database.write() as connection:
            connection.execute("DELETE FROM recipe")
            raise RuntimeError
        assert store.recipe("recipe-1") is not None


def test_a_reader_cannot_write(path: Path) -> None:
    with opened(path) as store:
        with pytest.raises(StoreError), store._database.read() as connection:
            connection.execute("DELETE FROM recipe")
        assert store.recipe("recipe-1") is not None


def test_the_write_ahead_log_stays_bounded(path: Path) -> None:
    with opened(path) as store:
        for round_number in range(8):
            done(store, 1_000, first=1 + 1_000 * round_number)
        assert Path(f"{path}-wal").stat().st_size < 20e6


def test_threads_share_one_store(path: Path) -> None:
    with opened(path) as store:
        accepted(store, tasks(200))
        claimed: list[int] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                while rows := store.claim(3, 2.0):
                    for row in rows:
                        store.finish(row.id, StoredAnswer(f"{row.task_id}", "{}"), None, False, 3.0)
                        claimed.append(row.id)
                    store.summary()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (errors, sorted(claimed)) == ([], sorted(set(claimed)))
        assert store.summary()[0].states == {WorkState.DONE: 200}
