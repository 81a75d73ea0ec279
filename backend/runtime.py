"""The engine and the fetcher for a process that is not ours: label-studio-ml's own servers are synchronous.

One runtime a process, on an event loop in a background thread, built from the environment when first used.
Imports no torch. `Runtime.predict` raises what `PredictionService.predict` raises.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.http.requests import TaskInput
from backend.metrics import Metrics
from backend.projects import ProjectBook, default_options
from backend.recipe import ModelNames, Recipe, recipe_of
from backend.service import Images, PredictionService, ServiceLimits, TaskResult
from backend.settings import Settings, load_settings
from backend.state import StateFile, prepare_data_dir
from label_config.schema import LabelSchema

T = TypeVar("T")
CALL_S = 10.0
CLOSE_S = 15.0


def build_engine(settings: Settings) -> Engine:
    """The real engine, not yet started. What it loads is told by the settings."""
    from backend.engine.client import EngineClient
    from backend.engine.options import EngineOptions

    return EngineClient(
        EngineOptions(
            model=settings.model,
            revision=settings.model_revision or None,
            device=None if settings.device == "auto" else settings.device,
            vram_gib=settings.vram_gib,
            quantised_dir=settings.quantised_folder,
            max_batch=settings.max_batch,
            image_tokens=settings.image_tokens,
        )
    )


def build_images(settings: Settings) -> Images:
    """The real fetcher. Raises SettingsError for a contradictory policy."""
    from backend.images import ImageFetcher, ImagePolicy

    return ImageFetcher(
        ImagePolicy(
            label_studio_url=settings.label_studio_url,
            api_key=settings.label_studio_api_key.get_secret_value(),
            local_files_root=settings.local_files_root,
            allowed_networks=settings.allowed_networks,
            extra_ca_file=settings.extra_ca_file,
        )
    )


class Runtime:
    def __init__(self, settings: Settings, engine: Engine, images: Images) -> None:
        prepare_data_dir(settings.data_dir)
        self._settings = settings
        self._engine = engine
        self._images = images
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="prelabel-runtime", daemon=True)
        self._thread.start()
        self._names = ModelNames(StateFile(settings.data_dir / "model.json"), settings.model, settings.model_revision)
        self._projects, self._service = self._call(self._start(), CALL_S)

    async def _start(self) -> tuple[ProjectBook, PredictionService]:
        file = StateFile(self._settings.data_dir / "projects.json")
        projects = ProjectBook(file, default_options(self._settings))
        limits = ServiceLimits(max_bulk=2 * self._settings.max_batch)
        await self._engine.start()
        return projects, PredictionService(self._engine, self._images, Metrics(), limits)

    def remember(self, project: str, extra_params: object) -> list[str]:
        """Keep a project's extra params; returns warnings."""
        return self._call(self._projects.remember(project, extra_params), CALL_S)

    def recipe(self, project: str, schema: LabelSchema) -> Recipe:
        return recipe_of(schema, self._projects.options(project), self._settings.image_tokens)

    def model_version(self, recipe: Recipe) -> str:
        return recipe.version(self._names.of(self._engine.status))

    def predict(self, tasks: Sequence[TaskInput], recipe: Recipe) -> list[TaskResult]:
        """Block until the results are there, at most the settings' deadline and a moment."""
        limit_s = self._settings.predict_deadline_s

        async def run() -> list[TaskResult]:
            deadline = self._loop.time() + limit_s
            return await self._service.predict(tasks, recipe, deadline, interactive=len(tasks) == 1)

        results = self._call(run(), limit_s + CALL_S)
        ready: Ready | None = self._engine.status.ready
        if ready:
            self._names.remember(ready)
        return results

    def close(self) -> None:
        """End the engine and the loop. Calling it twice does nothing."""
        if not self._thread.is_alive():
            return
        self._call(self._engine.close(), CLOSE_S)
        self._call(self._images.aclose(), CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)


_shared: Runtime | None = None
_lock = threading.Lock()


def shared_runtime() -> Runtime:
    """The process's runtime, built from the environment by the first call. Raises SettingsError."""
    global _shared
    with _lock:
        if _shared is None:
            settings = load_settings()
            _shared = Runtime(settings, build_engine(settings), build_images(settings))
            atexit.register(_shared.close)
        return _shared


def share_runtime(runtime: Runtime | None) -> None:
    """Make `runtime` the process's; None: build a new one when next used."""
    global _shared
    with _lock:
        _shared = runtime
