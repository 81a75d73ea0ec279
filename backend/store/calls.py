"""The store for an event loop: each call runs in a thread, a few at a time. Knows nothing of what is called."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from backend.store.threads import in_thread

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_AT_ONCE = 4
COMPLAIN_S = 60.0


class StoreCalls:
    """Use it from one event loop. The threads cannot keep the process from ending."""

    def __init__(self, max_at_once: int = MAX_AT_ONCE, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._places = asyncio.Semaphore(max_at_once)
        self._monotonic = monotonic
        self._quiet_until = -1.0

    async def run(self, call: Callable[[], T]) -> T:
        """Return or raise what `call` does."""
        async with self._places:
            return await in_thread(call)

    def complain(self, error: Exception) -> None:
        """Log trouble with the store, one line a minute: a full disk fails many calls a second."""
        now = self._monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAIN_S
            log.warning("the store has trouble; nothing is lost, it is tried again: %s", error)
