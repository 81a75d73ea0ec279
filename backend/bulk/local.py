"""The annotator of this process: fetch a picture, ask the same Answerer as the server does, make the record.

Every picture ends in exactly one Record or FailedItem, under the server's reasons. An engine that dies is started again
by its client and the picture runs once more; one that two engines died of fails by name. Raises EngineDead when the
engine is gone for good, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path

from backend.bulk.answers import Answers
from backend.bulk.items import Item
from backend.bulk.outcomes import FailedItem, Outcome, Record
from backend.engine.api import Engine
from backend.images import ImageFetcher
from backend.images.decode import FetchedImage
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.predict_one import INTERNAL, predict_one
from backend.predict.predictor import Answerer
from backend.predict.recipe import Recipe
from backend.predict.record import make_record

log = logging.getLogger(__name__)

FETCH_S = 120.0
"""For one picture from an address, all tries together, as in the server's worker."""
BUSY_WAIT_S = 0.05
MAX_FILES = 16
"""Files read and decoded at once, or waiting for it: enough for two threads to take several each."""
MAX_DOWNLOADS = 24
"""How many pictures may wait for the fetcher's own turns, so that none of them waits there for too long."""


class LocalAnnotator:
    """Use it from one event loop; `annotate` may run many times at once."""

    def __init__(
        self, engine: Engine, images: ImageFetcher, recipe: Recipe, model_version: str, answers: Answers
    ) -> None:
        self._engine = engine
        self._images = images
        self._recipe = recipe
        self.model_version = model_version
        self._answers = answers
        self._answerer = Answerer(engine, images, Metrics(), answers.find)
        self._files = asyncio.Semaphore(MAX_FILES)
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)

    async def annotate(self, item: Item) -> Outcome:
        made = await predict_one(
            self._answerer,
            self._recipe,
            lambda: self._fetch(item),
            self._ready,
            name=item.found.image,
            busy_s=BUSY_WAIT_S,
        )
        if isinstance(made, Answered):
            try:
                return self._record(item, made)
            except Exception:
                log.exception("no record could be made of %s", item.found.image)
                made = INTERNAL
        return FailedItem.of(item, made.reason, made.message)

    async def _fetch(self, item: Item) -> FetchedImage:
        found = item.found
        if found.is_file:
            async with self._files:
                return await self._images.fetch_file(Path(found.location))
        async with self._downloads:
            if found.task_id is None:
                return await self._images.fetch(found.location, timeout_s=FETCH_S)
            return await self._answerer.fetch(self._recipe, found.location or None, found.task_id, FETCH_S)

    async def _ready(self) -> None:
        if self._engine.status.ready is None:  # it is being started again
            await self._engine.wait_ready(math.inf)  # the engine itself ends what stands still

    def _record(self, item: Item, answered: Answered) -> Record:
        recipe = self._recipe
        made = make_record(
            recipe.schema,
            answered.answer,
            answered.findings,
            image_id=item.image_id,
            model_version=self.model_version,
            language=recipe.options.language,
        )
        return Record({**made, **item.document()}, reused=self._answers.note(answered))
