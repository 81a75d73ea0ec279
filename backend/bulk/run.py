"""A bulk run: items in, outcomes out, a bounded number of them in work, each written as soon as it is known.

Knows no engine (`Annotator`), no files but the ledger, and no display but `tick`. One event loop; the sources are read
and the disk is waited for in threads. Raises OutputError, EngineDead, and UsageError (a list changed meanwhile): what
was written by then is whole, and a later run goes on from it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice

from backend.bulk.audit import Withholds, withholds_nothing
from backend.bulk.items import Item
from backend.bulk.ledger import Ledger
from backend.bulk.outcomes import Annotator, FailedItem, Outcome
from backend.bulk.progress import Figures


@dataclass(frozen=True, slots=True)
class RunLimits:
    """`grace_s`: how long what is in work may take to end after a stop. `sync_s`: what a power cut may undo."""

    grace_s: float = 20.0
    sync_s: float = 5.0
    tick_s: float = 0.25
    chunk: int = 64


class Collector:
    """Takes outcomes, from wherever they come: onto the disk, into the figures. `withholds` is asked of each record."""

    def __init__(self, ledger: Ledger, figures: Figures, withholds: Withholds = withholds_nothing) -> None:
        self._ledger = ledger
        self._figures = figures
        self._withholds = withholds

    def take(self, outcome: Outcome) -> None:
        """Raises OutputError."""
        if isinstance(outcome, FailedItem):
            self._ledger.add_failure(outcome.line)
        else:
            outcome = outcome.withheld() if self._withholds(outcome.line) else outcome
            self._ledger.add_record(outcome.line)
        self._figures.add(outcome)


@dataclass(slots=True, eq=False)
class BulkRun:
    """`stop` ends it early: nothing new is begun, and what is in work has `grace_s` to end."""

    annotator: Annotator
    items: Iterator[Item]
    take: Callable[[Outcome], None]
    num_workers: int
    _: KW_ONLY
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    sync: Callable[[], None] = lambda: None
    tick: Callable[[], None] = lambda: None
    limits: RunLimits = RunLimits()
    _chunk: deque[Item] = field(default_factory=deque, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def run(self) -> bool:
        """True: every item was taken up. False: it was stopped."""
        workers = {asyncio.create_task(self._work()) for _ in range(self.num_workers)}
        helpers = {asyncio.create_task(self._show()), asyncio.create_task(self._keep_in_sync())}
        stopping = asyncio.create_task(self.stop.wait())
        try:
            return await self._until_done(workers, helpers, stopping)
        finally:
            everything = workers | helpers | {stopping}
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _until_done(
        self, workers: set[asyncio.Task[None]], helpers: set[asyncio.Task[None]], stopping: asyncio.Task[bool]
    ) -> bool:
        """The first exception of any of them is raised here."""
        pending, timeout = set(workers), None
        while pending:
            watched: set[asyncio.Task[None] | asyncio.Task[bool]] = {*pending, *helpers}
            if not stopping.done():
                watched.add(stopping)
            elif timeout is None:
                ends_at = asyncio.get_running_loop().time() + self.limits.grace_s
                timeout = self.limits.grace_s
            else:
                timeout = max(0.0, ends_at - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait(watched, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                task.result()
            pending -= done
        return not self.stop.is_set()

    async def _work(self) -> None:
        while (item := await self._next()) is not None:
            self.take(await self.annotator.annotate(item))

    async def _next(self) -> Item | None:
        if self.stop.is_set():
            return None
        if not self._chunk:
            async with self._reading:
                if not self._chunk:
                    self._chunk.extend(await asyncio.to_thread(lambda: list(islice(self.items, self.limits.chunk))))
        return self._chunk.popleft() if self._chunk and not self.stop.is_set() else None

    async def _show(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(self.limits.tick_s)

    async def _keep_in_sync(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sync_s)
            await asyncio.to_thread(self.sync)
