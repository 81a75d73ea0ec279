"""Open the store's file: make it, check it, migrate it; keep a damaged one aside and begin anew. Or open one in memory.

The whole file is checked when it is small, or when its WAL was left behind, which an orderly close removes. Damage that
this does not find shows at the first read of the page, as StoreUnusable. Nothing is ever deleted.
Raises StoreUnusable (with the next step), StoreBusy or StoreFull.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

from backend.errors import StoreError, StoreUnusable
from backend.store.database import DAMAGED, DEFAULTS, Database, Options, primary_code, translated
from backend.store.lock import take_lock
from backend.store.migrations import is_current, migrate

log = logging.getLogger(__name__)

BESIDE_CACHE_KIB = 1024
IN_MEMORY = Options(busy_timeout_s=600.0, alone=True)
"""No other program can hold it: whoever waits for it gets it."""
_WAL = "-wal"
_PARTS = ("", _WAL, "-shm")


def open_database(path: Path, now: float, options: Options) -> tuple[Database, Path | None]:
    """Return the database, and where a damaged file was moved to, if there was one."""
    try:
        aside = _make_ready(path, now, options)
        if aside is not None:
            log.error("%s is damaged; it is kept as %s and an empty one is started", path, aside.name)
            if _make_ready(path, now, options) is not None:
                raise _unusable(path, "a new file is damaged as soon as it is written")
        with translated(path):
            return Database(path, options), aside
    except OSError as error:
        raise _unusable(path, f"it cannot be written ({error.strerror})") from None
    except StoreUnusable:
        raise
    except StoreError as error:
        if type(error) is StoreError:
            raise _unusable(path, "it cannot be written") from error
        raise


def open_beside(path: Path, now: float) -> Database:
    """As `open_database`, but a file that is there is never moved, and migrated only where no other process serves it.

    Raises StoreUnusable for one that is damaged, of a newer version, or of an older one that is still served.
    """
    try:
        if not path.exists() or not path.stat().st_size:
            open_database(path, now, DEFAULTS)[0].close()
        with contextlib.closing(_connect(path, DEFAULTS)) as connection:
            if not is_current(connection):
                _update(connection, path)
        with translated(path):
            return Database(path, replace(DEFAULTS, cache_kib=BESIDE_CACHE_KIB))
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(f"{path} cannot be read ({error}).") from None


def _update(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the file of an older prelabel. Raises StoreUnusable where that one may still run, and sqlite3.Error."""
    try:
        lock = take_lock(path.parent)
    except StoreUnusable as error:
        raise StoreUnusable(f"{path} was written by an older prelabel. {error}") from None
    try:
        migrate(connection)
    finally:
        os.close(lock)
    log.info("%s was written by an older prelabel; it is brought up to date", path)


def open_in_memory() -> Database:
    """An empty one, which ends with its process. Raises nothing."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    migrate(connection)
    return Database(Path(":memory:"), replace(IN_MEMORY, connect=lambda *args, **options: connection))


def _connect(path: Path, options: Options) -> sqlite3.Connection:
    return options.connect(path, timeout=options.busy_timeout_s, isolation_level=None)


def _make(path: Path) -> None:
    """See that the file is there and writable, for this user alone: it holds addresses of pictures. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _make_ready(path: Path, now: float, options: Options) -> Path | None:
    """Make, check and migrate the file; if it is damaged, return where it is now. Raises OSError and StoreError."""
    _make(path)
    wal = path.with_name(path.name + _WAL)
    is_small = path.stat().st_size <= options.checked_bytes
    checked = is_small or (wal.exists() and wal.stat().st_size > 0)
    if checked and not is_small:  # nothing else is done meanwhile, and nobody is listened to
        size_gib = path.stat().st_size / 2**30
        log.info("%s was not closed in order: it is read whole and checked first, %.1f GiB", path, size_gib)
    with translated(path):
        connection = _connect(path, options)
        try:
            if _prepare(connection, checked=checked):
                return None
            return _set_aside(path, now)  # before it is closed: closing deletes the WAL, whatever it holds
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in DAMAGED:
                raise
            return _set_aside(path, now)
        except StoreUnusable as error:
            raise StoreUnusable(f"{path} cannot be used: {error}.") from None
        finally:
            connection.close()


def _prepare(connection: sqlite3.Connection, *, checked: bool) -> bool:
    """False: the check found damage. Raises sqlite3.Error and StoreUnusable."""
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or never
    if checked and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        return False
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnusable("its file system has no shared memory; choose a PRELABEL_DATA_DIR on a local disk")
    migrate(connection)
    return True


def _set_aside(path: Path, now: float) -> Path:
    """Rename the file and what belongs to it. Raises OSError."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    aside = path.with_name(f"{path.name}.unreadable-{stamp}")
    number = 1
    while any(aside.with_name(aside.name + part).exists() for part in _PARTS):
        number += 1
        aside = path.with_name(f"{path.name}.unreadable-{stamp}-{number}")
    for part in reversed(_PARTS):  # the file itself last: a crash before that finds it damaged again
        piece = path.with_name(path.name + part)
        if piece.exists():
            piece.rename(aside.with_name(aside.name + part))
    return aside


def _unusable(path: Path, why: str) -> StoreUnusable:
    return StoreUnusable(
        f"{path} cannot be used: {why}. Set PRELABEL_DATA_DIR to a folder that is there and writable, "
        f"or give this one to the user prelabel runs as (uid {os.getuid()}): chown -R {os.getuid()} {path.parent}"
    )
