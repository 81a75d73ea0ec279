"""One project's model for one request: its label config joined with its options, and the `Core` that answers.

Both doors use it, `backend.api.app` and the plug-in of `backend.api.plugin`. Knows no HTTP and no label-studio-ml.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from backend.errors import ConfigRefused
from backend.predict.label_configs import schema_of
from backend.predict.recipe import Recipe
from backend.predict.task import TaskInput
from backend.queue.ask import Ask
from backend.queue.results import TaskResult
from backend.queue.service import Core
from label_config.schema import LabelSchema


@dataclass(frozen=True, slots=True)
class ProjectModel:
    """`project` as Label Studio names it to backends; empty where a server of label-studio-ml's does not say.
    `label_config` is the text the schema was read from."""

    core: Core
    project: str
    schema: LabelSchema
    label_config: str

    @classmethod
    def of_config(cls, core: Core, project: str, label_config: str | None) -> Self:
        """Raises ConfigRefused when there is no label config, or one that cannot be honoured."""
        if not label_config:
            raise ConfigRefused("There is no label config yet: save one in the project's settings first.")
        return cls(core, project, schema_of(label_config), label_config)

    @property
    def recipe(self) -> Recipe:
        return self.core.recipe(self.project, self.schema)

    def note_version(self) -> str:
        """Return the model version of this project, which /versions then lists."""
        version = self.core.model_version(self.recipe)
        self.core.projects.note_version(self.project, version)
        return version

    async def predict_tasks(
        self,
        tasks: Sequence[TaskInput],
        deadline: float,
        *,
        interactive: bool,
        keep: bool = False,
        asked_at: float | None = None,
    ) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock). `asked_at`: when they were asked
        for (seconds since the epoch), by default now.

        With `keep`, a core with a store on the disk keeps the tasks and goes on after the deadline.
        Raises EngineBusy, EngineNotReady, EngineDead or StoreError when nothing at all could be done.
        """
        at = time.time() if asked_at is None else asked_at
        share = self.core.projects.options(self.project).audit_share
        ask = Ask(self.project, self.label_config, self.recipe, interactive, at, keep, share)
        results = await self.core.predict(ask, tasks, deadline)
        self.note_version()
        return results
