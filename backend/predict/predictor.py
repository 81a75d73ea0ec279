"""One picture to one answer: fetch it, look whether it was answered before, else ask the engine, read and review.

A picture under one model version is asked about once at a time, whoever asks; who joins late gets the same answer.
What comes back belongs to no task yet (`backend.predict.answered`). Knows neither HTTP nor SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cachetools import LRUCache

from backend.engine.api import Engine, EngineStatus
from backend.engine.messages import Ready
from backend.errors import ImageError
from backend.images.decode import FetchedImage
from backend.label_studio.address import LabelStudioAddresses
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.recipe import Recipe, read_answer
from backend.predict.task import TaskId
from backend.shared_work import SharedWork
from label_config.task_value import described

MAX_RECENT = 1_000
"""Answers kept in memory: more than can be on their way to the store at once."""

Find = Callable[[Recipe, str], Awaitable[Answered | None]]
"""What is stored under a key, None if there is nothing (or it cannot be looked up now). Raises ValueError if it cannot
be read."""


class Images(Protocol):
    """What `backend.images.ImageFetcher` does for the service."""

    @property
    def label_studio(self) -> LabelStudioAddresses: ...

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool, project: str
    ) -> FetchedImage:
        """Raises ImageError."""
        ...

    async def aclose(self) -> None: ...


async def _find_nothing(recipe: Recipe, key: str) -> None:
    return None


class Answerer:
    """Use it from one event loop."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        metrics: Metrics,
        find: Find | None = None,
        *,
        max_recent: int = MAX_RECENT,
    ) -> None:
        self._engine = engine
        self._images = images
        self._metrics = metrics
        self._find = find or _find_nothing
        self._under_way: SharedWork[str, Answered] = SharedWork()
        self._recent: LRUCache[str, Answered] = LRUCache(max_recent)

    @property
    def engine_status(self) -> EngineStatus:
        return self._engine.status

    async def fetch(
        self,
        recipe: Recipe,
        url: str | None,
        task_id: TaskId,
        timeout_s: float,
        *,
        interactive: bool = False,
        project: str = "",
    ) -> FetchedImage:
        """`project`: whose turn it takes at what all share. Raises ImageError."""
        try:
            if url is None:
                raise ImageError("missing", f"the task's data has no text for {described(recipe.schema.image_key)}")
            number = task_id if isinstance(task_id, int) else None
            fetched = await self._images.fetch(
                url, task_id=number, timeout_s=timeout_s, interactive=interactive, project=project
            )
        except ImageError as error:
            self._metrics.images.labels(error.kind).inc()
            raise
        self._metrics.images.labels("ok").inc()
        return fetched

    async def answer(self, recipe: Recipe, fetched: FetchedImage, *, interactive: bool, project: str = "") -> Answered:
        """As `recipe` rates it, in a turn of `project`. Raises what the engine raises, and MalformedAnswer. Cancelled,
        the engine is too if nobody else waits."""
        ready = self._engine.status.require_ready()
        key = f"{fetched.sha256}:{recipe.answer_version(ready)}"
        answered = await self._under_way.join(
            key, lambda: self._answer(key, recipe, ready, fetched, interactive, project)
        )
        return answered.rated(recipe)

    async def _answer(
        self, key: str, recipe: Recipe, ready: Ready, fetched: FetchedImage, interactive: bool, project: str
    ) -> Answered:
        if key in self._recent:  # the caller before may be storing it just now
            return self._recent[key]
        stored = await self._find(recipe, key)
        if stored is not None:
            return stored
        request = recipe.request(fetched.picture, fetched.sha256, interactive=interactive, project=project)
        finished = await self._engine.generate(request)
        self._metrics.tokens.labels("prompt").inc(finished.num_prompt_tokens)
        self._metrics.tokens.labels("image").inc(finished.num_image_tokens)
        self._metrics.tokens.labels("answer").inc(len(finished.pieces))
        answer, findings = read_answer(recipe, finished, fetched)
        answered = Answered(key, recipe.answer_version(ready), answer, findings)
        self._recent[key] = answered
        return answered
