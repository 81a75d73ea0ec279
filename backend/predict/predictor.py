"""One picture to one answer: fetch it, look whether it was answered before, else ask the engine, read and review.

A picture under one model version is asked about once at a time, whoever asks; who joins late gets the same answer.
What comes back belongs to no task yet: `Answered.prediction` makes it one task's. Knows neither HTTP nor SQL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

from cachetools import LRUCache

from backend.engine.api import Engine, EngineStatus
from backend.engine.messages import Picture, Ready
from backend.errors import EngineNotReady, ImageError
from backend.metrics import Metrics
from backend.predict.recipe import Recipe, read_answer
from backend.predict.task import TaskId
from label_config.answer import Answer, FieldAnswer
from label_config.regions import prediction, regions_to_answer, with_ids, without_ids
from label_config.review import Finding, review

MAX_RECENT = 1_000
"""Answers kept in memory: more than can be on their way to the store at once."""

Find = Callable[[str], Awaitable[str | None]]
"""The stored content under a key, None if there is none (or it cannot be looked up now)."""


class FetchedImage(Protocol):
    """`sha256` is the hex digest of the source's bytes."""

    @property
    def picture(self) -> Picture: ...
    @property
    def sha256(self) -> str: ...


class Images(Protocol):
    """What `backend.images.ImageFetcher` does for the service."""

    async def fetch(self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool) -> FetchedImage:
        """Raises ImageError."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """`content` is what the store keeps under `key`: a prediction's JSON without region ids, and `_BESIDE` it what no
    prediction says."""

    key: str
    content: str
    score: float | None
    needs_review: bool

    @classmethod
    def read(cls, key: str, content: str) -> Answered:
        """Raises ValueError for what `content` never was."""
        document = _document(content)
        score = document.get("score")
        return cls(key, content, score if isinstance(score, float) else None, bool(document.get("needs_review")))

    def prediction(self, task_id: TaskId) -> dict[str, Any]:
        return prediction_of(self.content, task_id)


_BESIDE = ("needs_review", "findings", "no_region", "truncated")
"""`findings` and `no_region` (field -> confidence of having no value) only if there are any; `truncated` only if so."""


def prediction_of(content: str, task_id: TaskId) -> dict[str, Any]:
    """Label Studio's dict for one task. Region ids follow from task and version, so that work done twice is
    recognisably the same. Raises ValueError for what is no stored content."""
    document = _document(content)
    for name in _BESIDE:
        document.pop(name, None)
    return with_ids(document, f"{task_id}:{document['model_version']}")


def answer_of(recipe: Recipe, content: str) -> tuple[Answer, tuple[Finding, ...]]:
    """The answer that `content` keeps, and why a person should look at it. Raises ValueError for what is no stored
    content. Texts are as Label Studio shows them: on one line, without hidden characters."""
    document = _document(content)
    fields = dict(regions_to_answer(recipe.schema, document["result"]).fields)
    for name, confidence in document.get("no_region", {}).items():
        fields.setdefault(name, FieldAnswer(None, confidence))
    answer = Answer(fields, truncated=bool(document.get("truncated")))
    if not document.get("needs_review"):
        return answer, ()
    findings = tuple(Finding(*finding) for finding in document.get("findings", ()))
    return answer, findings or review(recipe.schema, answer, recipe.review_options)


def _document(content: str) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict) or not isinstance(document.get("result"), list):
        raise ValueError("this is no stored answer")
    if not isinstance(document.get("model_version"), str):
        raise ValueError("this is no stored answer")
    return document


@dataclass(slots=True, eq=False)
class _Flight:
    work: asyncio.Task[Answered]
    num_waiting: int = 0


async def _find_nothing(key: str) -> None:
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
        self._flights: dict[str, _Flight] = {}
        self._recent: LRUCache[str, Answered] = LRUCache(max_recent)

    @property
    def engine_status(self) -> EngineStatus:
        return self._engine.status

    async def fetch(
        self, recipe: Recipe, url: str | None, task_id: TaskId, timeout_s: float, *, interactive: bool = False
    ) -> FetchedImage:
        """Raises ImageError."""
        try:
            if url is None:
                raise ImageError("missing", f'the task\'s data has no text under "{recipe.schema.image_key}"')
            number = task_id if isinstance(task_id, int) else None
            fetched = await self._images.fetch(url, task_id=number, timeout_s=timeout_s, interactive=interactive)
        except ImageError as error:
            self._metrics.images.labels(error.kind).inc()
            raise
        self._metrics.images.labels("ok").inc()
        return fetched

    async def answer(self, recipe: Recipe, fetched: FetchedImage, *, interactive: bool) -> Answered:
        """Raises what the engine raises, and MalformedAnswer. Cancelled, the engine is too if nobody else waits."""
        ready = self._engine.status.ready
        if ready is None:
            raise EngineNotReady("the model is not ready yet", retry_after_s=30)
        key = f"{fetched.sha256}:{recipe.version(ready)}"
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._answer(key, recipe, ready, fetched, interactive)))
            self._flights[key] = flight
            flight.work.add_done_callback(lambda _: self._forget(key, flight))
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.work)
        finally:
            flight.num_waiting -= 1
            if not flight.num_waiting and not flight.work.done():
                self._forget(key, flight)
                flight.work.cancel()

    def _forget(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _answer(
        self, key: str, recipe: Recipe, ready: Ready, fetched: FetchedImage, interactive: bool
    ) -> Answered:
        if key in self._recent:  # the caller before may be storing it just now
            return self._recent[key]
        stored = await self._find(key)
        if stored is not None:
            return Answered.read(key, stored)
        finished = await self._engine.generate(recipe.request(fetched.picture, fetched.sha256, interactive=interactive))
        self._metrics.tokens.labels("prompt").inc(finished.num_prompt_tokens)
        self._metrics.tokens.labels("image").inc(finished.num_image_tokens)
        self._metrics.tokens.labels("answer").inc(len(finished.pieces))
        answer, findings = read_answer(recipe, finished)
        made = prediction(recipe.schema, answer, findings, recipe.version(ready), "", language=recipe.options.language)
        answered = _answered(key, without_ids(made), answer, findings)
        self._recent[key] = answered
        return answered


def _answered(key: str, made: Mapping[str, Any], answer: Answer, findings: Sequence[Finding]) -> Answered:
    document = {**made, "needs_review": bool(findings)}
    if findings:
        document["findings"] = [astuple(finding) for finding in findings]
    with_region = {region["from_name"] for region in made["result"]}
    if no_region := {name: f.confidence for name, f in answer.fields.items() if name not in with_region}:
        document["no_region"] = no_region
    if answer.truncated:
        document["truncated"] = True
    # One number that is none would make Label Studio refuse the whole batch: ValueError.
    content = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return Answered(key, content, made.get("score"), bool(findings))
