"""`PrelabelModel`: the label-studio-ml plug-in, which `prelabel serve` and label-studio-ml's own servers both run.

Works under both generations of the base class: 1.0.9 (PyPI), `LabelStudioMLBase(label_config, train_output, **kwargs)`,
and 2.x (GitHub), `LabelStudioMLBase(project_id, label_config)` with `setup`, `get` and `set`. Both servers build an
object per project or even per request, so everything that lasts is in a `backend.core.Core`: the app's own, or that of
the process's `backend.runtime`.

`predict` raises nothing for a task that fails: its entry is [], which stores nothing and leaves the task eligible.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from backend.core import Core
from backend.durable import Ask
from backend.errors import ConfigRefused, EngineBusy, EngineDead
from backend.http.requests import TaskInput, read_tasks, schema_of
from backend.recipe import Recipe
from backend.runtime import shared_runtime
from backend.service import TaskResult
from label_config.schema import LabelSchema

log = logging.getLogger(__name__)


@contextmanager
def _torch_out_of_reach() -> Iterator[None]:
    """label-studio-ml imports torch, where it can, only to choose how processes start. It takes seconds and 300 MB
    that this process has no use for: the model lives in the engine's."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


with _torch_out_of_reach(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its old dependencies have invalid escape sequences, among others
    from label_studio_ml.model import LabelStudioMLBase

_HAS_PROJECTS = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters
"""True under 2.x, whose objects belong to one project and keep values with get and set."""


class PrelabelModel(LabelStudioMLBase):  # type: ignore[misc]
    """One project's model for one request. `prelabel serve` hands in its `core` and the parsed `schema`; a server of
    label-studio-ml's hands in the label config, and the process's shared runtime does the rest."""

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        *,
        core: Core | None = None,
        schema: LabelSchema | None = None,
        **kwargs: Any,
    ) -> None:
        self._project = str(project_id or "")
        self._core = core
        self._schema = schema
        self._config = label_config
        if _HAS_PROJECTS:
            super().__init__(project_id=project_id, label_config=label_config)
        else:
            super().__init__(label_config=label_config, **kwargs)

    # -- both doors ----------------------------------------------------------------------------------------------

    async def predict_tasks(
        self,
        tasks: Sequence[TaskInput],
        deadline: float,
        *,
        interactive: bool,
        keep_config: str | None = None,
        asked_at: float | None = None,
    ) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock). `asked_at`: when they were asked
        for (seconds since the epoch), by default now.

        With `keep_config`, the text of the label config, the core may keep the tasks and go on after the deadline.
        Raises EngineNotReady, EngineDead or StoreError when nothing at all could be done.
        """
        if keep_config is None:
            results = await self.core.service.predict(tasks, self.recipe, deadline, interactive=interactive)
        else:
            at = time.time() if asked_at is None else asked_at
            results = await self.core.predict(
                Ask(self._project, keep_config, self.recipe, interactive, at), tasks, deadline
            )
        self.note_version()
        return results

    def note_version(self) -> str:
        """Return the model version of this project, which /versions then lists."""
        version = self.core.model_version(self.recipe)
        self.core.projects.note_version(self._project, version)
        return version

    @property
    def recipe(self) -> Recipe:
        """Raises ConfigRefused when there is no label config, or one that cannot be honoured."""
        if self._schema is None:
            if not self._config:
                raise ConfigRefused("There is no label config yet: save one in the project's settings first.")
            self._schema = schema_of(self._config)
        return self.core.recipe(self._project, self._schema)

    @property
    def core(self) -> Core:
        if self._core is None:
            self._core = shared_runtime().core
        return self._core

    # -- label-studio-ml's contract ------------------------------------------------------------------------------

    def setup(self) -> None:
        """2.x calls this at the end of its constructor; its server answers /setup with this version."""
        if self._config:
            self.set("model_version", self.note_version())

    def set_extra_params(self, extra_params: Any) -> None:
        """2.x hands over the model settings' extra params after `setup`."""
        shared_runtime().remember(self._project, extra_params)
        self.setup()

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> list[Any]:
        """Return one item a task, in order: a prediction, or [] when there is none this time.

        Blocks at most the settings' deadline and a moment. Raises BadRequest for malformed tasks, ConfigRefused for a
        label config that cannot be honoured.
        """
        inputs: tuple[TaskInput, ...] = read_tasks(tasks, self.recipe.schema.image_key)
        nothing: Any = {"result": []} if context else []
        try:
            results = shared_runtime().predict(self, inputs)
        except (EngineBusy, EngineDead) as error:
            log.warning("no predictions: %s", error)
            return [nothing for _ in inputs]
        return [nothing if result.prediction is None else result.prediction for result in results]

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Webhook events arrive here under both generations. There is nothing to train; nothing is kept."""
        log.info("webhook %s: nothing to train", str(kwargs.get("event") or (args[:1] or ("event",))[0])[:64])
        return {}
