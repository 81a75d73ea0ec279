"""What each project has changed: its extra params, and the model versions it was given.

Label Studio sends the model settings' "extra params" to /setup only, so they are remembered per project, on disk too.
When a title or an address is changed there, it tries the backend without them first, and sends them a moment later: one
/setup without them says nothing, a second in a row says that there are none any more. (Label Studio 1.23.2.)
A label config is never remembered: each /predict brings its own.
While the store has a blind audit of a project, its extra params are not forgotten: without them it would end, and what
was shown once cannot be withheld again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from cachetools import FIFOCache

from backend.errors import StoreError
from backend.logs import tell
from backend.predict.options import ProjectOptions, read_options
from backend.store.audit import MAX_SHARE
from backend.store.state_file import StateFile
from backend.store.threads import in_thread

log = logging.getLogger(__name__)

MAX_PROJECTS = 1_000
MAX_BYTES = 4 * 2**20
"""Of all extra params as they are written, at every change. Those of one project may be 300 KB, those of most are 1."""
SHOWN_PROJECTS = 10

Audited = Callable[[], Mapping[str, tuple[float, str]]]
"""Of each project with a blind audit, its share and its last options, as JSON. Blocks. Raises StoreError."""


class ProjectBook:
    """Options by project; beyond `max_projects` those told first are forgotten, but for those with a blind audit, and
    beyond `max_bytes` the longest, but for their share of it. Use it from one event loop. Nothing but `keep_audited`
    raises."""

    def __init__(
        self,
        file: StateFile,
        defaults: ProjectOptions,
        max_projects: int = MAX_PROJECTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._file = file
        self._defaults = defaults
        self._max_projects = max_projects
        self._max_bytes = max_bytes
        self._audited: Audited = dict
        self._changes: dict[str, dict[str, Any]] = {}
        self._num_bytes: dict[str, int] = {}
        self._versions: FIFOCache[str, str] = FIFOCache(max_projects)
        self._tried: set[str] = set()
        """Projects with extra params whose last /setup came without them."""
        self._saving = asyncio.Lock()
        self._is_saved = True
        self._is_late = False
        """What the disk would not take waits for the next /setup; nobody else waits for what others have changed."""
        damaged = []
        for project, changes in file.load().items():
            if not isinstance(changes, dict) or read_options(changes, defaults)[1]:
                damaged.append(project)
            if isinstance(changes, dict):
                self._put(project, changes)
        if damaged:
            log.warning(
                "projects.json says of %d projects what cannot be used; the rest holds, until their next /setup. They "
                "are %s", len(damaged), _some(damaged),
            )  # fmt: skip
        self._shorten()

    def keep_audited(self, audited: Audited) -> None:
        """Forget none of those from now on; what the file has lost of them is as it was at their last task. Raises
        StoreError."""
        self._audited = audited
        lost = {name: found for name, found in audited().items() if not self._is_whole(name)}
        damaged = []
        for project, (share, options) in lost.items():
            last, problems = read_options(options, self._defaults)
            told, no_share = read_options({"audit_share": share}, self._defaults)
            share = MAX_SHARE if no_share else told.audit_share
            self._put(project, self._changed(last.model_copy(update={"audit_share": share})))
            if problems or no_share:
                damaged.append(project)
        if lost:
            self._is_saved, self._is_late = False, True
            log.warning(
                "the extra params of %d projects with a blind audit are not in projects.json: those of their last task "
                "hold, until their next /setup. They are %s", len(lost), _some(lost),
            )  # fmt: skip
        if damaged:
            log.warning(
                "of %d of them the store, too, says what cannot be used: the rest holds, and an audit_share that is "
                "none is %g. They are %s", len(damaged), MAX_SHARE, _some(damaged),
            )  # fmt: skip
        self._shorten()

    def _is_whole(self, project: str) -> bool:
        """Whether the file tells of it all that it was told of a project that has, or had, a blind audit."""
        changes = self._changes.get(project)
        return changes is not None and "audit_share" in changes and not read_options(changes, self._defaults)[1]

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
        changes = self._changed(options)
        is_new = bool(changes) and project not in self._changes
        kept = await self._kept() if is_new else ()
        before = self._forget(project)
        if before.get("audit_share") is not None:
            changes.setdefault("audit_share", 0.0)  # that it was ended is in the file before the store hears of it
        if changes:
            if is_new:
                self._make_room(kept)
            self._put(project, changes)
            self._tried &= self._changes.keys()
            if project in self._shorten():
                warnings.append(
                    f"the extra params of all projects are longer than {self._max_bytes:,} bytes, and these are the "
                    "longest: only their audit_share holds. Make them shorter"
                )
        tell(log, project, warnings)
        if changes != before:
            self._is_saved = False
        if changes != before or self._is_late:
            await self._save()
        return warnings

    def _changed(self, options: ProjectOptions) -> dict[str, Any]:
        usual = self._defaults.model_dump()
        return {key: value for key, value in options.model_dump().items() if value != usual[key]}

    async def _kept(self) -> Collection[str]:
        """The projects that make no room for one more, where there is none."""
        if len(self._changes) < self._max_projects:
            return ()
        try:
            return await in_thread(self._audited)
        except StoreError as error:
            log.warning("which projects have a blind audit cannot be read, so none is forgotten: %s", error)
            return set(self._changes)

    def _make_room(self, kept: Collection[str]) -> None:
        """For one more; not where all are `kept`: each of those has tasks in the store."""
        while len(self._changes) >= self._max_projects:
            oldest = next((project for project in self._changes if project not in kept), None)
            if oldest is None:
                return
            self._forget(oldest)
            log.warning(
                "more than %d projects have extra params: those of project %s do not hold until its next /setup",
                self._max_projects, oldest,
            )  # fmt: skip

    def _put(self, project: str, changes: dict[str, Any]) -> None:
        self._changes[project] = changes
        self._num_bytes[project] = len(json.dumps(changes))

    def _forget(self, project: str) -> dict[str, Any]:
        self._num_bytes.pop(project, None)
        return self._changes.pop(project, {})

    def _shorten(self) -> list[str]:
        """Of the longest only the share of a blind audit, until all are as short as they have to be: one who is told
        much takes the room of nobody who is told little. Returns whose were shortened."""
        shortened: list[str] = []
        while sum(self._num_bytes.values()) > self._max_bytes:
            longest = max(self._num_bytes, key=self._num_bytes.__getitem__)
            if longest in shortened:  # nothing is long any more
                break
            share = self._forget(longest).get("audit_share")
            if share is not None:
                self._put(longest, {"audit_share": share})
            shortened.append(longest)
        if shortened:
            self._is_saved, self._is_late = False, True
            log.warning(
                "the extra params of all projects are longer than %d bytes: those of the %d longest do not hold, but "
                "for audit_share, until their next /setup. They are %s",
                self._max_bytes, len(shortened), _some(shortened),
            )  # fmt: skip
        return shortened

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
            self._is_saved, self._is_late = True, False
            try:
                await asyncio.to_thread(self._file.save, dict(self._changes))
            except OSError as error:
                self._is_saved, self._is_late = False, True
                log.warning("the projects' extra params could not be saved: %s", error.strerror)


def _some(projects: Iterable[str]) -> str:
    named = [*projects]
    return ", ".join(named[:SHOWN_PROJECTS]) + (", ..." if len(named) > SHOWN_PROJECTS else "")
