"""Tasks that need no answer any more leave the counts: those Label Studio has lost, and failed ones people have done.

It is looked up when somebody looks at the status, and when Label Studio says that something changed; each time the
project itself first, then some of its tasks that wait, failed or are to be delivered, from where the last look ended.
What fails is logged and asked again later. Nothing raises.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import KW_ONLY, dataclass, field

from cachetools import LRUCache

from backend.delivery.asking import Asking, rest_s
from backend.errors import PrelabelError
from backend.label_studio.predictions import PredictionsClient, is_same_project, project_number
from backend.logs import one_line, redact
from backend.store import Store

log = logging.getLogger(__name__)

MAX_PROJECTS = 1_000
RETRY_S = 30.0
"""Where Label Studio did not answer."""
AT_ONCE = 200
"""Tasks in one call, which takes Label Studio 0.1 s."""
CALLS = 5
"""In one look. A look at all tasks, when some were deleted, has no such limit."""


@dataclass(slots=True)
class _Known:
    """`after`: where the last look ended, 0 if it saw all. `all_tasks`: tasks were deleted since."""

    after: int = 0
    all_tasks: bool = False
    look_at: float = 0.0
    is_looking: bool = False


@dataclass(slots=True, eq=False)
class GoneTasks:
    store: Store
    asking: Asking
    _: KW_ONLY
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _known: LRUCache[str, _Known] = field(default_factory=lambda: LRUCache(MAX_PROJECTS), init=False)
    _hints: dict[str, bool] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def look(self, projects: Iterable[str]) -> None:
        """Soon, at those that were not looked at just now."""
        for project in projects:
            self._look_if_due(project)

    def changed(self, number: str, *, deleted: bool = False) -> None:
        """Label Studio says so of the project with that number. `deleted`: some of its tasks are gone, which may be any
        that it was told of."""
        if not self.asking.is_possible:
            return
        with self._lock:
            is_new = number not in self._hints
            if is_new and len(self._hints) >= MAX_PROJECTS:
                return  # anybody may send a hint; what it was about is seen when somebody looks at the status
            self._hints[number] = self._hints.get(number, False) or deleted
        if is_new:
            self.asking.put(lambda: self._changed(number))

    def _changed(self, number: str) -> None:
        with self._lock:
            deleted = self._hints.pop(number)
        try:
            projects = [one.project for one in self.store.summary() if one.project.partition(".")[0] == number]
        except PrelabelError as error:
            log.info("project %s: its tasks were not looked at: %s", number, error)
            return
        for project in projects:
            self._get(project).all_tasks |= deleted
            self._look_if_due(project)

    def _get(self, project: str) -> _Known:
        with self._lock:
            return self._known.setdefault(project, _Known())

    def _look_if_due(self, project: str) -> None:
        number, known = project_number(project), self._get(project)
        with self._lock:
            due = self.monotonic() >= known.look_at and not known.is_looking
            if not self.asking.is_possible or number is None or not due:
                return
            known.is_looking = True
        put_at = self.monotonic()
        self.asking.put(lambda: self._look(project, number, known, put_at))

    def _look(self, project: str, number: int, known: _Known, put_at: float) -> None:
        wait_s = RETRY_S
        all_tasks, known.all_tasks = known.all_tasks, False
        try:
            if self.store.is_worth_asking(project, self.clock()):
                num_ended = self._ended(self.asking.client(), project, number, known, all_tasks)
                if num_ended:
                    log.info("project %s: %d tasks need no answer any more", project, num_ended)
            wait_s = rest_s(self.monotonic() - put_at)
        except PrelabelError as error:
            known.all_tasks |= all_tasks
            log.info("project %s: whether its tasks are still there: %s", project, one_line(redact(str(error))))
        finally:
            known.look_at = self.monotonic() + wait_s
            known.is_looking = False

    def _ended(self, client: PredictionsClient, project: str, number: int, known: _Known, all_tasks: bool) -> int:
        """How many rows ended. Raises PrelabelError."""
        asked_at = self.clock()
        current = client.current_project(number)
        if current is None or not is_same_project(project, current.uid):
            return self.store.project_gone(project, "project_deleted", asked_at)
        if num_back := self.store.project_back(project, self.clock()):
            log.info("project %s is in Label Studio after all: %d answers are delivered again", project, num_back)
        if client.num_tasks(number) == 0:
            return self.store.project_gone(project, "task_deleted", asked_at)
        num_ended, num_calls, after = 0, 0, 0 if all_tasks else known.after
        while all_tasks or num_calls < CALLS:
            asked_at = self.clock()
            tasks = self.store.tasks_at_rest(project, after, AT_ONCE, asked_at, told=all_tasks)
            num_ended += self._ended_of(client, project, number, {task for _, task in tasks}, asked_at) if tasks else 0
            num_calls += 1
            after = tasks[-1][0] if len(tasks) == AT_ONCE else 0
            if not after:
                break
        known.after = after
        return num_ended

    def _ended_of(
        self, client: PredictionsClient, project: str, number: int, tasks: Collection[int], asked_at: float
    ) -> int:
        there = client.num_annotations(number, tasks)
        gone, done = set(tasks) - there.keys(), {task for task, num in there.items() if num}
        num_gone = self.store.tasks_gone(project, gone, "task_deleted", asked_at) if gone else 0
        return num_gone + (self.store.tasks_done_by_people(project, done, asked_at) if done else 0)
