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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, ImageError
from backend.metrics import Metrics
from backend.predict.predictor import Answerer
from backend.predict.spec import Recipe
from backend.predict.task import TaskId, TaskInput
from label_config.errors import MalformedAnswer

log = logging.getLogger(__name__)

MAX_LOGGED_FAILURES = 50
BUSY_WAIT_S = 0.2
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
        try:
            made = await self._predict_one(task, recipe, deadline, interactive)
            return TaskResult(task.id, made)
        except ImageError as error:
            return TaskResult(task.id, None, f"image_{error.kind}", str(error))
        except (EngineBusy, EngineDead, GenerationFailed, Cancelled, MalformedAnswer) as error:
            return TaskResult(task.id, None, REASONS[type(error)], str(error))
        except Exception:  # a job's border: this task fails, its neighbours go on
            log.exception("task %s failed", task.id)
            return TaskResult(task.id, None, "internal", "a fault in prelabel; its log says more")

    async def _predict_one(self, task: TaskInput, recipe: Recipe, deadline: float, interactive: bool) -> dict[str, Any]:
        await self.wait_ready(deadline)  # no picture is fetched for an engine that may never ask for it
        left_s = self._left_s(deadline)
        fetched = await self._answerer.fetch(recipe, task.image_url, task.id, left_s, interactive=interactive)
        while True:  # the engine may be busy or restarting; the deadline cancels this
            await self.wait_ready(deadline)
            try:
                return (await self._answerer.answer(recipe, fetched, interactive=interactive)).prediction(task.id)
            except EngineBusy:
                await asyncio.sleep(BUSY_WAIT_S)

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


REASONS: dict[type[Exception], str] = {
    EngineBusy: "engine_busy",
    EngineNotReady: "engine_not_ready",
    EngineDead: "engine_dead",
    GenerationFailed: "generation_failed",
    Cancelled: "cancelled",
    MalformedAnswer: "malformed_answer",
}
