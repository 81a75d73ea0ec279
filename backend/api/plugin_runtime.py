"""The engine and the fetcher for a process that is not ours: label-studio-ml's own servers are synchronous.

One runtime a process, on an event loop in a background thread, built from the environment when first used.
Imports no torch. `Runtime.predict` raises what `Core.predict` raises.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from backend.api.project_model import ProjectModel
from backend.engine.api import Engine
from backend.logs import tell
from backend.predict.build import build_engine, build_images
from backend.predict.predictor import Images
from backend.predict.task import TaskInput
from backend.queue.results import TaskResult
from backend.queue.service import Core
from backend.settings import Settings, load_settings
from backend.store.state_file import prepare_data_dir

log = logging.getLogger(__name__)
T = TypeVar("T")
CALL_S = 10.0
CLOSE_S = 15.0


class Runtime:
    """A `Core` on a background event loop, with blocking calls."""

    def __init__(self, settings: Settings, engine: Engine, images: Images) -> None:
        prepare_data_dir(settings.data_dir)
        self._deadline_s = settings.predict_deadline_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="prelabel-runtime", daemon=True)
        self._thread.start()
        self.core = self._call(self._start(settings, engine, images), CALL_S)

    async def _start(self, settings: Settings, engine: Engine, images: Images) -> Core:
        core = Core(settings, engine, images)
        await core.start()
        return core

    def remember(self, project: str, extra_params: object) -> list[str]:
        """Keep a project's extra params; returns warnings."""
        return [*self._call(self.core.projects.remember(project, extra_params), CALL_S), *self._about_audit(project)]

    def _about_audit(self, project: str) -> list[str]:
        warnings = self.core.audit_warnings(project)
        tell(log, project, warnings)
        return warnings

    def predict(self, model: ProjectModel, tasks: Sequence[TaskInput]) -> list[TaskResult]:
        """Block until the results are there, at most the settings' deadline and a moment."""

        async def run() -> list[TaskResult]:
            deadline = self._loop.time() + self._deadline_s
            return await model.predict_tasks(tasks, deadline, interactive=len(tasks) == 1)

        return self._call(run(), self._deadline_s + CALL_S)

    def close(self) -> None:
        """End the engine and the loop. Calling it twice does nothing."""
        if not self._thread.is_alive():
            return
        self._call(self.core.close(), 2 * CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)


class Shared:
    """One runtime for a whole process, made by the first call. Raises what `make` raises; the next call tries again."""

    def __init__(self, make: Callable[[], Runtime]) -> None:
        self._make = make
        self._made: Runtime | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Runtime:
        with self._lock:
            if self._made is None:
                self._made = self._make()
                atexit.register(self._made.close)
            return self._made


def _from_environment() -> Runtime:
    settings = load_settings()
    return Runtime(settings, build_engine(settings), build_images(settings))


shared_runtime = Shared(_from_environment)
"""The process's runtime. Raises SettingsError."""
