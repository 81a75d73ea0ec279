"""What lasts between requests: the engine, the pictures, what projects asked for, and the model's name.

One `Core` a process, on one event loop. `backend.app` and `backend.model.PrelabelModel` are two doors to it. Knows no
HTTP and imports no torch. `prepare_data_dir` must have run: the state files lie in `settings.data_dir`.
"""

from __future__ import annotations

import asyncio
import logging

from backend.engine.api import Engine
from backend.errors import EngineBusy, EngineDead
from backend.metrics import Metrics
from backend.projects import ProjectBook, default_options
from backend.recipe import ModelNames, Recipe, recipe_of
from backend.service import Images, PredictionService, ServiceLimits
from backend.settings import Settings
from backend.state import StateFile
from label_config.schema import LabelSchema

log = logging.getLogger(__name__)

WATCH_S = 5.0


class Core:
    """Build it on the event loop it will be used on."""

    def __init__(self, settings: Settings, engine: Engine, images: Images) -> None:
        self.settings = settings
        self.engine = engine
        self.images = images
        self.metrics = Metrics()
        self.service = PredictionService(engine, images, self.metrics, ServiceLimits(max_bulk=2 * settings.max_slots))
        self.projects = ProjectBook(StateFile(settings.data_dir / "projects.json"), default_options(settings))
        self._names = ModelNames(StateFile(settings.data_dir / "model.json"), settings.model, settings.model_revision)
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the engine; it loads in the background."""
        await self.engine.start()
        self._watcher = asyncio.create_task(self._remember_model())

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        await self.engine.close()
        await self.images.aclose()

    def recipe(self, project: str, schema: LabelSchema) -> Recipe:
        return recipe_of(schema, self.projects.options(project), self.settings.image_tokens)

    def model_version(self, recipe: Recipe) -> str:
        """The version of `recipe`'s predictions; while the model loads, the name it had last time."""
        return recipe.version(self._names.of(self.engine.status))

    async def _remember_model(self) -> None:
        """Keep the model's name for the next start once it is loaded."""
        while True:
            try:
                ready = await self.engine.wait_ready(WATCH_S)
                await asyncio.to_thread(self._names.remember, ready)
                return
            except EngineBusy:
                continue
            except EngineDead:
                return
            except OSError as error:
                log.warning("the model's name could not be saved: %s", error.strerror)
                return
