"""The lock of a data folder: who serves it holds it, and who brings its store up to date. It ends with its process,
however that ends. Raises StoreUnusable.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from backend.errors import StoreUnusable

LOCK_NAME = "prelabel.lock"


def is_served(data_dir: Path) -> bool:
    """Whether another process serves it now."""
    try:
        os.close(take_lock(data_dir))
    except StoreUnusable:
        return True
    return False


def take_lock(data_dir: Path) -> int:
    """The lock's open file; closing it gives the lock back."""
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
