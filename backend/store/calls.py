"""The store for an event loop. Long calls run in threads, a few at a time and one of each project: its others wait, and
projects take turns (`fair_turns`), so that who sends thousands of tasks again and again leaves the store to others.
Short ones, of which a task makes several, share a thread and a transaction with those that wait beside them. Knows
nothing of what is called.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from backend.fair_turns import FairTurns
from backend.store.store import Ended, Store
from backend.store.threads import in_thread

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_AT_ONCE = 4
MAX_TOGETHER = 64
"""Short calls in one transaction: other writers wait so long."""
FEW_ROWS = 8
"""A call about no more of them is short."""
COMPLAIN_S = 60.0


class StoreCalls:
    """Use it from one event loop. The threads cannot keep the process from ending."""

    def __init__(
        self, store: Store, max_at_once: int = MAX_AT_ONCE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._max_at_once = max_at_once
        self._turns = FairTurns(monotonic)
        self._monotonic = monotonic
        self._quiet_until = -1.0
        self._short: deque[tuple[Callable[[], object], asyncio.Future[Any]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def run(self, call: Callable[[], T], project: str = "") -> T:
        """Return or raise what `call` does, which is for `project`, if for one."""
        needs = [("any", self._max_at_once), *([(f"of {project}", 1)] if project else [])]
        end = await self._turns.begin(project, lambda: needs)
        try:
            return await in_thread(call)
        finally:
            end()

    async def short(self, call: Callable[[], T]) -> T:
        """As `run`, for a call that takes a millisecond. It returns when what it wrote is on the disk."""
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._short.append((call, ended))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run_short(), name="store-short-calls")
        return await ended

    async def about(self, num_rows: int, call: Callable[[], T], project: str) -> T:
        """As `short` where `call` is about a few rows of work, else as `run`."""
        return await (self.short(call) if num_rows <= FEW_ROWS else self.run(call, project))

    async def _run_short(self) -> None:
        """What comes while one transaction is under way is the next one."""
        try:
            while self._short:
                some = [self._short.popleft() for _ in range(min(MAX_TOGETHER, len(self._short)))]
                wanted = [(call, future) for call, future in some if not future.done()]
                calls = [call for call, _ in wanted]
                for (_, future), ended in zip(wanted, await self._ends(calls), strict=True):
                    _settle(future, ended)
        finally:
            self._runner = None

    async def _ends(self, calls: Sequence[Callable[[], object]]) -> list[Ended]:
        try:
            return await in_thread(lambda: self._store.together(calls))
        except Exception as error:  # whoever waits must hear of it
            return [Ended(error=error) for _ in calls]

    def complain(self, error: Exception) -> None:
        """Log trouble with the store, one line a minute: a full disk fails many calls a second."""
        now = self._monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAIN_S
            log.warning("the store has trouble; nothing is lost, it is tried again: %s", error)


def _settle(future: asyncio.Future[Any], ended: Ended) -> None:
    if future.done():  # nobody waits any more
        return
    if ended.error is not None:
        future.set_exception(ended.error)
    else:
        future.set_result(cast(Any, ended.result))
