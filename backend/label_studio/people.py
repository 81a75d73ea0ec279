"""What people did with the tasks of a project, read page by page. Every call is a GET: nothing is ever changed.

Measured on Label Studio 1.23.2. A task's `updated_at` rises whenever one of its annotations is made, changed or deleted
(by API, form or Data Manager), and for much else. An annotation is counted a moment after that, and a transaction may
be seen late: who asks for what changed since a time asks from a while before it (`reading.OVERLAP_S`). The export has
each annotation with a snapshot of the prediction that there was when it was made, but leaves a file on the server each
time; what is read here has none, so it is told from the task's predictions and when they were made.
Raises CallFailed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backend.label_studio.predictions import PredictionsClient

PAGE = 500
"""Tasks in one answer of `changed`."""
LABELLED_AT_ONCE = 100
"""Tasks to ask `people_on` for: with annotations and predictions, some KB each."""
_ANNOTATION = (
    "id", "result", "completed_by", "was_cancelled", "ground_truth", "created_at", "updated_at", "lead_time",
    "parent_prediction",
)  # fmt: skip
_CONTROLS = ("choices", "taxonomy", "text", "rating", "number")
_TASK = "id,updated_at,total_annotations,cancelled_annotations"


@dataclass(frozen=True, slots=True)
class Extent:
    """Of a whole project. `changed_at`: when a task last changed, by Label Studio's clock, in seconds since the
    epoch. `num_skipped_tasks`: tasks that anybody skipped."""

    changed_at: float
    num_tasks: int
    num_submitted: int
    num_skipped_tasks: int


@dataclass(frozen=True, slots=True)
class ChangedTask:
    task_id: int
    changed_at: float
    has_annotations: bool


@dataclass(frozen=True, slots=True)
class PeopleOn:
    """One task. `annotations` are as an export has them, without people's names and with no other regions than those of
    a form's controls. `predictions`: score and regions by model version."""

    task_id: int
    changed_at: float
    annotations: tuple[Mapping[str, Any], ...]
    predictions: Mapping[str, Mapping[str, Any]]


class PeopleClient(PredictionsClient):
    """Safe to use from several threads at once."""

    def extent(self, project_id: int) -> Extent:
        newest = self._page(project_id, {"ordering": ["-tasks:updated_at"]}, page_size=1, include=_TASK)
        of_skipped = {"filters": _all(_greater("cancelled_annotations", 0))}
        skipped = self._page(project_id, of_skipped, page_size=1, include=_TASK)
        with self._read_as_expected():
            changed_at = max((seconds(task["updated_at"]) for task in newest["tasks"]), default=0.0)
            return Extent(changed_at, int(newest["total"]), int(newest["total_annotations"]), int(skipped["total"]))

    def changed(self, project_id: int, since: float, after: int) -> list[ChangedTask]:
        """The first PAGE of the tasks that changed at `since` or later and have a number above `after`, in order: a
        task that changes meanwhile moves no other one to a page that was read already."""
        time = {
            "filter": "filter:tasks:updated_at",
            "operator": "greater_or_equal",
            "type": "Datetime",
            "value": datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        query = {"filters": _all(time, _greater("id", after)), "ordering": ["tasks:id"]}
        found = self._page(project_id, query, page_size=PAGE, include=_TASK)
        with self._read_as_expected():
            return [
                ChangedTask(
                    int(task["id"]),
                    seconds(task["updated_at"]),
                    int(task["total_annotations"]) + int(task["cancelled_annotations"]) > 0,
                )
                for task in found["tasks"]
            ]

    def people_on(self, project_id: int, task_ids: Sequence[int]) -> list[PeopleOn]:
        """Those of `task_ids` that are still there. Raises CallFailed of the kind "too_large" for more than fits."""
        query = {"selectedItems": {"all": False, "included": sorted(task_ids)}}
        names = ",".join(dict.fromkeys(("id", "updated_at", "annotations", "predictions", *_ANNOTATION)))
        found = self._page(project_id, query, page_size=len(task_ids), include=names, fields="all")
        with self._read_as_expected():
            return [_people_on(task) for task in found["tasks"]]

    def data_of(self, project_id: int, task_ids: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """The data of those of `task_ids` that are still there, by number; addresses as they were imported. At most
        PAGE."""
        query = {"selectedItems": {"all": False, "included": sorted(task_ids)}}
        found = self._page(project_id, query, page_size=len(task_ids), include="id,data")
        with self._read_as_expected():
            return {int(task["id"]): dict(task["data"]) for task in found["tasks"]}


def seconds(time: str) -> float:
    """Label Studio's way to write a time, in seconds since the epoch. Raises ValueError and TypeError."""
    read = datetime.fromisoformat(time)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _people_on(task: Mapping[str, Any]) -> PeopleOn:
    predictions = sorted(task["predictions"], key=lambda one: seconds(one["created_at"]))
    return PeopleOn(
        int(task["id"]),
        seconds(task["updated_at"]),
        tuple(_annotation(one, predictions) for one in task["annotations"]),
        {
            str(one["model_version"] or ""): {"score": one["score"], "result": _regions(one["result"])}
            for one in predictions
        },
    )


def _annotation(found: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """With the prediction there was: the one it was made from, else the newest that was made before it."""
    made_at = seconds(found["created_at"])
    seen = [one for one in predictions if seconds(one["created_at"]) <= made_at][-1:]
    seen = [one for one in predictions if one["id"] == found["parent_prediction"]] or seen
    kept = {name: found[name] for name in _ANNOTATION}
    return kept | {
        "result": _regions(found["result"]),
        "prediction": {"model_version": str(seen[0]["model_version"] or "")} if seen else {},
    }


def _regions(result: Any) -> list[dict[str, Any]]:
    """What a form's controls hold: no boxes, no masks of megabytes."""
    found = []
    for region in result if isinstance(result, list) else ():
        value = region.get("value") if isinstance(region, dict) else None
        kept = {name: value[name] for name in _CONTROLS if name in value} if isinstance(value, dict) else {}
        if kept:
            names = ("from_name", "origin", "score")
            found.append({name: region[name] for name in names if name in region} | {"value": kept})
    return found


def _all(*items: Mapping[str, Any]) -> dict[str, Any]:
    return {"conjunction": "and", "items": items}


def _greater(name: str, than: int) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{name}", "operator": "greater", "type": "Number", "value": than}
