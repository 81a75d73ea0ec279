"""Tasks in, predictions out, in memory alone: for requests whose tasks the store cannot keep (`queue.replies` has the
others), and for label-studio-ml's own servers.

Every task ends in exactly one TaskResult: a prediction, or a reason. One task's failure never touches its neighbours.
Work in progress is bounded (`ServiceLimits`); what is unfinished at the deadline is cancelled and says so.
Knows nothing of HTTP. Raises EngineNotReady or EngineDead when nothing at all could be done for want of a model.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.errors import EngineDead, EngineNotReady, StoreError
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.predict_one import REASONS, Failure, predict_one
from backend.predict.predictor import Answerer, FetchedImage
from backend.predict.recipe import Recipe
from backend.predict.task import TaskId, TaskInput

log = logging.getLogger(__name__)

MAX_LOGGED_FAILURES = 50
LATE = "prelabel answered before this task's turn; ask again for the rest"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """`prediction` is Label Studio's dict; without one, `reason` is a short word and `message` a sentence."""

    task_id: TaskId
    prediction: dict[str, Any] | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Tasks in work at once, over all requests. Twice the engine's batch keeps the next pictures at hand.

    Those a person waits for have places of their own, so that bulk work cannot make them queue.
    `max_download_wait_s`: a download takes longer than any deadline, so waiting it out would only hold people up.
    """

    max_bulk: int = 32
    max_interactive: int = 8
    max_download_wait_s: float = 5.0


class PredictionService:
    def __init__(self, engine: Engine, answerer: Answerer, metrics: Metrics, limits: ServiceLimits) -> None:
        self._engine = engine
        self._answerer = answerer
        self._metrics = metrics
        self._limits = limits
        self._bulk = asyncio.Semaphore(limits.max_bulk)
        self._interactive = asyncio.Semaphore(limits.max_interactive)

    async def predict(
        self, tasks: Sequence[TaskInput], recipe: Recipe, deadline: float, *, interactive: bool
    ) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock).

        Raises EngineNotReady or EngineDead.
        """
        if not tasks:
            return []
        await self.wait_ready(deadline)
        return self.conclude(await self.run(tasks, recipe, deadline, interactive=interactive))

    async def run(
        self, tasks: Sequence[TaskInput], recipe: Recipe, deadline: float, *, interactive: bool
    ) -> list[TaskResult]:
        """As `predict`, for a model that is ready, and without a word about how it went."""
        results: dict[int, TaskResult] = {}
        queue = iter(enumerate(tasks))
        num_workers = 1 if interactive else min(len(tasks), self._limits.max_bulk)
        try:
            async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
                for _ in range(num_workers):
                    group.create_task(self._work(queue, recipe, results, deadline, interactive))
        except TimeoutError:
            pass
        return [results.get(i) or TaskResult(t.id, None, "deadline", LATE) for i, t in enumerate(tasks)]

    def conclude(self, results: list[TaskResult], *, accepted: bool = False) -> list[TaskResult]:
        """Count and log how a request went. Raises EngineNotReady if nothing was done for want of a model, unless it
        was `accepted` to be done later."""
        self._report(results)
        status = self._engine.status
        if not accepted and status.state != "ready" and all(result.reason == "deadline" for result in results):
            raise EngineNotReady(f"the model is {status.state}; ask again in a minute", retry_after_s=30)
        return results

    async def _work(
        self,
        queue: Iterator[tuple[int, TaskInput]],
        recipe: Recipe,
        results: dict[int, TaskResult],
        deadline: float,
        interactive: bool,
    ) -> None:
        places = self._interactive if interactive else self._bulk
        for index, task in queue:
            async with places:
                results[index] = await self._answer(task, recipe, deadline, interactive)

    async def _answer(self, task: TaskInput, recipe: Recipe, deadline: float, interactive: bool) -> TaskResult:
        def fetch() -> Awaitable[FetchedImage]:
            left_s = self._left_s(deadline)
            return self._answerer.fetch(recipe, task.image_url, task.id, left_s, interactive=interactive)

        made: Answered | Failure
        try:
            made = await predict_one(
                self._answerer,
                recipe,
                fetch,
                lambda: self.wait_ready(deadline),
                name=f"task {task.id}",
                interactive=interactive,
            )
        except (EngineNotReady, EngineDead, StoreError) as error:
            made = Failure(REASONS.get(type(error), "store"), str(error))
        if isinstance(made, Answered):
            return TaskResult(task.id, made.prediction(recipe, task.id))
        return TaskResult(task.id, None, made.reason, made.message)

    async def wait_ready(self, deadline: float) -> Ready:
        """Wait for the model until the deadline; only briefly while it is downloaded, which takes longer anyway."""
        status = self._engine.status
        if status.state == "ready" and status.ready:
            return status.ready
        left_s = self._left_s(deadline)
        if status.state == "loading" and status.stage == "download":
            left_s = min(left_s, self._limits.max_download_wait_s)
        return await self._engine.wait_ready(left_s)

    def _report(self, results: list[TaskResult]) -> None:
        failed = [result for result in results if result.prediction is None]
        reasons = Counter(result.reason for result in failed)
        for reason, count in reasons.items():
            self._metrics.failures.labels(reason).inc(count)
        told = [result for result in failed if result.reason != "deadline"]
        for result in told[:MAX_LOGGED_FAILURES]:
            log.warning("task %s has no prediction: %s: %s", result.task_id, result.reason, result.message)
        if len(told) > MAX_LOGGED_FAILURES:
            log.warning("and %d more tasks have no prediction", len(told) - MAX_LOGGED_FAILURES)
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        log.info(
            "%d of %d tasks predicted%s", len(results) - len(failed), len(results), f" ({counts})" if counts else ""
        )

    def _left_s(self, deadline: float) -> float:
        return max(0.001, deadline - asyncio.get_running_loop().time())
