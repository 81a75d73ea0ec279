"""The store of the one process that serves a data folder: opened, locked, and what was under way queued again.

Blocking. Raises StoreError.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from backend.store import Store
from backend.store.lock import take_lock

log = logging.getLogger(__name__)

FILE_NAME = "prelabel.db"


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
    lock = take_lock(data_dir)
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
