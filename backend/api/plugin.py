"""`PrelabelModel`: the label-studio-ml plug-in, for label-studio-ml's own servers. `prelabel serve` does not load it.

Works under both generations of the base class: 1.0.9 (PyPI), `LabelStudioMLBase(label_config, train_output, **kwargs)`,
and 2.x (GitHub), `LabelStudioMLBase(project_id, label_config)` with `setup`, `get` and `set`. Both servers build an
object per project or even per request, so everything that lasts is in the process's `backend.api.plugin_runtime`.

`predict` raises nothing for a task that fails: its entry is [], which stores nothing and leaves the task eligible.
"""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from backend.api.plugin_runtime import Runtime, shared_runtime
from backend.api.project_model import ProjectModel
from backend.api.requests import read_tasks
from backend.errors import EngineBusy, EngineDead
from backend.predict.task import TaskInput

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
    """One project's model for one request of label-studio-ml's server; the process's shared runtime does the work."""

    runtime: ClassVar[Callable[[], Runtime]] = shared_runtime

    def __init__(self, project_id: str | None = None, label_config: str | None = None, **kwargs: Any) -> None:
        self._project = str(project_id or "")
        self._config = label_config
        if _HAS_PROJECTS:
            super().__init__(project_id=project_id, label_config=label_config)
        else:
            super().__init__(label_config=label_config, **kwargs)

    def setup(self) -> None:
        """2.x calls this at the end of its constructor; its server answers /setup with this version."""
        if self._config:
            self.set("model_version", self._project_model().note_version())

    def set_extra_params(self, extra_params: Any) -> None:
        """2.x hands over the model settings' extra params after `setup`."""
        type(self).runtime().remember(self._project, extra_params)
        self.setup()

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> list[Any]:
        """Return one item a task, in order: a prediction, or [] when there is none this time.

        Blocks at most the settings' deadline and a moment. Raises BadRequest for malformed tasks, ConfigRefused for a
        label config that cannot be honoured.
        """
        model = self._project_model()
        inputs: tuple[TaskInput, ...] = read_tasks(tasks, model.recipe.schema.image_key)
        nothing: Any = {"result": []} if context else []
        try:
            results = type(self).runtime().predict(model, inputs)
        except (EngineBusy, EngineDead) as error:
            log.warning("no predictions: %s", error)
            return [nothing for _ in inputs]
        return [nothing if result.prediction is None else result.prediction for result in results]

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Webhook events arrive here under both generations. There is nothing to train; nothing is kept."""
        log.info("webhook %s: nothing to train", str(kwargs.get("event") or (args[:1] or ("event",))[0])[:64])
        return {}

    def _project_model(self) -> ProjectModel:
        """Raises ConfigRefused when there is no label config, or one that cannot be honoured."""
        return ProjectModel.of_config(type(self).runtime().core, self._project, self._config)
