"""A worker over a real store, and stores some of whose calls fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from backend.errors import StoreBusy, StoreFull
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.predictor import Answerer
from backend.predict.recipe import Recipe, recipe_of
from backend.predict.task import TaskInput
from backend.queue.held_tasks import HeldTasks
from backend.queue.recipes import Recipes
from backend.queue.task_jobs import JobLimits, TaskJobs
from backend.queue.waiting import Outcome, Waiter
from backend.queue.worker import Worker, WorkerLimits
from backend.store import NewWork, RecipeRecord, Store
from backend.store.calls import StoreCalls
from backend.store.types import ProjectSummary
from label_config.parse import parse_label_config
from tests.backend.serving import CONFIG
from tests.fakes import READY, FakeEngine, FakeImages
from tests.limits import TEST_S, WAIT_S, eventually, until

PROJECT = "12.1700000000"
RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)
VERSION = RECIPE.version(READY)
RECORD = RecipeRecord(RECIPE.fingerprint, PROJECT, CONFIG, "{}")
FAST = WorkerLimits(max_running=4, max_urgent=2, poll_s=0.02)
JOB = JobLimits(busy_s=0.01, retry_s=0.01)


class Watched:
    """The real store. Classes below make some of its calls fail."""

    num_looks = 0
    """The worker asks for it in each of its rounds, after it has taken what there was to take."""

    def __init__(self, store: Store) -> None:
        self.real = store

    def summary(self) -> list[ProjectSummary]:
        self.num_looks += 1
        return self.real.summary()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class FullDisk(Watched):
    is_full = True
    num_tries = 0

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        self.num_tries += 1
        if self.is_full:
            raise StoreFull("The disk is full.")
        return self.real.finish(*args, **kwargs)


class OftenLocked(Watched):
    num_claims = 0

    def claim(self, *args: Any) -> Any:
        self.num_claims += 1
        if self.num_claims % 3:
            raise StoreBusy("It is locked.")
        return self.real.claim(*args)


class CountsClaims(Watched):
    num_claims = 0

    def claim(self, *args: Any) -> Any:
        self.num_claims += 1
        return self.real.claim(*args)


class SlowToTell(Watched):
    """The first task's turn is over before its request hears that it was accepted."""

    def accept(self, *args: Any, **kwargs: Any) -> Any:
        works = self.real.accept(*args, **kwargs)
        until(lambda: self.real.summary()[0].states.keys() <= {"done", "failed"})
        return works


class Rig:
    """A worker that runs, and what it works with. Use it inside `run`."""

    def __init__(self, store: Store | Watched, engine: FakeEngine, limits: WorkerLimits = FAST) -> None:
        self.store: Any = store if isinstance(store, Watched) else Watched(store)
        self.engine = engine
        self.images = FakeImages()
        self.calls = StoreCalls(store)
        metrics = Metrics()
        answerer = Answerer(engine, self.images, metrics, self._find)
        self.held = HeldTasks()
        jobs = TaskJobs(self.store, self.calls, engine, answerer, Recipes(self.store, 256), self.held, JOB)
        self.worker = Worker(self.store, self.calls, engine, jobs, metrics, limits)

    async def _find(self, recipe: Recipe, key: str) -> Answered | None:
        found = self.store.answer(key)
        return Answered.read(recipe, key, found.content) if found else None

    async def accept(
        self,
        *task_ids: int,
        url: str = "https://shop.example/{}.jpg",
        version: str = VERSION,
        interactive: bool = False,
        project: str = PROJECT,
        whole: Mapping[int, TaskInput] | None = None,
    ) -> Waiter:
        waiter, now = Waiter(), time.time()
        self.store.save_recipe(RECORD, now)
        items = [
            NewWork(project, number, version, RECIPE.fingerprint, url.format(number) or None) for number in task_ids
        ]
        self.held.hold(items, whole or {})
        call = partial(self.store.accept, items, interactive=interactive, reply_until=now + TEST_S, now=now)
        await self.worker.accept(waiter, len(items), call, project)
        return waiter

    async def outcomes(self, waiter: Waiter) -> list[Outcome]:
        await waiter.wait(asyncio.get_running_loop().time() + WAIT_S)
        return [waiter.outcomes[work_id] for work_id in waiter.ids.values()]

    async def rounds(self, number: int) -> None:
        """Let the worker go through so many of its rounds."""
        looked = self.store.num_looks
        await eventually(lambda: self.store.num_looks > looked + number)

    def states(self) -> dict[str, int]:
        return {str(state): num for summary in self.store.summary() for state, num in summary.states.items()}


def run(rig: Rig, test: Callable[[], Awaitable[None]], stop_s: float = 5) -> None:
    async def go() -> None:
        rig.worker.start()
        try:
            await test()
        finally:
            await rig.worker.stop(stop_s)

    asyncio.run(go())
