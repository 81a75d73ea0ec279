"""Locks of other machines and containers, on a disk that knows no flock, as some networks' do: there a lock is a file
that says who made it, and one that was killed leaves it for ever. Which processes of another host are still there,
nobody can tell from here. Raises nothing.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from model_loader.troubles import Trouble, trouble

QUIET_S = 600.0
"""Who holds a lock for a download and has written nothing for so long is not at it any more."""
_RECORD = re.compile(r"(\d{1,10})\n(\S+)\n(\d+\n)?")
"""Process and host name, and when it began, as filelock writes them."""


def is_held(lock: Path) -> bool:
    """Whether another process holds `lock`."""
    try:
        with FileLock(lock, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # gone meanwhile, or not ours
        return False


def held_on_another_host(lock: Path, host: str | None = None) -> Trouble | None:
    """What is to be said of `lock`, where a process of another host than `host`, this one, has left it or is at it."""
    try:
        record, age_s = _RECORD.fullmatch(lock.read_text("utf-8", "replace")), _age_s(lock)
    except OSError:  # gone meanwhile, or not ours
        return None
    if record is None or record[2] == (host or socket.gethostname()) or not is_held(lock):
        return None
    age = f"{age_s / 60:.0f}"
    return trouble("lock_elsewhere", file=str(lock), process=record[1], host=record[2], age=age)


def was_written_lately(files: Iterable[Path]) -> bool:
    """Whether one of `files` was written within QUIET_S."""
    for file in files:
        with contextlib.suppress(OSError):
            if _age_s(file) < QUIET_S:
                return True
    return False


def _age_s(file: Path) -> float:
    """Since it was written last, by this host's clock. Raises OSError."""
    return max(0.0, time.time() - file.stat().st_mtime)
