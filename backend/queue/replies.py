"""The reply to the tasks of one request, over one store: each is a row of work there before anything is done for it,
and its answer is stored before the reply goes out.

Raises EngineBusy and StoreError when nothing could be done.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence, Set
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, TypeVar

from backend.errors import EngineBusy, StoreBusy, StoreError
from backend.predict.task import TaskInput
from backend.queue.ask import Ask, Request
from backend.queue.held_tasks import WITHHELD, DiskAddresses, HeldTasks
from backend.queue.recipes import Recipes
from backend.queue.results import TaskResult, predictions, results_of
from backend.queue.waiting import KEPT_BACK, Outcome
from backend.queue.worker import Worker
from backend.store import Store
from backend.store.calls import StoreCalls
from backend.store.types import UNFINISHED, NewWork, RecipeRecord, Work, WorkState

log = logging.getLogger(__name__)
T = TypeVar("T")

CHECK_S = 120.0
"""After a reply Label Studio surely has stored what was in it, or never will."""
LATE_S = 10.0
"""How much later than its deadline a reply may still go out."""
CHECK_PER_PREDICTION_S = 0.3
STORE_PER_PREDICTION_S = 0.2
"""How long Label Studio may take to store each prediction of a reply; measured: 0.025 to 0.05 s, 0.2 s when busy."""
STORE_GRACE_S = 1.0
PREPARE_S = 2.0
PREPARE_PER_TASK_S = 0.03
"""How old a list of tasks may be when it arrives: Label Studio chooses them, asks /health and /setup, and writes the
request; measured: 2.6 s for 1,000 tasks, 5.5 s for 1,500."""
CHUNK = 500
"""Rows of one transaction: all others wait so long, those of a person's task several times."""
MAX_IN_REPLY = 50
"""A click on more tasks gets an empty reply at once where the delivery brings their predictions. Label Studio stores a
reply one by one, and the click lasts as long: 0.05 s each, 0.2 s on a busy machine; an import of 200 takes it 2 s."""
PUSH_AFTER_S = 10.0
"""There, a click on several tasks waits no longer for answers: proxies cut it at 60 s."""
SMALL_SHARE = 1 / 64
"""Of the memory for the tasks of all requests: one that takes no more has room whatever others hold."""
REPLY_PER_TASK_S = 0.0003
"""To read a stored answer and write it into the reply."""


@dataclass(slots=True, eq=False)
class Replies:
    """The replies over one store. Use it from one event loop.

    `lasts`: the store is on the disk. One in memory has its rows under numbers of their own, so that ids may be texts
    and no two requests share a row, has no address in them, and forgets them when their reply is over. The tasks of all
    requests that it holds meanwhile are at most `max_held_bytes`, but one request always fits, and so do small ones.
    `pushes`: whether what a reply to a project does not hold is brought to Label Studio now.
    """

    store: Store
    calls: StoreCalls
    worker: Worker
    held: HeldTasks
    recipes: Recipes
    _: KW_ONLY
    lasts: bool
    max_waiting: int
    max_held_bytes: int = 0
    pushes: Callable[[str], bool] = lambda project: False
    clock: Callable[[], float] = time.time
    wake_delivery: Callable[[], None] = lambda: None
    _addresses: DiskAddresses = field(default_factory=DiskAddresses, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)
    _held_bytes: int = field(default=0, init=False)
    _ending: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def answer(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock).

        Raises EngineBusy when there is too much of it already, and StoreError, having done nothing.
        """
        pushes = len(tasks) > 1 and self.pushes(ask.project)
        left = pushes and len(tasks) > MAX_IN_REPLY
        # The delivery leaves the rows alone until the latest that the reply may go out, however early it means to.
        request = Request(ask, tasks, self._numbered(tasks), version, deadline, self.clock(), left)
        if pushes:
            deadline = min(deadline, asyncio.get_running_loop().time() + PUSH_AFTER_S)
        self._require_room(request)
        accepting = asyncio.ensure_future(self._accept(request))
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            await asyncio.wait([accepting], timeout=left_s)
            if self.lasts and not accepting.done():  # perhaps it is kept at this very moment: then it is not refused
                await asyncio.wait([accepting], timeout=STORE_GRACE_S)
            if accepting.done():
                accepting.result()
            elif self.lasts:  # it goes on, and what it stores is computed
                raise StoreBusy("The store is slow; the tasks are kept as soon as it can.")
            if not request.is_left_to_push:
                await request.waiter.wait(deadline - min(left_s / 2, REPLY_PER_TASK_S * len(tasks)))
            return await self._reply(request)
        except StoreError as error:
            self.calls.complain(error)
            if not ask.interactive or not request.waiter.ids:
                raise
            # it is in the store, which cannot note now that it was answered: the next time it is
            return [TaskResult(task.id, None, "store", str(error)) for task in tasks]
        finally:
            self._spawn(self._end(request, accepting))

    async def close(self, limit_s: float) -> None:
        """Let the ends of replies be noted."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=limit_s)

    def _numbered(self, tasks: Sequence[TaskInput]) -> list[int]:
        return [task.id if self.lasts and isinstance(task.id, int) else next(self._numbers) for task in tasks]

    def _require_room(self, request: Request) -> None:
        """Raises EngineBusy."""
        waiting, num_bytes = self.worker.num_waiting, 0 if self.lasts else request.num_bytes
        if waiting + len(request.tasks) > self.max_waiting:
            raise EngineBusy(f"too many tasks are waiting already ({waiting:,}); try again later", retry_after_s=60)
        is_small = num_bytes <= self.max_held_bytes * SMALL_SHARE
        if self._held_bytes and self._held_bytes + num_bytes > self.max_held_bytes and not is_small:
            raise EngineBusy("other requests hold too many pictures already; try again later", retry_after_s=60)
        self._held_bytes += num_bytes
        request.held_bytes = num_bytes

    async def _accept(self, request: Request) -> None:
        ask, record, now, whole = request.ask, request.ask.record, request.asked_at, request.whole
        until = now + max(0.0, request.deadline - asyncio.get_running_loop().time()) + LATE_S
        self.recipes.add(ask.recipe)
        if self.lasts:
            await self._set_present(record, request.version, now, ask.audit_share)
        share = ask.audit_share if self.lasts else 0.0

        def accept(rows: Sequence[NewWork]) -> list[Work]:
            self.store.save_recipe(record, now)
            return self.store.accept(rows, interactive=ask.interactive, reply_until=until, now=now, audit_share=share)

        for numbers, tasks in zip(_chunks(request.numbers), _chunks(request.tasks), strict=True):
            rows = []
            urls = await self._addresses.of(tasks) if self.lasts else [WITHHELD] * len(tasks)
            for number, task, url in zip(numbers, tasks, urls, strict=True):
                rows.append(NewWork(ask.project, number, request.version, ask.recipe.fingerprint, url))
                if url != task.image_url:
                    whole[number] = task
            request.rows += rows
            self.held.hold(rows, whole)
            call = partial(accept, rows)
            works = await self.worker.accept(request.waiter, len(rows), call, ask.project)
            to_come = (*UNFINISHED, WorkState.CANCELLED)  # a task whose row moved waits in another
            self.held.forget([work for work in works if work.state not in to_come], whole)

    async def _set_present(self, record: RecipeRecord, version: str, now: float, share: float) -> None:
        """As the store's, where it is another one; what is under way for that ends. Raises StoreError."""
        project, store = record.project, self.store
        present = await self.calls.short(lambda: (store.present(project), store.audit_share(project)))
        if present == ((version, record), share):
            return
        if await self.calls.run(lambda: store.set_present(record, version, now, share), project) is not None:
            self.worker.superseded(record.project, version)

    async def _reply(self, request: Request) -> list[TaskResult]:
        """What may go out, noted as such before it does. In a thread to the last: with a hundred thousand tasks it is
        over a second, in which the loop would not answer /health.

        What Label Studio was told, or may still have been storing, when it chose the tasks of this request is left out:
        it would store that twice.
        """
        chosen_at = request.ask.asked_at - (PREPARE_S + PREPARE_PER_TASK_S * len(request.tasks))
        outcomes = dict(request.waiter.outcomes)
        rest: list[int] = []
        if request.is_left_to_push:
            rest, outcomes = [work_id for work_id, one in outcomes.items() if one.answer_key], {}

        def look() -> list[TaskResult]:
            if rest:
                self.store.is_missing(rest, self.clock(), chosen_at=chosen_at)
            keys = {outcome.answer_key for outcome in outcomes.values() if outcome.answer_key}
            made = predictions(request, outcomes, self.store.answers(keys))
            now, num = self.clock(), len(made)
            stored_at, check_at = now + STORE_PER_PREDICTION_S * num, now + CHECK_S + CHECK_PER_PREDICTION_S * num
            allowed = (
                self.store.returned(list(made), check_at, now, chosen_at=chosen_at, told_at=stored_at) if made else []
            )
            told = {work_id: made[work_id] for work_id in allowed}
            return results_of(request, outcomes | self._kept_back(request, made.keys() - told.keys()), told)

        return await self.calls.about(len(request.tasks), look, request.ask.project)

    def _kept_back(self, request: Request, work_ids: Set[int]) -> dict[int, Outcome]:
        """Of `work_ids`, those which the store left out of a reply for the blind audit."""
        tasks = {number: work_id for number, work_id in request.waiter.ids.items() if work_id in work_ids}
        if not self.lasts or not tasks:
            return {}
        kept_back = self.store.withheld_tasks(request.ask.project, tasks, request.ask.audit_share)
        return {tasks[number]: KEPT_BACK for number in kept_back}

    async def _end(self, request: Request, accepting: asyncio.Future[None]) -> None:
        """The client may have left while the store was still accepting: only then is it known what there is to end."""
        await asyncio.wait([accepting])
        if not accepting.cancelled():
            accepting.exception()  # `answer` has raised it, or nobody is there to hear it
        self.worker.leave(request.waiter)
        ids = list(request.waiter.ids.values())
        try:
            if ids and self.lasts:
                for some in _chunks(ids):
                    call = partial(self.store.reply_ended, some, self.clock())
                    await self.calls.about(len(some), call, request.ask.project)
            elif ids:  # one after the other with the worker's claims: what is claimed is known when it is dropped
                await self.calls.short(lambda: self.store.abandon(ids, self.clock()))
        except StoreError as error:  # the store lets go of them by itself, at `reply_until`
            self.calls.complain(error)
        if not self.lasts:
            self.worker.drop(request.waiter)
            for rows in _chunks(request.rows):
                self.held.forget(rows, request.whole)
                await asyncio.sleep(0)
            self._held_bytes -= request.held_bytes
        if ids:
            self.wake_delivery()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
