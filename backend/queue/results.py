"""What becomes of each task of a request, and how that is counted and logged. Nothing raises."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.task import TaskId, TaskInput
from backend.queue.ask import Request
from backend.queue.waiting import Outcome
from backend.reasons import Reason, sentence
from backend.store.types import StoredAnswer

log = logging.getLogger(__name__)

MAX_LOGGED_FAILURES = 50
LATE = "prelabel answered before this task's turn; ask again for the rest"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """`prediction` is Label Studio's dict; without one, there are a `reason` and a sentence. Withheld is not failed."""

    task_id: TaskId
    prediction: dict[str, Any] | None = None
    reason: Reason | Literal[""] = ""
    message: str = ""


def predictions(
    request: Request, outcomes: Mapping[int, Outcome], contents: Mapping[str, StoredAnswer]
) -> dict[int, dict[str, Any]]:
    """By row of work, those of `outcomes` whose answer is among `contents` (by key)."""
    recipe = request.ask.recipe
    made: dict[int, dict[str, Any]] = {}
    for work_id, task in zip(request.work_ids, request.tasks, strict=True):
        outcome = outcomes.get(work_id)
        stored = contents.get(outcome.answer_key or "") if outcome is not None else None
        if stored is not None:
            try:
                made[work_id] = Answered.read(recipe, stored.key, stored.content).prediction(recipe, task.id)
            except ValueError:
                log.exception("the answer stored for task %s cannot be read", task.id)
    return made


def results_of(
    request: Request, outcomes: Mapping[int, Outcome], told: Mapping[int, dict[str, Any]]
) -> list[TaskResult]:
    """One a task, in order; `told` are the predictions that may go out, by row of work."""
    pairs = zip(request.work_ids, request.tasks, strict=True)
    return [_result(task, outcomes.get(work_id), told.get(work_id)) for work_id, task in pairs]


def _result(task: TaskInput, outcome: Outcome | None, prediction: dict[str, Any] | None) -> TaskResult:
    if outcome is None:
        return TaskResult(task.id, None, "deadline", LATE)
    if outcome.answer_key is None:
        return TaskResult(task.id, None, outcome.reason, outcome.message)
    if prediction is None:
        return TaskResult(task.id, None, "told", "another reply or a push brings it to Label Studio")
    return TaskResult(task.id, prediction)


def report(results: Sequence[TaskResult], metrics: Metrics) -> None:
    withheld = [result for result in results if result.reason == "withheld"]
    failed = [result for result in results if result.prediction is None and result.reason != "withheld"]
    reasons = Counter(result.reason for result in failed)
    for reason, count in reasons.items():
        metrics.failures.labels(reason).inc(count)
    told = [result for result in failed if result.reason != "deadline"]
    for result in told[:MAX_LOGGED_FAILURES]:
        log.warning("task %s has no prediction: %s: %s", result.task_id, result.reason, result.message)
    if len(told) > MAX_LOGGED_FAILURES:
        log.warning("and %d more tasks have no prediction", len(told) - MAX_LOGGED_FAILURES)
    for reason, count in Counter(result.reason for result in told).most_common():
        log.warning("%d of these: %s: %s", count, reason, sentence(reason))
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    if withheld:
        log.info("%d of %d tasks are withheld for the blind audit", len(withheld), len(results))
    num_told = len(results) - len(failed) - len(withheld)
    log.info("%d of %d tasks predicted%s", num_told, len(results), f" ({counts})" if counts else "")
