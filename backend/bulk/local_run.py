"""A job done by the engine of this machine: started, asked, and ended again. See `backend.bulk.local`.

Raises what `BulkRun.run` raises, EngineDead when the model cannot be loaded, Stopped, and UsageError when the output
holds another model's records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rich.console import Console

from backend.bulk.answers import Answers
from backend.bulk.job import Job
from backend.bulk.label_configs import LabelConfig, label_config_for
from backend.bulk.loading import tell_choice, wait_with_progress
from backend.bulk.local import LocalAnnotator
from backend.bulk.run import BulkRun
from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.images import ImageFetcher
from backend.predict.build import build_engine, build_images
from backend.predict.options import default_options
from backend.predict.recipe import Recipe, recipe_of
from backend.settings import Settings

MAX_WORKERS = 512
"""The engine's own queue is no longer."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready, and what it will be asked."""

    engine: Engine
    images: ImageFetcher
    ready: Ready
    config: LabelConfig
    recipe: Recipe
    load_s: float

    @property
    def model_version(self) -> str:
        return self.recipe.version(self.ready)

    def annotator(self, answers: Answers) -> LocalAnnotator:
        return LocalAnnotator(self.engine, self.images, self.recipe, self.model_version, answers)

    def num_workers(self, asked_for: int | None, settings: Settings) -> int:
        """Twice the engine's slots, so that the next pictures are at hand when some are done."""
        return min(asked_for or 2 * (self.ready.max_slots or settings.max_slots), MAX_WORKERS)


@contextlib.asynccontextmanager
async def loaded_model(
    settings: Settings,
    config: LabelConfig | None,
    console: Console,
    stop: asyncio.Event,
    engine: Engine | None = None,
) -> AsyncIterator[Loaded]:
    """The engine, for as long as the block runs. Without `config` it is the one that goes with the model."""
    images, engine, began = build_images(settings), engine or build_engine(settings), time.monotonic()
    await engine.start()
    try:
        ready = await wait_with_progress(engine, console, stop)
        tell_choice(settings, ready.model_name, console)
        config = config or label_config_for(ready.model_name, settings.language)
        recipe = recipe_of(config.schema, default_options(settings), settings.image_tokens)
        yield Loaded(engine, images, ready, config, recipe, time.monotonic() - began)
    finally:
        await images.aclose()
        await engine.close()


async def run_local(
    settings: Settings, job: Job, config: LabelConfig | None, console: Console, stop: asyncio.Event
) -> LabelConfig:
    """Do what `job` has to do, until it is done or `stop` is set. Returns the label config that was used."""
    async with loaded_model(settings, config, console, stop) as loaded:
        job.begin(loaded.config.schema, loaded.model_version, loaded.load_s)
        version = loaded.recipe.answer_version(loaded.ready)
        answers = await asyncio.to_thread(Answers.open, settings.data_dir, version)
        answers.start()
        run = BulkRun(
            loaded.annotator(answers),
            job.items(),
            job.collector.take,
            loaded.num_workers(job.options.num_workers, settings),
            stop=stop,
            sync=job.ledger.sync,
            tick=job.progress.tick,
        )
        try:
            with job.running():
                await run.run()
        finally:
            await answers.aclose()
        return loaded.config
