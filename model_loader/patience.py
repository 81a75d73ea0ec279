"""What fails for a cause which may pass is tried again, later and later. Of a download: a connection that was lost, a
server that is busy or down, a disk that is full until somebody makes room. Knows no hub."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from model_loader.errors import DownloadFailed, ModelError

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_S, MOST_S = 5.0, 300.0
"""The first wait, and the longest: each is twice as long as the one before."""
TOLD_S = 1.0
"""How often the time of a wait is told anew."""


class Pauses:
    """How long to wait before each next try, until `limit_s` after the first one began."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s, self._clock = limit_s, clock
        self.begin_anew()

    def begin_anew(self) -> None:
        self._since, self._next_s = self._clock(), FIRST_S

    def next(self) -> float | None:
        """None: it has lasted too long."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, MOST_S)
        return pause_s if self._clock() + pause_s <= self._since + self._limit_s else None


def patiently(
    fetch: Callable[[], T],
    waiting: Callable[[ModelError, float], None],
    have: Callable[[], int],
    limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `fetch` returns, as soon as it does. Raises what cannot pass, and what has lasted for `limit_s`.

    `waiting` is told why, and how many seconds are left until the next try. `have`: the bytes that are whole here; each
    file that comes starts waits and limit anew.
    """
    pauses, had, was_full = Pauses(limit_s, clock), have(), False
    while True:
        try:
            return fetch()
        except ModelError as error:
            is_full = error.trouble is not None and error.trouble.code == "load_disk_full"
            lacks_room = was_full and isinstance(error, DownloadFailed) and error.lacks_room
            if not (is_full or lacks_room or (isinstance(error, DownloadFailed) and error.may_pass)):
                raise
            if have() > had:
                had = have()
                pauses.begin_anew()
            if (wait_s := pauses.next()) is None:
                raise
            was_full = is_full or lacks_room
            failed = error
        log.warning("%s; it is tried again in %.0f s", failed, wait_s)
        until = clock() + wait_s
        while (left_s := until - clock()) > 0:
            waiting(failed, left_s)
            wait(min(left_s, TOLD_S))
