"""The store of the one process that serves a data folder: opened, locked, and what was under way queued again.

Blocking. Raises StoreError.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from backend.errors import StoreUnusable
from backend.store import Store

log = logging.getLogger(__name__)

FILE_NAME = "prelabel.db"
LOCK_NAME = "prelabel.lock"


class ServingStore(Store):
    """The store of the one process that serves a data folder. Its lock ends with the process, however that ends."""

    lock: int | None = None

    def close(self) -> None:
        super().close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def open_store(data_dir: Path, now: float) -> ServingStore:
    """Open it and queue again what an earlier process left. Raises StoreUnusable, StoreBusy, StoreFull."""
    lock = _lock(data_dir)
    try:
        store = ServingStore.open(data_dir / FILE_NAME, now)
    except BaseException:
        os.close(lock)
        raise
    store.lock = lock
    try:
        num_rows = store.recover(now)
    except BaseException:
        store.close()
        raise
    if num_rows:
        log.info("%d tasks were under way when prelabel ended; they are taken up again", num_rows)
    return store


def _lock(data_dir: Path) -> int:
    path = data_dir / LOCK_NAME
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be written ({error.strerror}).") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreUnusable(
            f"{data_dir} is served by another prelabel. Stop that one, or set PRELABEL_DATA_DIR to another folder."
        ) from None
    return lock
