"""What each project has changed: its extra params, and the model versions it was given.

Label Studio sends the model settings' "extra params" to /setup only, so they are remembered per project, on disk too.
When a title or an address is changed there, it tries the backend without them first, and sends them a moment later: one
/setup without them says nothing, a second in a row says that there are none any more. (Label Studio 1.23.2.)
A label config is never remembered: each /predict brings its own. Raises nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from cachetools import FIFOCache

from backend.predict.options import ProjectOptions, read_options
from backend.store.state_file import StateFile

log = logging.getLogger(__name__)

MAX_PROJECTS = 1_000


class ProjectBook:
    """Options by project, the least recently used forgotten beyond `max_projects`. Use it from one event loop."""

    def __init__(self, file: StateFile, defaults: ProjectOptions, max_projects: int = MAX_PROJECTS) -> None:
        self._file = file
        self._defaults = defaults
        self._changes: FIFOCache[str, dict[str, Any]] = FIFOCache(max_projects)
        self._versions: FIFOCache[str, str] = FIFOCache(max_projects)
        self._tried: set[str] = set()
        """Projects with extra params whose last /setup came without them."""
        self._saving = asyncio.Lock()
        self._is_saved = True
        for project, changes in file.load().items():
            if isinstance(changes, dict):
                self._changes[project] = changes

    def options(self, project: str) -> ProjectOptions:
        """What applies to `project`; the defaults if /setup never spoke of it."""
        return read_options(self._changes.get(project), self._defaults)[0]

    async def remember(self, project: str, extra_params: object) -> list[str]:
        """Keep the extra params of `project`, on disk if they changed. Returns warnings about them."""
        if extra_params is None and project in self._changes and project not in self._tried:
            self._tried.add(project)
            return []
        self._tried.discard(project)
        share = self.options(project).audit_share
        options, warnings = read_options(extra_params, self._defaults.model_copy(update={"audit_share": share}))
        for warning in warnings:
            log.warning("project %s: %s", project, warning)
        usual = self._defaults.model_dump()
        changes = {k: v for k, v in options.model_dump().items() if v != usual[k]}
        before = self._changes.pop(project, {})
        if changes:
            if len(self._changes) >= self._changes.maxsize:
                log.warning(
                    "more than %d projects have extra params: those of project %s do not hold until its next /setup",
                    self._changes.maxsize, next(iter(self._changes)),
                )  # fmt: skip
            self._changes[project] = changes
            self._tried &= self._changes.keys()
        if changes != before:
            self._is_saved = False
        if not self._is_saved:
            await self._save()
        return warnings

    def note_version(self, project: str, model_version: str) -> None:
        self._versions.pop(project, None)
        self._versions[project] = model_version

    def versions(self, project: str | None = None) -> list[str]:
        """The model versions given out since the start, newest first; of one project if it is named."""
        chosen = [v for p, v in self._versions.items() if project in (None, "", p, p.partition(".")[0])]
        return list(dict.fromkeys(reversed(chosen)))

    async def _save(self) -> None:
        """The file is written whole: all that change something meanwhile wait for one more time, which is theirs."""
        async with self._saving:
            if self._is_saved:
                return
            self._is_saved = True
            try:
                await asyncio.to_thread(self._file.save, dict(self._changes))
            except OSError as error:
                self._is_saved = False
                log.warning("the projects' extra params could not be saved: %s", error.strerror)
