"""The worker: takes work from the store when the engine is ready, has it done, and tells those who wait for it.

Tasks whose answers no disk takes stay in work: as many of them as may be in work at once stop the worker from taking
more. What a stop interrupts is queued again. The store's calls run in threads. Nothing is raised but by `accept`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

from backend.engine.api import Engine
from backend.errors import EngineBusy, EngineDead, StoreError
from backend.metrics import Metrics
from backend.queue.task_jobs import TaskJobs
from backend.queue.waiting import Waiter, Waiting
from backend.store import Store
from backend.store.calls import FEW_ROWS, StoreCalls
from backend.store.types import UNFINISHED, Places, ProjectSummary, Work

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""Of a stop: for what it interrupts to end, and again for queueing that."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """`max_running` tasks of a project are in work at once, and no more than twice what the engine runs, so that the
    next pictures are at hand and not more of them in memory; `max_urgent` more if people wait for them. Beside them
    other projects have a quarter as many places, and as many urgent ones.

    `poll_s`: how often to look for work that nobody announced.
    """

    max_running: int = 128
    max_urgent: int = 8
    poll_s: float = 1.0


@dataclass(slots=True, eq=False)
class Worker:
    """Use it from one event loop."""

    store: Store
    calls: StoreCalls
    engine: Engine
    task_jobs: TaskJobs
    metrics: Metrics
    limits: WorkerLimits = WorkerLimits()
    _: KW_ONLY
    clock: Callable[[], float] = time.time
    wake_delivery: Callable[[], None] = lambda: None
    num_waiting: int = field(init=False)
    """Rows queued or running, as of a moment ago."""
    _waiting: Waiting = field(default_factory=Waiting, init=False)
    _jobs: dict[int, tuple[asyncio.Task[None], Work]] = field(default_factory=dict, init=False)
    _woken: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _left_some: bool = field(default=True, init=False)
    """The last claim may have left rows that can be claimed."""
    _stopping: bool = field(default=False, init=False)
    _loop: asyncio.Task[None] | None = field(default=None, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _num_accepts: int = field(default=0, init=False)
    _last_id: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.num_waiting = _num_unfinished(self.store.summary())

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="worker")

    def wake(self) -> None:
        """There may be work."""
        self._woken.set()

    async def stop(self, limit_s: float) -> None:
        """Take nothing more; let what is in work end, queue the rest again: within `limit_s`, whatever hangs."""
        close_s = min(CLOSE_S, limit_s / 4)
        self._stopping = True
        self._woken.set()
        self._waiting.give_up()
        loop = [self._loop] if self._loop is not None else []
        tasks = [*loop, *(job for job, _ in self._jobs.values())]
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s - 2 * close_s)
        jobs = {work_id: job for work_id, (job, _) in self._jobs.items()}
        for task in (*loop, *jobs.values()):
            task.cancel()
        if jobs:
            await asyncio.wait(jobs.values(), timeout=close_s)
            await self._give_back(list(jobs), close_s)

    async def _give_back(self, work_ids: list[int], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self.calls.run(lambda: self.store.give_back(work_ids, self.clock()))
        except (StoreError, TimeoutError) as error:
            log.warning(
                "%d tasks under way could not be queued again; the next start does it: %s", len(work_ids), error
            )
        except Exception:  # a stop's border: what comes after it must be ended, too
            log.exception("%d tasks under way could not be queued again; the next start does it", len(work_ids))
        else:
            log.info("%d tasks under way are queued again", len(work_ids))

    # -- requests ------------------------------------------------------------------------------------------------

    async def accept(self, waiter: Waiter, num_rows: int, call: Callable[[], list[Work]], project: str) -> list[Work]:
        """Let `waiter` wait for the rows of `project`, about `num_rows`, that `call` puts into the store. Returns or
        raises what `call` does."""
        began = self._waiting.begin()
        self._woken.set()  # the claim comes behind this call, and shares its transaction if it is short
        try:
            works = await self.calls.about(num_rows, call, project)
            self._waiting.add(waiter, works, began)
        finally:
            self._waiting.end()
        self._num_accepts += 1
        self._count(works)
        if self._left_some or num_rows > FEW_ROWS:
            self._woken.set()
        return works

    def cancelled(self, project: str) -> None:
        """The store has cancelled what `project` still waited for: stop what runs of it, let nobody wait for it."""
        for job, work in list(self._jobs.values()):
            if work.project == project:
                job.cancel()
        self._waiting.cancel(project)
        self._woken.set()

    def superseded(self, project: str, version: str) -> None:
        """What `project` still waited for is asked for under `version` now: stop what runs of it under another."""
        for job, work in list(self._jobs.values()):
            if work.project == project and work.model_version != version:
                job.cancel()
        self._waiting.supersede(project, version)
        self._woken.set()

    def _count(self, works: Sequence[Work]) -> None:
        """Only rows that are new: a task asked for again and again waits once. `_look` corrects what this misses."""
        self.num_waiting += len({work.id for work in works if work.id > self._last_id})
        self._last_id = max([self._last_id, *(work.id for work in works)])

    def answer_now(self) -> None:
        """Let no request wait any longer: each gets what is done. Work goes on."""
        self._waiting.give_up()

    def leave(self, waiter: Waiter) -> None:
        """`waiter` waits no more. Its work goes on."""
        self._waiting.remove(waiter)

    def drop(self, waiter: Waiter) -> None:
        """The store has forgotten what `waiter` waited for: stop what runs of it."""
        for work_id in self._jobs.keys() & waiter.ids.values():
            self._jobs.pop(work_id)[0].cancel()
        self._woken.set()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            wait_s = self.limits.poll_s
            try:
                if await self._is_ready():
                    await self._claim()
                await self._look()
            except StoreError as error:
                self.calls.complain(error)
            except Exception:  # a job's border: without the loop nothing would be done any more
                log.exception("a round of the worker failed")
                await asyncio.sleep(wait_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def _is_ready(self) -> bool:
        status = self.engine.status
        if status.is_gone:
            self._waiting.give_up()
        elif status.state != "ready":
            with contextlib.suppress(EngineBusy, EngineDead):
                await self.engine.wait_ready(self.limits.poll_s)
                return True
        return status.state == "ready"

    async def _claim(self) -> None:
        """The store hands out first what people wait for; then come those that fit beside."""
        if self._stopping:
            return
        places = self._places
        works = await self.calls.short(lambda: self.store.claim(places.in_all, self.clock(), places))
        for work in works:
            job = asyncio.create_task(self._job(work))
            self._jobs[work.id] = job, work
            job.add_done_callback(partial(self._ended, work))
        running = Counter(work.project for _, work in self._jobs.values()).values()
        self._left_some = places.left(running) <= 0 or max(running, default=0) >= places.of_one

    @property
    def _places(self) -> Places:
        limits, ready = self.limits, self.engine.status.ready
        most = min(limits.max_running, 2 * ready.max_slots) if ready and ready.max_slots else limits.max_running
        return Places(most, limits.max_urgent, max(1, most // 4))

    def _ended(self, work: Work, job: asyncio.Task[None]) -> None:
        known = self._jobs.get(work.id)
        if known and known[0] is job and not (self._stopping and job.cancelled()):  # else `stop` queues it again
            del self._jobs[work.id]
        if self._left_some or work.attempts > 1:  # the next suspect waits for the end of this one
            self._woken.set()

    async def _look(self) -> None:
        now = time.monotonic()
        if now < self._looked_at + self.limits.poll_s:
            return
        self._looked_at = now
        num_accepts = self._num_accepts
        summaries = await self.calls.run(self.store.summary)
        if num_accepts != self._num_accepts:
            return  # counted perhaps before what came meanwhile
        self.num_waiting = _num_unfinished(summaries)

    async def _job(self, work: Work) -> None:
        outcome = await self.task_jobs.run(work)
        if outcome is None:
            self._woken.set()
            return
        heard = self._waiting.tell(work.id, outcome)
        if outcome.answer_key is not None:
            self.wake_delivery()
        elif outcome.has_failed and not heard:
            self.metrics.failures.labels(outcome.reason).inc()


def _num_unfinished(summaries: Iterable[ProjectSummary]) -> int:
    return sum(summary.states.get(state, 0) for summary in summaries for state in UNFINISHED)
