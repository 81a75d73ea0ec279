"""Label configs that Label Studio tells of: each brings the tasks of its project to a new version, which may take as
long as there are tasks. One project once at a time, under the config told last; a few projects at once, in turn.

Knows nothing of what that does. Use it from one event loop. Nothing raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.errors import StoreError
from backend.store.threads import in_thread

AT_ONCE = 2


@dataclass(slots=True, eq=False)
class Renewals:
    """`renew`, of a project and a label config ("": the one it has), blocks and returns the model version; `renewed` is
    told of it, `failed` of the store's trouble: the next request tells the config again."""

    renew: Callable[[str, str], str]
    renewed: Callable[[str, str], None]
    failed: Callable[[StoreError], None]
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE), init=False)
    _told: dict[str, str] = field(default_factory=dict, init=False)
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)

    def ask(self, project: str, label_config: str = "") -> None:
        """Renew `project`, soon: once more where that is under way, and once for all who ask meanwhile."""
        self._told[project] = label_config or self._told.get(project, "")
        if project not in self._running:
            self._running[project] = asyncio.create_task(self._run(project))

    async def _run(self, project: str) -> None:
        try:
            while project in self._told:
                async with self._places:
                    label_config = self._told.pop(project)
                    await self._once(project, label_config)
        finally:
            del self._running[project]

    async def _once(self, project: str, label_config: str) -> None:
        try:
            version = await in_thread(lambda: self.renew(project, label_config))
        except StoreError as error:
            self.failed(error)
        else:
            if version:
                self.renewed(project, version)
