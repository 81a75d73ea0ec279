"""One claimed row of work to its end in the store: fetch, answer, keep.

Nothing computed is thrown away: an answer is held until the disk takes it. Nothing is raised: what goes wrong with one
task is that task's failure, and what is no fault of the task has it queued again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from backend import logs
from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.errors import EngineDead, EngineNotReady, StoreError
from backend.images.decode import FetchedImage
from backend.predict.answered import Answered
from backend.predict.predict_one import INTERNAL, Failure, predict_one
from backend.predict.predictor import Answerer
from backend.predict.task import TaskInput
from backend.queue.held_tasks import HeldTasks, is_withheld
from backend.queue.recipes import Recipes
from backend.queue.waiting import Outcome, outcome_of
from backend.store import Store
from backend.store.calls import StoreCalls
from backend.store.types import StoredAnswer, Work, WorkState

log = logging.getLogger(__name__)
T = TypeVar("T")

NOT_ON_DISK = (
    "the picture's address carries a key, which is not written to disk, and prelabel was restarted since; ask again"
)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Seconds. `fetch_s`: for one picture, all tries together; `busy_s`: until a busy engine is asked again; `retry_s`
    to `max_retry_s`: until the store is."""

    fetch_s: float = 120.0
    busy_s: float = 0.2
    retry_s: float = 0.5
    max_retry_s: float = 30.0


class _TryAgain(Exception):
    """Nothing is wrong with the task: it is queued again."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskJobs:
    """Use it from one event loop, for any number of rows at once. `held` are the tasks of rows that do not have their
    addresses."""

    store: Store
    calls: StoreCalls
    engine: Engine
    answerer: Answerer
    recipes: Recipes
    held: HeldTasks
    limits: JobLimits = JobLimits()
    clock: Callable[[], float] = time.time

    async def run(self, work: Work) -> Outcome | None:
        """How it ended. None: it did not; the row is queued again."""
        task = self.held.whole(work)
        try:
            result = await self._result(work, task)
        except _TryAgain:
            await asyncio.sleep(self.limits.busy_s)
            await self._write(partial(self.store.requeue, work.id, self.clock()))
            return None
        outcome = await self._settle(work, result)
        if outcome is not None and not outcome.has_failed:
            self.held.forget([work], {work.task_id: task})
        return outcome

    async def _result(self, work: Work, task: TaskInput) -> Answered | Failure:
        """Raises _TryAgain."""
        try:
            return await self._answer(work, task)
        except (EngineNotReady, EngineDead, StoreError) as error:
            raise _TryAgain from error
        except Exception:
            log.exception("task %s failed", task.id)
            return INTERNAL

    async def _answer(self, work: Work, task: TaskInput) -> Answered | Failure:
        recipe = self.recipes.known(work.recipe) or await self.calls.run(lambda: self.recipes.of(work.recipe))
        ready = await self._ready()
        if recipe is None or recipe.version(ready) != work.model_version:
            return Failure("model_changed", "ask again: the model or its settings changed since this was asked for")
        if is_withheld(task.image_url):
            return Failure("address_withheld", NOT_ON_DISK)

        def fetch() -> Awaitable[FetchedImage]:
            limit_s = self.limits.fetch_s
            return self.answerer.fetch(
                recipe, task.image_url, task.id, limit_s, interactive=work.interactive, project=work.project
            )

        return await predict_one(
            self.answerer,
            recipe,
            fetch,
            self._ready,
            name=f"task {task.id}",
            interactive=work.interactive,
            project=work.project,
            busy_s=self.limits.busy_s,
        )

    async def _ready(self) -> Ready:
        """A row of work waits in the store, not here: raises EngineNotReady at once."""
        return self.engine.status.require_ready()

    async def _settle(self, work: Work, result: Answered | Failure) -> Outcome | None:
        """None: the task has another picture by now, and waits for its turn with that one."""
        image = work.image_hash
        if isinstance(result, Failure):
            message = logs.one_line(logs.redact(result.message))
            failed = await self._write(
                lambda: self.store.fail(work.id, result.reason, message, self.clock(), image_hash=image)
            )
            if failed is not None and failed.state is WorkState.QUEUED:
                return None
            return Outcome(None, result.reason, result.message)
        answer = StoredAnswer(result.key, result.content)
        kept = await self._write(
            lambda: self.store.finish(
                work.id, answer, result.score, result.needs_review, self.clock(), image_hash=image
            )
        )
        if kept is not None and kept.state is WorkState.QUEUED:
            return None
        if kept is not None and (outcome := outcome_of(kept)):
            return outcome
        return Outcome(None, "cancelled", "it was cancelled in the meantime")

    async def _write(self, call: Callable[[], T]) -> T:
        """Until it is written, however long that takes: a full disk, a file that another program holds."""
        wait_s = self.limits.retry_s
        while True:
            try:
                return await self.calls.short(call)
            except StoreError as error:
                self.calls.complain(error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self.limits.max_retry_s)
