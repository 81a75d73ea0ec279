"""What becomes of each task of a request, and how that is counted and logged. Nothing raises."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backend.metrics import Metrics
from backend.predict.task import TaskId
from backend.reasons import Reason, sentence

log = logging.getLogger(__name__)

MAX_LOGGED_FAILURES = 50
LATE = "prelabel answered before this task's turn; ask again for the rest"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """`prediction` is Label Studio's dict; without one, there are a `reason` and a sentence."""

    task_id: TaskId
    prediction: dict[str, Any] | None = None
    reason: Reason | Literal[""] = ""
    message: str = ""


def report(results: Sequence[TaskResult], metrics: Metrics) -> None:
    failed = [result for result in results if result.prediction is None]
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
    log.info("%d of %d tasks predicted%s", len(results) - len(failed), len(results), f" ({counts})" if counts else "")
