"""A project of Label Studio as `reading` meets it: tasks that people label, change and delete."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from backend.label_studio.people import PAGE, ChangedTask, Extent, PeopleOn
from backend.label_studio.predictions import CallFailed, CurrentProject

PROJECT = "12.1700000000"
VERSION = "garments-nf4-0123456789ab"


@dataclass
class FakePeople:
    """`fail` calls end with CallFailed. More than `max_at_once` tasks are too large for one reply, and so is each of
    `huge`; on each of `faulty` Label Studio fails, `num_faults` times in all. `asked` lists the tasks that were asked
    for with their annotations."""

    project: str = PROJECT
    now: float = 1_700_000_000.0
    tasks: dict[int, PeopleOn] = field(default_factory=dict)
    asked: list[tuple[int, ...]] = field(default_factory=list)
    huge: set[int] = field(default_factory=set)
    faulty: set[int] = field(default_factory=set)
    num_faults: float = math.inf
    max_at_once: int = 1_000
    fail: int = 0

    def add(self, *task_ids: int, predicted: str = "") -> None:
        for task_id in task_ids:
            self._set(task_id, (), {predicted: prediction()} if predicted else {})

    def annotate(self, task_id: int, **more: Any) -> int:
        """Return the annotation's number."""
        self.now += 1_000.0
        task = self.tasks[task_id]
        number = 1 + max((one["id"] for all_ in self.tasks.values() for one in all_.annotations), default=0)
        made = annotation(id=number, created_at=self.time, updated_at=self.time, **more)
        self._set(task_id, (*task.annotations, made), task.predictions)
        return number

    def change(self, task_id: int, **more: Any) -> None:
        """Its only annotation."""
        self.now += 1_000.0
        [one] = self.tasks[task_id].annotations
        self._set(task_id, ({**one, **more, "updated_at": self.time},), self.tasks[task_id].predictions)

    def delete_annotations(self, task_id: int) -> None:
        self._set(task_id, (), self.tasks[task_id].predictions)

    def _set(self, task_id: int, annotations: Sequence[Any], predictions: Any) -> None:
        self.now += 1.0
        self.tasks[task_id] = PeopleOn(task_id, self.now, tuple(annotations), predictions)

    @property
    def time(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).isoformat().replace("+00:00", "Z")

    def current_project(self, project_id: int) -> CurrentProject | None:
        return CurrentProject(self.project, "") if self.project else None

    def missing_tasks(self, project_id: int, task_ids: Collection[int]) -> frozenset[int]:
        return frozenset(task_ids) - self.tasks.keys()

    def extent(self, project_id: int) -> Extent:
        annotations = [one for task in self.tasks.values() for one in task.annotations]
        return Extent(
            max((task.changed_at for task in self.tasks.values()), default=0.0),
            len(self.tasks),
            sum(not one["was_cancelled"] for one in annotations),
            sum(any(one["was_cancelled"] for one in task.annotations) for task in self.tasks.values()),
        )

    def changed(self, project_id: int, since: float, after: int) -> list[ChangedTask]:
        found = [task for number, task in sorted(self.tasks.items()) if number > after and task.changed_at >= since]
        return [ChangedTask(task.task_id, task.changed_at, bool(task.annotations)) for task in found[:PAGE]]

    def people_on(self, project_id: int, task_ids: Sequence[int]) -> list[PeopleOn]:
        if self.fail:
            self.fail -= 1
            raise CallFailed("Label Studio did not answer in time.", "busy")
        if len(task_ids) > self.max_at_once or self.huge & set(task_ids):
            raise CallFailed("too large", "too_large")
        if self.num_faults > 0 and self.faulty & set(task_ids):
            self.num_faults -= 1
            raise CallFailed("Label Studio answered 500", "busy", is_fault=True)
        self.asked.append(tuple(task_ids))
        return [self.tasks[number] for number in task_ids if number in self.tasks]


def annotation(season: str = "winter", **more: Any) -> dict[str, Any]:
    """As `PeopleClient` gives it."""
    return {
        "result": regions(season), "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 12.5,
        "parent_prediction": None, "prediction": {}, **more,
    }  # fmt: skip


def prediction(season: str = "winter", score: float = 0.9) -> dict[str, Any]:
    return {"score": score, "result": [{**region, "score": score} for region in regions(season)]}


def regions(season: str) -> list[dict[str, Any]]:
    return [
        {"from_name": "season", "value": {"choices": [season]}},
        {"from_name": "category", "value": {"taxonomy": [["服饰", "女装", "连衣裙"]]}},
    ]


def seen(version: str = VERSION) -> dict[str, Any]:
    """Of an annotation whose form was filled with a prediction."""
    return {"parent_prediction": 5, "prediction": {"model_version": version}}
