"""Connections to one SQLite file in WAL mode: one that writes, under a lock, and a few that read beside it. A database
in memory has the one connection only, for both.

Every write is one short BEGIN IMMEDIATE transaction, or a savepoint in one that several writes share: it happened as a
whole or not at all. A commit is on disk when it returns (synchronous=FULL), because what Label Studio was told must not
be forgotten in a power cut. Knows no table.
Raises StoreBusy, StoreFull, StoreUnusable (damaged) or StoreError; a bug in a statement stays a sqlite3 error.
Not covered: network file systems, where WAL does not work.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backend.errors import StoreBusy, StoreError, StoreFull, StoreUnusable
from backend.store import faults

MAX_READERS = 4
_WAL_PAGES = 1_000
_MAX_WAL_BYTES = 16 * 1024 * 1024
_FREE_PAGES = 2_000

_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}
_PRIMARY = 0xFF  # an extended result code holds the primary one in its low byte
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Options:
    """`synchronous`: what a commit waits for; a killed process loses nothing with OFF either, a power cut does.

    `checked_bytes`: a larger file is checked only after a crash. `cache_kib`: of each connection; the disk's own cache
    holds the rest. `alone`: one connection for all, each use of it under the lock. `connect` makes the connections,
    with the arguments of `sqlite3.connect`.
    """

    busy_timeout_s: float = 5.0
    synchronous: Literal["FULL", "OFF"] = "FULL"
    checked_bytes: int = 64 * 1024 * 1024
    cache_kib: int = 16 * 1024
    alone: bool = False
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect


DEFAULTS = Options()


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its detail; 0 for errors of Python's own."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & _PRIMARY


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors a healthy program can meet into ours; none of them left anything changed."""
    try:
        yield
    except sqlite3.Error as error:
        code = primary_code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreBusy(f"{path} is locked by another program. Try again, or end that program.") from error
        if getattr(error, "sqlite_errorcode", 0) in _FULL:
            raise StoreFull(f"The disk under {path} is full or failing. Free some space.") from error
        if code in DAMAGED:
            raise StoreUnusable(
                f"{path} is damaged. Restart prelabel: it keeps the file aside and begins anew."
            ) from error
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise StoreError(f"{path} cannot be used ({error}). Check the disk and the file's permissions.") from error
        raise


class _Shared(threading.local):
    """What one thread's writes share: see `Database.together`."""

    is_open = False
    begun = False
    num_writes = 0
    error: Exception | None = None


class Database:
    """Thread-safe. Making one raises sqlite3.Error; `read` and `write` raise StoreError."""

    def __init__(self, path: Path, options: Options = DEFAULTS) -> None:
        self.path = path
        self._options = options
        self._lock = threading.RLock() if options.alone else threading.Lock()
        self._closed = False
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_READERS)
        self._shared = _Shared()
        self._writer = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = self._options.connect(
            self.path, timeout=self._options.busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in (
                "foreign_keys = ON",
                f"synchronous = {self._options.synchronous}",
                "cell_size_check = ON",
                "temp_store = MEMORY",
                f"cache_size = -{self._options.cache_kib}",
                f"wal_autocheckpoint = {_WAL_PAGES}",
                f"journal_size_limit = {_MAX_WAL_BYTES}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end of the block, rolled back whole if anything is raised."""
        if self._shared.is_open:
            with self._sharing():
                yield self._writer
            return
        with self._writing():
            with translated(self.path):
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    faults.hit("before_commit")
                    self._writer.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
            faults.hit("after_commit")

    @contextlib.contextmanager
    def together(self) -> Iterator[Callable[[], int]]:
        """What this thread writes in the block becomes one transaction, begun by its first write.

        A write that raises is rolled back alone. What is yielded tells how many writes there were so far. The end of
        the block raises StoreError when nothing of them could be committed.
        """
        shared = self._shared
        shared.is_open, shared.begun, shared.num_writes, shared.error = True, False, 0, None
        try:
            yield lambda: shared.num_writes
            if shared.error is not None:
                raise shared.error
            if shared.begun:
                with translated(self.path):
                    faults.hit("before_commit")
                    self._writer.execute("COMMIT")
        except BaseException:
            if shared.begun:
                self._roll_back()
            raise
        finally:
            shared.is_open = False
            if shared.begun:
                self._lock.release()
        if shared.begun:
            faults.hit("after_commit")

    @contextlib.contextmanager
    def _sharing(self) -> Iterator[None]:
        """One of the writes of `together`. Once one has lost the whole transaction, or could not begin it, so have the
        others: they raise the same error at once."""
        shared = self._shared
        shared.num_writes += 1
        if shared.error is not None:
            raise shared.error
        try:
            with translated(self.path):
                if not shared.begun:
                    self._take_lock()
                    shared.begun = True
                    self._writer.execute("BEGIN IMMEDIATE")
                self._writer.execute("SAVEPOINT one")
                try:
                    yield
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK TO one")
                        self._writer.execute("RELEASE one")
                    raise
                self._writer.execute("RELEASE one")
            faults.hit("between_writes")
        except Exception as error:
            if not shared.begun or not self._writer.in_transaction:
                shared.error = error
            raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._take_lock()
        try:
            yield
        finally:
            self._lock.release()

    def _take_lock(self) -> None:
        wait_s = 2 * self._options.busy_timeout_s
        if not self._lock.acquire(timeout=wait_s):
            raise StoreBusy(f"{self.path} has had a long write for {wait_s:g} s. Try again.")
        try:
            self._require_open()
        except BaseException:
            self._lock.release()
            raise

    def give_back_pages(self) -> None:
        """Return pages that hold nothing to the file system, a few thousand at a time."""
        with self._writing(), translated(self.path):
            # not `execute`: it ends this statement after the first page
            self._writer.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES})")

    def _roll_back(self) -> None:
        if self._writer.in_transaction:  # SQLite ends it by itself after some errors
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot of what is committed; never waits for a writer. `alone`, it does, and in `together` it sees what
        was written before it."""
        if self._options.alone:
            with self._writing(), translated(self.path):
                yield self._writer
            return
        if not self._places.acquire(timeout=2 * self._options.busy_timeout_s):
            raise StoreBusy(f"{self.path} is being read by {MAX_READERS} others. Try again.")
        try:
            self._require_open()
            with translated(self.path):
                connection = self._reader()
                try:
                    connection.execute("BEGIN")
                    yield connection
                    connection.execute("ROLLBACK")
                except BaseException:
                    connection.close()  # whatever state it is in, the next reader gets a new one
                    raise
                with self._idle_lock:
                    if not self._closed:
                        self._idle.append(connection)
                        return
                connection.close()
        finally:
            self._places.release()

    def _reader(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._idle:
                return self._idle.pop()
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("The store is closed: prelabel is stopping.")

    def close(self) -> None:
        """Move the WAL into the file and close; waits for a running write. Safe to call twice."""
        with self._idle_lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._lock:
            with contextlib.suppress(sqlite3.Error):  # the WAL then stays, and the next start reads it
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._writer.close()
