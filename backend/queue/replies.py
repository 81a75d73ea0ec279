"""/predict that loses nothing: each task is in the store before anything is done for it, and its answer is stored
before the reply is sent. What a reply cannot hold is pushed to Label Studio, or returned when it asks again.

Tasks that the store cannot keep (an id that is no number, a picture inside the address) go the way of
`backend.queue.in_memory`, in memory. So does a person's single task while the disk is full.
Raises EngineBusy, EngineNotReady, EngineDead and StoreError when nothing could be done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.errors import EngineBusy, StoreBusy, StoreError
from backend.predict.answered import Answered
from backend.predict.recipe import Recipe
from backend.predict.task import TaskInput
from backend.queue.held_addresses import for_disk, is_too_large
from backend.queue.in_memory import LATE, PredictionService, TaskResult
from backend.queue.waiting import Batch, Outcome
from backend.queue.worker import Worker
from backend.store import Store
from backend.store.calls import StoreCalls
from backend.store.types import MAX_TASK_ID, NewWork, RecipeRecord

log = logging.getLogger(__name__)

CHECK_S = 120.0
"""After a reply Label Studio surely has stored what was in it, or never will."""
LATE_S = 10.0
"""How much later than its deadline a reply may still go out."""
CHECK_PER_PREDICTION_S = 0.3
STORE_PER_PREDICTION_S = 0.2
"""How long Label Studio may take to store each prediction of a reply; measured: 0.025 to 0.05 s, 0.2 s when busy."""
PREPARE_S = 2.0
PREPARE_PER_TASK_S = 0.03
"""How old a list of tasks may be when it arrives: Label Studio chooses them, asks /health and /setup, and writes the
request; measured: 2.6 s for 1,000 tasks, 5.5 s for 1,500."""
MAX_IN_REPLY = 200
"""Where the rest is pushed. Label Studio stores a reply one by one, and the click lasts as long: 0.05 s each, 0.2 s on
a busy machine; an import of 200 takes it 2 s. A reply of 2,000 took it seven minutes, longer than a check waits."""
REPLY_PER_TASK_S = 0.0003
"""To read a stored answer and write it into the reply."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose tasks they are. `label_config` is the text the recipe's schema was read from; `asked_at`: when the request
    came (seconds since the epoch)."""

    project: str
    label_config: str
    recipe: Recipe
    interactive: bool
    asked_at: float

    @property
    def record(self) -> RecipeRecord:
        recipe = self.recipe
        return RecipeRecord(recipe.fingerprint, self.project, self.label_config, recipe.options.model_dump_json())


def can_be_kept(task: TaskInput) -> bool:
    """Whether the store may have it: its id is a number, and its address is not the picture itself."""
    if not isinstance(task.id, int) or not -MAX_TASK_ID <= task.id <= MAX_TASK_ID:
        return False
    return task.image_url is None or not is_too_large(task.image_url)


def _divide(tasks: Sequence[TaskInput]) -> tuple[list[TaskInput], list[TaskInput]]:
    """Those that the store may have, and the others. In a thread: with a hundred thousand tasks it takes over a second,
    in which the event loop would not answer /health."""
    kept: list[TaskInput] = []
    others: list[TaskInput] = []
    for task in tasks:
        (kept if can_be_kept(task) else others).append(task)
    return kept, others


def _in_order(tasks: Sequence[TaskInput], results: Sequence[TaskResult]) -> list[TaskResult]:
    by_task = {result.task_id: result for result in results}
    return [by_task[task.id] for task in tasks]


class DurableService:
    """Use it from one event loop."""

    def __init__(
        self,
        store: Store,
        calls: StoreCalls,
        worker: Worker,
        engine: Engine,
        in_memory: PredictionService,
        *,
        max_waiting: int,
        max_in_reply: int | None = None,
        known_model: Callable[[], Ready | None] = lambda: None,
        clock: Callable[[], float] = time.time,
        wake_delivery: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._worker = worker
        self._engine = engine
        self._in_memory = in_memory
        self._max_waiting = max_waiting
        self._max_in_reply = max_in_reply
        self._known_model = known_model
        self._clock = clock
        self._wake_delivery = wake_delivery
        self._ending: set[asyncio.Task[None]] = set()

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock).

        While a model whose name is known loads or is started again, tasks are accepted all the same.
        """
        if not tasks:
            return []
        ready = self._known_model()
        if ready is None or self._engine.status.state in ("failed", "stopped"):
            ready = await self._in_memory.wait_ready(deadline)
        kept, others = await asyncio.to_thread(_divide, tasks)
        beside = asyncio.ensure_future(self._in_memory.run(others, ask.recipe, deadline, interactive=ask.interactive))
        try:
            results = await self._kept(ask, kept, ask.recipe.version(ready), deadline) if kept else []
            results += await beside
        finally:
            beside.cancel()
        if others:
            results = await asyncio.to_thread(_in_order, tasks, results)
        return self._in_memory.conclude(results, accepted=bool(kept))

    async def close(self, limit_s: float) -> None:
        """Let the ends of replies be noted."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=limit_s)

    async def _kept(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        if self._worker.num_waiting + len(tasks) > self._max_waiting:
            raise EngineBusy(
                f"{self._worker.num_waiting:,} tasks are waiting already; try again later", retry_after_s=60
            )
        batch, now = Batch(ask.project), self._clock()
        accepting = asyncio.ensure_future(self._accept(ask, batch, tasks, version, deadline, now))
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            await asyncio.wait([accepting], timeout=left_s)
            if not accepting.done():  # it goes on, and what it stores is computed
                raise StoreBusy("The store is slow; the tasks are kept as soon as it can.")
            accepting.result()
            await batch.wait(deadline - min(left_s / 2, REPLY_PER_TASK_S * len(tasks)))
            return await self._reply(ask, batch, tasks)
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

        def prepare() -> tuple[list[NewWork], dict[int, str]]:
            self._store.save_recipe(ask.record, now)
            items: list[NewWork] = []
            withheld: dict[int, str] = {}
            for task in tasks:
                if isinstance(task.id, int):
                    url = None if task.image_url is None else for_disk(task.image_url)
                    items.append(NewWork(ask.project, task.id, version, fingerprint, url))
                    if task.image_url is not None and url != task.image_url:
                        withheld[task.id] = task.image_url
            return items, withheld

        items, withheld = await self._calls.run(prepare)
        await self._worker.accept(
            batch, items, interactive=ask.interactive, reply_until=until, now=now, addresses=withheld
        )

    async def _reply(self, ask: Ask, batch: Batch, tasks: Sequence[TaskInput]) -> list[TaskResult]:
        """What may go out, noted as such before it does. In a thread to the last: see `_divide`.

        What Label Studio was told, or may still have been storing, when it chose the tasks of this request is left out:
        it would store that twice. What goes beyond `max_in_reply` is left to the delivery.
        """
        chosen_at = ask.asked_at - (PREPARE_S + PREPARE_PER_TASK_S * len(tasks))
        outcomes = dict(batch.outcomes)
        if self._max_in_reply is not None:
            answered = [
                work_id for work_id in batch.ids.values() if work_id in outcomes and outcomes[work_id].answer_key
            ]
            for work_id in answered[self._max_in_reply :]:
                del outcomes[work_id]

        def look() -> list[TaskResult]:
            keys = {outcome.answer_key for outcome in outcomes.values() if outcome.answer_key}
            contents = self._store.answers(list(keys))
            made: dict[int, dict[str, Any]] = {}
            for task_id, work_id in batch.ids.items():
                outcome = outcomes.get(work_id)
                if outcome is not None and outcome.answer_key in contents:
                    try:
                        stored = contents[outcome.answer_key]
                        answered = Answered.read(ask.recipe, stored.key, stored.content)
                        made[work_id] = answered.prediction(ask.recipe, task_id)
                    except ValueError:
                        log.exception("the answer stored for task %s cannot be read", task_id)
            now, num = self._clock(), len(made)
            stored_at, check_at = now + STORE_PER_PREDICTION_S * num, now + CHECK_S + CHECK_PER_PREDICTION_S * num
            allowed = (
                self._store.returned(list(made), check_at, now, chosen_at=chosen_at, told_at=stored_at) if made else []
            )
            told = {work_id: made[work_id] for work_id in allowed}
            return [self._result(batch, outcomes, told, task) for task in tasks]

        return await self._calls.run(look)

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
