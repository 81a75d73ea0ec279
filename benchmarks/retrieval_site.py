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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import httpx

from backend.commands.demo.background_process import BackgroundProcess
from backend.commands.demo.local_label_studio import LocalLabelStudio
from backend.label_studio.client import LabelStudioClient, Project, TaskRegions
from benchmarks.report import wait_until
from label_config.ready_made import ready_made

UNTIL_S = 900.0


class MeasuringFailed(Exception):
    """What was waited for did not come."""


@dataclass(frozen=True, slots=True)
class MeasuredLabelStudio(LocalLabelStudio):
    """`patience_s`: how long it waits for a backend's predictions, 100 s unless its operator says otherwise."""

    patience_s: float = 100.0

    @classmethod
    def with_patience(cls, data_dir: Path, patience_s: float) -> Self:
        return replace(cls.planned(data_dir), patience_s=patience_s)

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

    def __exit__(self, *raised: object) -> None:
        self._running.close()


class Site:
    """Label Studio as its API shows it. `client` is of its owner."""

    def __init__(self, server: MeasuredLabelStudio, client: LabelStudioClient) -> None:
        self.client = client
        self.server = server

    def new_project(self, title: str, pictures: str, num_tasks: int) -> Project:
        """A project with one task for each of the first `num_tasks` pictures."""
        project = self.client.create_project(title, ready_made("garments.zh"))
        tasks = [{"data": {"image": f"{pictures}/{number}.png"}} for number in range(num_tasks)]
        self._ask("POST", f"/api/projects/{project.id}/import", 120.0, json=tasks).raise_for_status()
        return project

    def num_predictions(self, project_id: int) -> int:
        """-1 while Label Studio is away."""
        params = {"include": "total_predictions_number"}
        try:
            reply = self._ask("GET", f"/api/projects/{project_id}", 30.0, params=params)
            return int(reply.raise_for_status().json()["total_predictions_number"])
        except httpx.HTTPError:
            return -1

    def click(self, project_id: int, limit_s: float) -> str:
        """Label Studio's action Retrieve Predictions on all tasks; return what the user is told."""
        chosen = {"selectedItems": {"all": True, "excluded": []}, "filters": {"conjunction": "and", "items": []}}
        params = {"id": "retrieve_tasks_predictions", "project": project_id}
        reply = self._ask("POST", "/api/dm/actions", limit_s, params=params, json=chosen)
        body = reply.json()
        return f"{reply.status_code}: {body.get('detail', body) if isinstance(body, dict) else body}"

    def _ask(self, method: str, path: str, timeout_s: float, **what: Any) -> httpx.Response:
        headers = {"Authorization": f"Token {self.server.api_key}"}
        url = f"{self.server.url}{path}"
        return httpx.request(method, url, headers=headers, timeout=timeout_s, trust_env=False, **what)


class Click(threading.Thread):
    """One click, from the moment it is made. `said`, `seconds` and `num_there` (the predictions Label Studio has) are
    those of its return."""

    def __init__(self, site: Site, project_id: int, limit_s: float) -> None:
        super().__init__(daemon=True)
        self._site, self._project_id, self._limit_s = site, project_id, limit_s
        self._at = time.monotonic()
        self.said, self.seconds, self.num_there = "", 0.0, 0
        self.start()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._at

    def run(self) -> None:
        try:
            self.said = self._site.click(self._project_id, self._limit_s)
        except (httpx.HTTPError, ValueError) as error:
            self.said = f"no reply: {error}"
        self.seconds = self.elapsed_s
        self.num_there = max(0, self._site.num_predictions(self._project_id))

    def wait(self) -> None:
        self.join(self._limit_s)

    def say(self, what: str) -> None:
        """Print it with the time since the click."""
        print(f"{self.elapsed_s:7.1f} s  {what}", flush=True)


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


def wait_for(what: str, reached: Callable[[], bool], every_s: float = 0.5) -> None:
    """Raises MeasuringFailed."""
    if not wait_until(reached, UNTIL_S, every_s):
        raise MeasuringFailed(f"{what} did not come within {UNTIL_S:.0f} s")
