"""Keeps the settings of projects in Label Studio such that the form is filled and scores are shown, by itself.

After a /setup, and after a delivery, it looks: where the project shows the predictions of our backend, or of a version
that was ours, or of nothing, it shows those of the present version from then on, and the backend's title is that
version (`label_studio.model_settings` says why). What a person chose otherwise stays. Predictions of earlier versions
are deleted only when a person says so, and only those that prelabel made.
Nothing is raised: `notes` say what was done and what could not be, in the log as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from cachetools import LRUCache

from backend.errors import PrelabelError
from backend.label_studio.model_settings import LiveModel, ModelSettings, ModelSettingsClient, ours
from backend.label_studio.predictions import CallFailed, is_same_project, project_number
from backend.logs import one_line, redact
from backend.store.threads import in_thread

log = logging.getLogger(__name__)

MAX_PROJECTS = 10_000
"""That are due at a time, or remembered: one that comes when so many are due is looked at after its next /setup."""
MAX_CHARS = 300

NoteKind = Literal["moved", "kept", "deleted", "failed"]


@dataclass(frozen=True, slots=True)
class Note:
    """What was done in a project's settings. moved: from `text` to the present version. kept: `text` was chosen by a
    person. deleted: `num` predictions of earlier versions. failed: `text` says why. `at`: seconds since the epoch."""

    kind: NoteKind
    at: float
    text: str = ""
    num: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """Of a project in Label Studio, when it was last looked at. `num_stale`: predictions that prelabel made under
    earlier versions."""

    title: str = ""
    num_stale: int = 0
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class UpkeepLimits:
    """Seconds. `settle_s`: until Label Studio has stored what /setup answered. `again_s`: between two looks."""

    settle_s: float = 3.0
    again_s: float = 60.0


@dataclass(slots=True, eq=False)
class Upkeep:
    """Use it from one event loop. `connect` is None where no API key is set; it may raise PrelabelError. `versions`, of
    a project, are all that prelabel ever answered under; it blocks. `forget` is called, in a thread, with a project
    whose predictions of earlier versions were deleted."""

    connect: Callable[[], ModelSettingsClient] | None
    versions: Callable[[str], Collection[str]]
    forget: Callable[[str], object] = lambda project: None
    _: KW_ONLY
    limits: UpkeepLimits = UpkeepLimits()
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    max_projects: int = MAX_PROJECTS
    known: LRUCache[str, Known] = field(init=False)
    """By project, as Label Studio names it to backends."""
    _client: ModelSettingsClient | None = field(default=None, init=False)
    _due: dict[str, tuple[float, str]] = field(default_factory=dict, init=False)
    """When, and the present version: what is due is forgotten for no other project."""
    _present: LRUCache[str, str] = field(init=False)
    _looked: LRUCache[str, tuple[str, float]] = field(init=False)
    _to_delete: set[str] = field(default_factory=set, init=False)
    _woken: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _loop: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.known = LRUCache(self.max_projects)
        self._present = LRUCache(self.max_projects)
        self._looked = LRUCache(self.max_projects)

    def start(self) -> None:
        if self.connect is not None:
            self._loop = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self, limit_s: float) -> None:
        """A call under way is left; the next look finds what it did."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop], timeout=limit_s)

    def look(self, project: str, model_version: str) -> None:
        """`model_version` is the present one of `project`: see that it is what Label Studio shows, soon. A look that is
        due is not put off by another call: pages of Label Studio may call /setup again and again."""
        if self.connect is None or project_number(project) is None:
            return
        now = self.monotonic()
        self._present[project] = model_version
        version, looked_at = self._looked.get(project, ("", float("-inf")))
        at = now + self.limits.settle_s
        at = at if version != model_version else max(at, looked_at + self.limits.again_s)
        if project in self._due or len(self._due) < self.max_projects:
            due_at, _ = self._due.get(project, (at, ""))
            self._due[project] = min(at, due_at), model_version
            self._woken.set()

    def delivered(self, project: str) -> None:
        """Label Studio has predictions of the present version by now."""
        if version := self._present.get(project):
            self.look(project, version)

    def delete_older(self, project: str) -> None:
        """Delete the predictions that prelabel made for `project` under earlier versions, soon."""
        version = self._present.get(project)
        if self.connect is not None and version:
            self._to_delete.add(project)
            self._due[project] = self.monotonic(), version
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            now = self.monotonic()
            for project in [project for project, (at, _) in self._due.items() if at <= now]:
                _, version = self._due.pop(project)
                await self._served(project, version)
            wait_s = min((at for at, _ in self._due.values()), default=now + 3_600.0) - self.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), max(0.0, wait_s))

    async def _served(self, project: str, version: str) -> None:
        delete = project in self._to_delete
        self._to_delete.discard(project)
        try:
            known = await in_thread(lambda: self._serve(project, version, delete=delete))
        except Exception as error:  # a job's border: the other projects go on
            expected = isinstance(error, PrelabelError)
            log.log(
                logging.WARNING if expected else logging.ERROR,
                "project %s: its settings in Label Studio could not be seen to: %s", project, error,
                exc_info=not expected,
            )  # fmt: skip
            self._client = None
            text = one_line(redact(str(error) if expected else "a fault in prelabel; its log says more"))[:MAX_CHARS]
            before = self.known.get(project, Known())
            known = Known(before.title, before.num_stale, Note("failed", self.clock(), text))
            if isinstance(error, CallFailed) and error.retryable:
                self._to_delete |= {project} if delete else set()
                self._due.setdefault(project, (self.monotonic() + self.limits.again_s, version))
        self._looked[project] = version, self.monotonic()
        self.known[project] = known

    def _serve(self, project: str, version: str, *, delete: bool) -> Known:
        """Blocking. Raises CallFailed, StoreError."""
        assert self.connect is not None
        client = self._client = self._client or self.connect()
        number = project_number(project)
        assert number is not None
        current = client.current_project(number)
        if current is None or not is_same_project(project, current.uid):
            return Known()
        settings = client.model_settings(number)
        versions = {*self.versions(project), version}
        note = self._kept_in_step(client, number, settings, versions, version)
        older = ours(settings, versions - {version})
        if delete:
            num = sum(client.delete_predictions(number, one) for one in older)
            client.recount(number)
            self.forget(project)
            log.info("project %s: %d predictions of earlier versions were deleted in Label Studio", project, num)
            note = Note("deleted", self.clock(), num=num)
            settings = client.model_settings(number)  # Label Studio may have unset the model_version
            self._kept_in_step(client, number, settings, versions, version)
            older = ours(settings, versions - {version})
        known = self.known.get(project, Known())
        return Known(current.title, sum(older.values()), note or (None if known.note is None else _lasting(known.note)))

    def _kept_in_step(
        self, client: ModelSettingsClient, number: int, now: ModelSettings, versions: Collection[str], version: str
    ) -> Note | None:
        """Show the predictions of `version`. None: that is so already, or our backend is not there yet."""
        backends = [one for one in now.models if one.model_version == version]
        if not backends or (now.model_version == version and any(one.title == version for one in backends)):
            return None
        backend = _shown(backends, now.model_version)
        if now.model_version not in ("", backend.title, *versions):
            log.info("project %d shows the predictions of %r, which a person chose", number, now.model_version)
            return Note("kept", self.clock(), one_line(now.model_version)[:MAX_CHARS])
        if backend.title != version:
            client.rename_model(number, backend, version)
        if now.model_version not in (version, backend.title):
            client.choose_model_version(number, version)
        log.info(
            "project %d: its model_version in Label Studio was %r and is %s now, as is the title of the ML backend "
            "%r: only so does Label Studio fill the form and show scores",
            number, now.model_version, version, backend.title,
        )  # fmt: skip
        before = backend.title if now.model_version in ("", version) else now.model_version
        return Note("moved", self.clock(), one_line(before)[:MAX_CHARS])


def _shown(backends: list[LiveModel], model_version: str) -> LiveModel:
    """Of several entries for this backend, the one that the project shows."""
    return next((one for one in backends if one.title == model_version), backends[0])


def _lasting(note: Note) -> Note | None:
    """What is still worth telling when a later look found nothing to do."""
    return note if note.kind in ("moved", "deleted") else None
