"""Our tabs in the Data Managers of the projects that ask: one sorted when it can be, one counted for the status page.

What fails is logged and asked again later. Nothing raises. A project of the same number in another Label Studio is left
alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachetools import LRUCache

from backend.delivery.asking import Asking, rest_s
from backend.errors import PrelabelError
from backend.label_studio.predictions import PredictionsClient, is_same_project, project_number
from backend.label_studio.tabs import Tabs, arrange_tabs, is_review_tab, num_to_review, sort_doubt_tab
from backend.logs import one_line, redact

log = logging.getLogger(__name__)

MAX_PROJECTS = 1_000
RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class ReviewLeft:
    """How many tasks needed review and were not completed when last looked, and the tab that shows them; None if people
    have changed what it shows. Label Studio had been told of `num_told` such tasks then, ever."""

    tab: int | None
    num_tasks: int
    num_told: int


@dataclass(slots=True)
class _Known:
    """`title` is not None once the project may have been emptied."""

    tabs: Tabs | None = None
    title: str | None = None
    left: ReviewLeft | None = None
    look_at: float = 0.0
    is_looking: bool = False


class ProjectTabs:
    """Where nothing can be asked, nothing is done and nothing known."""

    def __init__(self, asking: Asking, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._asking = asking
        self._monotonic = monotonic
        self._known: LRUCache[str, _Known] = LRUCache(MAX_PROJECTS)
        self._lost_tasks: LRUCache[str, bool] = LRUCache(MAX_PROJECTS)
        self._lock = threading.Lock()

    def asked(self, project: str, title: str) -> None:
        """Tasks of it were sent here, so it can be sorted. `title`: of its tab of what needs review, "" for none."""
        known = self._get(project)
        with self._lock:
            if self._lost_tasks.pop(project.partition(".")[0], False):
                known.tabs, known.title, known.look_at = None, title, 0.0
        if not (known.tabs and known.tabs.is_sorted):
            self._look_if_due(project, known, None)

    def tasks_deleted(self, project: str) -> None:
        """With the last task of a project Label Studio deletes all its tabs; ours come back with the next tasks."""
        with self._lock:
            self._lost_tasks[project.partition(".")[0]] = True

    def left(self, told: Mapping[str, int]) -> dict[str, ReviewLeft]:
        """What is known now; what was not just looked up is, for the next time. `told`, by project: of how many
        tasks that need review Label Studio has been told."""
        found: dict[str, ReviewLeft] = {}
        for project, num_told in told.items():
            known = self._get(project)
            if known.left is not None:
                found[project] = known.left
            self._look_if_due(project, known, num_told)
        return found

    def _get(self, project: str) -> _Known:
        with self._lock:
            return self._known.setdefault(project, _Known())

    def _look_if_due(self, project: str, known: _Known, num_told: int | None) -> None:
        """Without `num_told` nobody wants the number: what it was before the first answers would be told after them."""
        number = project_number(project)
        with self._lock:
            if not self._asking.is_possible or number is None or known.is_looking or self._monotonic() < known.look_at:
                return
            known.is_looking = True
        put_at = self._monotonic()
        self._asking.put(lambda: self._look(project, number, known, num_told, put_at))

    def _look(self, project: str, number: int, known: _Known, num_told: int | None, put_at: float) -> None:
        wait_s = RETRY_S
        try:
            client = self._asking.client()
            if known.tabs is None or not known.tabs.is_sorted:
                current = client.current_project(number)
                ours = current is not None and is_same_project(project, current.uid)
                known.tabs = self._arranged(client, number, known) if ours else None
            tab = known.tabs.review if known.tabs else None
            if tab is None:
                known.left = None
            elif num_told is not None:
                shown = tab if is_review_tab(client, tab) else None
                known.left = ReviewLeft(shown, num_to_review(client, number), num_told)
            wait_s = rest_s(self._monotonic() - put_at)
        except PrelabelError as error:
            known.tabs = None  # someone may have deleted one
            log.info("project %s: its tabs in the Data Manager: %s", project, one_line(redact(str(error))))
        finally:
            known.look_at = self._monotonic() + wait_s
            known.is_looking = False

    def _arranged(self, client: PredictionsClient, number: int, known: _Known) -> Tabs:
        """A tab that people removed is not made again, unless all are gone as they are when a project was emptied."""
        tabs = sort_doubt_tab(client, number)
        if known.title is not None and (tabs.review, tabs.doubt) == (None, None):
            tabs = arrange_tabs(client, number, known.title)
        known.title = None
        return tabs
