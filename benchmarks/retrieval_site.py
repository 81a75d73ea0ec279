"""The servers of the retrieval benchmark, and what it does to them: click, count, kill outright, start again.

Label Studio and the backends are real, each a process of its own on loopback. Raises MeasuringFailed when something
that must come does not come in time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from backend.commands.demo.background_process import BackgroundProcess
from backend.commands.demo.local_label_studio import LocalLabelStudio
from backend.label_studio.client import LabelStudioClient, Project, TaskRegions
from label_config.ready_made import ready_made

UNTIL_S = 900.0


class MeasuringFailed(Exception):
    """What was waited for did not come."""


@dataclass(frozen=True, slots=True)
class MeasuredLabelStudio(LocalLabelStudio):
    """`patience_s`: how long it waits for a backend's predictions, 100 s unless its operator says otherwise."""

    patience_s: float = 100.0

    def environment(self, program: Path) -> dict[str, str]:
        return LocalLabelStudio.environment(self, program) | {"ML_TIMEOUT_PREDICT": str(self.patience_s)}


class Server:
    """A server that can be killed outright and started again where it was. `start` returns once it answers."""

    def __init__(self, name: str, start: Callable[[], AbstractContextManager[BackgroundProcess]]) -> None:
        self.name = name
        self._start = start
        self._running = ExitStack()

    def kill(self) -> None:
        """SIGKILL to the whole process group: nothing gets to say goodbye."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._running.close()

    def start(self) -> None:
        self._process = self._running.enter_context(self._start())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.close()


class Site:
    """Label Studio as its API shows it. `client` is of its owner."""

    def __init__(self, server: LocalLabelStudio, client: LabelStudioClient) -> None:
        self.client = client
        self._url = server.url
        self._headers = {"Authorization": f"Token {server.api_key}"}

    def new_project(self, title: str, pictures: str, num_tasks: int) -> Project:
        """A project with one task for each of the first `num_tasks` pictures."""
        project = self.client.create_project(title, ready_made("garments.zh"))
        tasks = [{"data": {"image": f"{pictures}/{number}.png"}} for number in range(num_tasks)]
        url = f"{self._url}/api/projects/{project.id}/import"
        httpx.post(url, json=tasks, headers=self._headers, timeout=120, trust_env=False).raise_for_status()
        return project

    def num_predictions(self, project_id: int) -> int:
        """-1 while Label Studio is away."""
        params = {"include": "total_predictions_number"}
        try:
            reply = httpx.get(
                f"{self._url}/api/projects/{project_id}",
                params=params,
                headers=self._headers,
                timeout=30,
                trust_env=False,
            )
            return int(reply.raise_for_status().json()["total_predictions_number"])
        except httpx.HTTPError:
            return -1

    def click(self, project_id: int, limit_s: float) -> str:
        """Label Studio's action Retrieve Predictions on all tasks; return what the user is told."""
        reply = httpx.post(
            f"{self._url}/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project_id},
            json={"selectedItems": {"all": True, "excluded": []}, "filters": {"conjunction": "and", "items": []}},
            headers=self._headers,
            timeout=limit_s,
            trust_env=False,
        )
        body = reply.json()
        return f"{reply.status_code}: {body.get('detail', body) if isinstance(body, dict) else body}"


class Click(threading.Thread):
    """One click, from the moment it is made. `said`, `seconds` and `num_there` (the predictions Label Studio has) are
    those of its return."""

    def __init__(self, site: Site, project_id: int, limit_s: float) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._project_id = project_id
        self._limit_s = limit_s
        self.at = time.monotonic()
        self.said = ""
        self.seconds = 0.0
        self.num_there = 0
        self.start()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.at

    def run(self) -> None:
        try:
            self.said = self._site.click(self._project_id, self._limit_s)
        except (httpx.HTTPError, ValueError) as error:
            self.said = f"no reply: {error}"
        self.seconds = self.elapsed_s
        self.num_there = max(0, self._site.num_predictions(self._project_id))


@dataclass(frozen=True, slots=True)
class Count:
    """What Label Studio has of a project. `duplicates` are predictions beyond a task's first, `shared_region_ids`
    those that more than one region has."""

    tasks: int
    predictions: int
    without: int
    duplicates: int
    shared_region_ids: int
    model_versions: tuple[str, ...]

    @property
    def exactly_one_each(self) -> bool:
        whole = not (self.without or self.duplicates or self.shared_region_ids)
        return whole and self.predictions == self.tasks and len(self.model_versions) == 1


def count(task_ids: Iterable[int], predictions: Iterable[TaskRegions]) -> Count:
    """Raises MeasuringFailed for predictions of other tasks, which would hide a loss."""
    tasks, found = set(task_ids), list(predictions)
    each = Counter(prediction.task_id for prediction in found)
    if strangers := each.keys() - tasks:
        raise MeasuringFailed(f"there are predictions of tasks that are not in the project: {sorted(strangers)[:5]}")
    regions = Counter(str(region["id"]) for prediction in found for region in prediction.regions)
    return Count(
        tasks=len(tasks),
        predictions=len(found),
        without=len(tasks - each.keys()),
        duplicates=len(found) - len(each),
        shared_region_ids=sum(num > 1 for num in regions.values()),
        model_versions=tuple(sorted({prediction.model_version for prediction in found})),
    )


def wait_for(what: str, reached: Callable[[], bool], limit_s: float = UNTIL_S, every_s: float = 0.5) -> None:
    """Raises MeasuringFailed."""
    until = time.monotonic() + limit_s
    while not reached():
        if time.monotonic() > until:
            raise MeasuringFailed(f"{what} did not come within {limit_s:.0f} s")
        time.sleep(every_s)
