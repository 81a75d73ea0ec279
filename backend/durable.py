"""/predict that loses nothing: each task is in the store before anything is done for it, and its answer is stored
before the reply is sent. What a reply cannot hold is pushed to Label Studio, or returned when it asks again.

Tasks that the store cannot keep (an id that is no number, a picture inside the address, an address with a key in it)
go the way of `backend.service`, in memory. So does a person's single task while the disk is full.
Raises EngineBusy, EngineNotReady, EngineDead and StoreError when nothing could be done.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backend.answering import prediction_of
from backend.batches import Batch, Outcome
from backend.errors import EngineBusy, StoreError
from backend.http.requests import TaskInput
from backend.recipe import Recipe
from backend.service import LATE, PredictionService, TaskResult
from backend.store.types import MAX_TASK_ID, NewWork, RecipeRecord, StoredAnswer
from backend.store_calls import StoreCalls
from backend.worker import Worker

log = logging.getLogger(__name__)

CHECK_S = 120.0
"""After a reply Label Studio surely has stored what was in it, or never will."""
LATE_S = 10.0
"""How much later than its deadline a reply may still go out."""
MAX_URL_CHARS = 8_192
_WEB = re.compile(r"(?i)(https?:)?//")
_INLINE = re.compile(r"(?i)\s*data:")
_SECRET_NAME = re.compile(r"(?i)signature|credential|token|secret|passw|api_?key|access_?key|^(sig|sign|key|auth)$")


class ReplyStore(Protocol):
    """What a request needs of `backend.store.Store`."""

    def save_recipe(self, record: RecipeRecord, now: float) -> None: ...
    def returned(
        self, work_ids: Sequence[int], check_at: float, now: float, *, accepted_at: float | None = None
    ) -> list[int]: ...
    def reply_ended(self, work_ids: Sequence[int], now: float) -> None: ...
    def answers(self, keys: Sequence[str]) -> dict[str, StoredAnswer]: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose tasks they are. `label_config` is the text the recipe's schema was read from."""

    project: str
    label_config: str
    recipe: Recipe
    interactive: bool

    @property
    def record(self) -> RecipeRecord:
        recipe = self.recipe
        return RecipeRecord(recipe.fingerprint, self.project, self.label_config, recipe.options.model_dump_json())


def can_be_kept(task: TaskInput) -> bool:
    """Whether the store may have it: no secret is written to disk, and no picture is."""
    if not isinstance(task.id, int) or not -MAX_TASK_ID <= task.id <= MAX_TASK_ID:
        return False
    return task.image_url is None or not _must_not_be_kept(task.image_url)


def _must_not_be_kept(url: str) -> bool:
    if len(url) > MAX_URL_CHARS or _INLINE.match(url):
        return True
    address, *queries = re.split("[?#]", url, maxsplit=1)
    query = "".join(queries)
    if "@" in address.partition("//")[2].partition("/")[0]:
        return True
    if "://" in address and not _WEB.match(url):
        return bool(query)
    names = (part.partition("=")[0] for part in re.split("[&;#]", query))
    return any(_SECRET_NAME.search(name) for name in names)


def _divide(tasks: Sequence[TaskInput]) -> tuple[list[TaskInput], list[TaskInput]]:
    """Those that the store may have, and the others."""
    kept: list[TaskInput] = []
    others: list[TaskInput] = []
    for task in tasks:
        (kept if can_be_kept(task) else others).append(task)
    return kept, others


class DurableService:
    """Use it from one event loop."""

    def __init__(
        self,
        store: ReplyStore,
        calls: StoreCalls,
        worker: Worker,
        in_memory: PredictionService,
        *,
        max_waiting: int,
        clock: Callable[[], float] = time.time,
        wake_delivery: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._worker = worker
        self._in_memory = in_memory
        self._max_waiting = max_waiting
        self._clock = clock
        self._wake_delivery = wake_delivery
        self._ending: set[asyncio.Task[None]] = set()

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock)."""
        if not tasks:
            return []
        ready = await self._in_memory.wait_ready(deadline)
        # In a thread: a hundred thousand addresses would stop the event loop, and with it /health, for over a second.
        kept, others = await asyncio.to_thread(_divide, tasks)
        beside = asyncio.ensure_future(self._in_memory.run(others, ask.recipe, deadline, interactive=ask.interactive))
        try:
            results = await self._kept(ask, kept, ask.recipe.version(ready), deadline) if kept else []
            results += await beside
        finally:
            beside.cancel()
        by_task = {result.task_id: result for result in results}
        return self._in_memory.conclude([by_task[task.id] for task in tasks])

    async def close(self, limit_s: float) -> None:
        """Let the ends of replies be noted."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=limit_s)

    async def _kept(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        if self._worker.num_waiting + len(tasks) > self._max_waiting:
            raise EngineBusy(
                f"{self._worker.num_waiting:,} tasks are waiting already; try again later", retry_after_s=60
            )
        batch, now = Batch(), self._clock()
        accepting = asyncio.ensure_future(self._accept(ask, batch, tasks, version, deadline, now))
        try:
            await asyncio.shield(accepting)
            await batch.wait(deadline)
            return await self._reply(batch, tasks, now)
        except StoreError as error:
            self._calls.complain(error)
            if not ask.interactive:
                raise
            if batch.ids:  # it is in the store, which cannot note now that it was answered: the next time it is
                return [TaskResult(task.id, None, "store", str(error)) for task in tasks]
            return await self._in_memory.run(tasks, ask.recipe, deadline, interactive=True)
        finally:
            self._spawn(self._end(batch, accepting))

    async def _accept(
        self, ask: Ask, batch: Batch, tasks: Sequence[TaskInput], version: str, deadline: float, now: float
    ) -> None:
        until = now + max(0.0, deadline - asyncio.get_running_loop().time()) + LATE_S
        fingerprint = ask.recipe.fingerprint

        def prepare() -> list[NewWork]:
            self._store.save_recipe(ask.record, now)
            return [
                NewWork(ask.project, task.id, version, fingerprint, task.image_url)
                for task in tasks
                if isinstance(task.id, int)
            ]

        items = await self._calls.run(prepare)
        await self._worker.accept(batch, items, interactive=ask.interactive, reply_until=until, now=now)

    async def _reply(self, batch: Batch, tasks: Sequence[TaskInput], accepted_at: float) -> list[TaskResult]:
        """What may go out, noted as such before it does."""
        outcomes = dict(batch.outcomes)

        def look() -> dict[int, dict[str, Any]]:
            keys = {outcome.answer_key for outcome in outcomes.values() if outcome.answer_key}
            contents = self._store.answers(list(keys))
            made: dict[int, dict[str, Any]] = {}
            for task_id, work_id in batch.ids.items():
                outcome = outcomes.get(work_id)
                if outcome is not None and outcome.answer_key in contents:
                    try:
                        made[work_id] = prediction_of(contents[outcome.answer_key].content, task_id)
                    except ValueError:
                        log.exception("the answer stored for task %s cannot be read", task_id)
            now = self._clock()
            allowed = self._store.returned(list(made), now + CHECK_S, now, accepted_at=accepted_at) if made else []
            return {work_id: made[work_id] for work_id in allowed}

        made = await self._calls.run(look)
        return [self._result(batch, outcomes, made, task) for task in tasks]

    def _result(
        self, batch: Batch, outcomes: dict[int, Outcome], made: dict[int, dict[str, Any]], task: TaskInput
    ) -> TaskResult:
        work_id = batch.ids.get(task.id, -1) if isinstance(task.id, int) else -1
        outcome = outcomes.get(work_id)
        if outcome is None:
            return TaskResult(task.id, None, "deadline", LATE)
        if outcome.answer_key is None:
            return TaskResult(task.id, None, outcome.reason, outcome.message)
        if work_id not in made:
            return TaskResult(task.id, None, "told", "another reply or a push brings it to Label Studio")
        return TaskResult(task.id, made[work_id])

    async def _end(self, batch: Batch, accepting: asyncio.Future[None]) -> None:
        """The client may have left while the store was still accepting: only then is it known what there is to end."""
        await asyncio.wait([accepting])
        if not accepting.cancelled():
            accepting.exception()  # `_kept` has raised it, or nobody is there to hear it
        self._worker.leave(batch)
        ids = list(batch.ids.values())
        if not ids:
            return
        try:
            await self._calls.run(lambda: self._store.reply_ended(ids, self._clock()))
        except StoreError as error:  # the store lets go of them by itself, at `reply_until`
            self._calls.complain(error)
        self._wake_delivery()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
