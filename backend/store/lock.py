"""The lock of a data folder: who serves it holds it, and who brings its store up to date. It ends with its process,
however that ends. Raises StoreUnusable.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from backend.errors import StoreUnusable

LOCK_NAME = "prelabel.lock"


class StoreServed(StoreUnusable):
    """Another process has the lock."""


def is_served(data_dir: Path) -> bool:
    """Whether another process serves it now. Raises StoreUnusable where nobody can know."""
    try:
        os.close(take_lock(data_dir))
    except StoreServed:
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
    except BlockingIOError:
        os.close(lock)
        raise StoreServed(
            f"{data_dir} is served by another prelabel. Stop that one, or set PRELABEL_DATA_DIR to another folder."
        ) from None
    except OSError as error:  # of some disks of the network
        os.close(lock)
        raise StoreUnusable(
            f"{path} cannot be locked ({error.strerror}), without which two prelabels could spoil the data. Mount that "
            "disk with locks, or set PRELABEL_DATA_DIR to a folder on a disk of this machine."
        ) from None
    return lock
