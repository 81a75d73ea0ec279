"""The queue of one store: its calls, the worker that takes tasks from it, and the replies to those who wait for them.

`prelabel serve` runs two: over the store on the disk, whose rows last, and over one in memory. Each has places of its
own for tasks in work, twice the engine's batch, which keeps the next pictures at hand.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from backend.engine.api import Engine
from backend.errors import StoreError
from backend.metrics import Metrics
from backend.predict.predictor import Answerer
from backend.queue.held_tasks import MAX_HELD_BYTES, HeldTasks
from backend.queue.recipes import Recipes
from backend.queue.replies import Replies
from backend.queue.task_jobs import TaskJobs
from backend.queue.worker import Worker, WorkerLimits
from backend.settings import Settings
from backend.store import Store
from backend.store.calls import StoreCalls

log = logging.getLogger(__name__)

PRUNE_EVERY_S = 3_600.0
KEEP_S = 30 * 86_400.0


class TaskQueue:
    """Build it on the event loop it will be used on. `store` is closed with it; `lasts`: it is on the disk."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        answerer: Answerer,
        metrics: Metrics,
        settings: Settings,
        *,
        lasts: bool,
        pushes: Callable[[str], bool] = lambda project: False,
        clock: Callable[[], float] = time.time,
        wake_delivery: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.calls = StoreCalls(store)
        self.recipes = Recipes(store, settings.image_tokens)
        held = HeldTasks(MAX_HELD_BYTES if lasts else math.inf)
        self.worker = Worker(
            store,
            self.calls,
            engine,
            TaskJobs(store, self.calls, engine, answerer, self.recipes, held, clock=clock),
            metrics,
            WorkerLimits(max_running=2 * settings.max_slots),
            clock=clock,
            wake_delivery=wake_delivery,
        )
        self.replies = Replies(
            store,
            self.calls,
            self.worker,
            held,
            self.recipes,
            lasts=lasts,
            max_waiting=10 * settings.max_tasks,
            max_held_bytes=4 * settings.max_body_bytes,
            pushes=pushes,
            clock=clock,
            wake_delivery=wake_delivery,
        )
        self._keep_s = KEEP_S if lasts else PRUNE_EVERY_S
        self._clock = clock
        self._pruner: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.worker.start()
        self._pruner = asyncio.create_task(self._prune())

    async def stop(self, limit_s: float) -> None:
        """Take nothing more; let what is in work end, queue the rest again."""
        if self._pruner is not None:
            self._pruner.cancel()
        await self.worker.stop(limit_s * 0.8)
        await self.replies.close(limit_s * 0.2)

    async def close(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self.calls.run(self.store.close)
        except TimeoutError:
            log.warning("the store did not close in time; nothing is lost, and the next start has a little more to do")

    async def _prune(self) -> None:
        while True:
            try:
                num_rows = await self.calls.run(lambda: self.store.prune(self._clock(), self._keep_s))
                if num_rows:
                    log.info("%d rows of work older than %g days are forgotten", num_rows, self._keep_s / 86_400)
            except StoreError as error:
                self.calls.complain(error)
            except Exception:  # a job's border: without it the file would grow for ever
                log.exception("old work could not be forgotten")
            await asyncio.sleep(PRUNE_EVERY_S)
