"""A request of /predict, from its tasks to their results: over the store on the disk and the one in memory, as one.

The disk loses nothing: each task is stored before anything is done for it, its answer before the reply is sent, and
what a reply cannot hold is pushed to Label Studio, or returned when it asks again. What the disk cannot keep (an id
that is no number, a picture inside the address), and what nobody asks for later, is in memory alone, and cancelled when
its reply goes out. So is a person's single task while the disk is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.errors import EngineNotReady, StoreError
from backend.metrics import Metrics
from backend.predict.task import TaskInput
from backend.queue.ask import Ask
from backend.queue.held_tasks import is_too_large
from backend.queue.replies import Replies
from backend.queue.results import TaskResult, report
from backend.queue.waiting import KEPT_BACK

MAX_DOWNLOAD_WAIT_S = 5.0
"""A download takes longer than any deadline, so waiting it out would only hold people up."""

MAX_AT_ONCE = 1_000
"""Tasks that are divided on the loop: some milliseconds."""


def can_be_kept(task: TaskInput) -> bool:
    """Whether the disk may have it: its id is a number, and its address is not the picture itself."""
    return isinstance(task.id, int) and (task.image_url is None or not is_too_large(task.image_url))


def _divide(tasks: Sequence[TaskInput]) -> tuple[list[int], list[int]]:
    """The places of those that the disk may have, and of the others. With a hundred thousand tasks it takes over
    a second."""
    kept: list[int] = []
    others: list[int] = []
    for place, task in enumerate(tasks):
        (kept if can_be_kept(task) else others).append(place)
    return kept, others


Withheld = Callable[[Ask, Collection[int]], Awaitable[Collection[int]]]
"""Those of the tasks whose answers are not to be shown. Raises StoreError."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Use it from one event loop. Without `disk` everything is in memory; without `withheld` nothing is audited."""

    engine: Engine
    metrics: Metrics
    memory: Replies
    disk: Replies | None = None
    known_model: Callable[[], Ready | None] = lambda: None
    withheld: Withheld | None = None

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock).

        While a model whose name is known loads or is started again, the disk takes tasks all the same.
        Raises EngineBusy, EngineNotReady, EngineDead and StoreError when nothing could be done.
        """
        if not tasks:
            return []
        kept, others = await self._divided(ask, tasks)
        ready = self.known_model() if kept else None
        if ready is None or self.engine.status.is_gone:
            ready = await self._wait_ready(deadline)
        version = ask.recipe.version(ready)
        if not others:
            results = await self._on_disk(ask, tasks, version, deadline)
        elif not kept:
            results = await self._in_memory(ask, tasks, version, deadline)
        else:
            asked = [
                asyncio.ensure_future(self._on_disk(ask, [tasks[place] for place in kept], version, deadline)),
                asyncio.ensure_future(self._in_memory(ask, [tasks[place] for place in others], version, deadline)),
            ]
            try:
                on_disk, in_memory = await asyncio.gather(*asked)
            finally:
                for one in asked:
                    one.cancel()
            by_place = dict(zip([*kept, *others], [*on_disk, *in_memory], strict=True))
            results = [by_place[place] for place in range(len(tasks))]
        report(results, self.metrics)
        status = self.engine.status
        if not kept and status.state != "ready" and all(result.reason == "deadline" for result in results):
            raise EngineNotReady(f"the model is {status.state}; ask again in a minute", retry_after_s=30)
        return results

    async def _divided(self, ask: Ask, tasks: Sequence[TaskInput]) -> tuple[Sequence[int], Sequence[int]]:
        if self.disk is None or not ask.keep:
            return [], range(len(tasks))
        if len(tasks) <= MAX_AT_ONCE:
            return _divide(tasks)
        return await asyncio.to_thread(_divide, tasks)

    async def _wait_ready(self, deadline: float) -> Ready:
        """Wait for the model until the deadline; only briefly while it is downloaded, which takes longer anyway."""
        status = self.engine.status
        if status.state == "ready" and status.ready:
            return status.ready
        left_s = max(0.001, deadline - asyncio.get_running_loop().time())
        if status.state == "loading" and status.stage == "download":
            left_s = min(left_s, MAX_DOWNLOAD_WAIT_S)
        return await self.engine.wait_ready(left_s)

    async def _on_disk(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        assert self.disk is not None
        try:
            return await self.disk.answer(ask, tasks, version, deadline)
        except StoreError:
            if not ask.interactive:
                raise
            return await self._in_memory(ask, tasks, version, deadline)

    async def _in_memory(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        """Of a task that is withheld nothing is computed here: it could not be kept."""
        audited = {task.id for task in tasks if isinstance(task.id, int) and can_be_kept(task)}
        withheld = await self.withheld(ask, audited) if self.withheld and audited else frozenset()
        shown = [task for task in tasks if task.id not in withheld]
        answered = iter(await self._shown(ask, shown, version, deadline) if shown else ())
        return [
            TaskResult(task.id, None, KEPT_BACK.reason, KEPT_BACK.message) if task.id in withheld else next(answered)
            for task in tasks
        ]

    async def _shown(self, ask: Ask, tasks: Sequence[TaskInput], version: str, deadline: float) -> list[TaskResult]:
        results = await self.memory.answer(ask, tasks, version, deadline)
        if not self.engine.status.is_gone:
            return results
        dead = "the engine has ended, and is not started again"
        return [replace(r, reason="engine_dead", message=dead) if r.reason == "deadline" else r for r in results]
