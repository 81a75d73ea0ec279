"""The worker over a real store: what goes wrong with the engine, the pictures or the disk, and what is then kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, StoreBusy, StoreFull
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
from backend.store import NewWork, RecipeRecord, Store, WorkState
from backend.store.calls import FEW_ROWS, StoreCalls
from backend.store.types import ProjectSummary
from label_config.parse import parse_label_config
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG
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

    def claim(self, limit: int, now: float) -> Any:
        self.num_claims += 1
        if self.num_claims % 3:
            raise StoreBusy("It is locked.")
        return self.real.claim(limit, now)


class CountsClaims(Watched):
    num_claims = 0

    def claim(self, limit: int, now: float) -> Any:
        self.num_claims += 1
        return self.real.claim(limit, now)


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
        whole: Mapping[int, TaskInput] | None = None,
    ) -> Waiter:
        waiter, now = Waiter(), time.time()
        self.store.save_recipe(RECORD, now)
        items = [
            NewWork(PROJECT, number, version, RECIPE.fingerprint, url.format(number) or None) for number in task_ids
        ]
        self.held.hold(items, whole or {})
        call = partial(self.store.accept, items, interactive=interactive, reply_until=now + TEST_S, now=now)
        await self.worker.accept(waiter, len(items), call, interactive=interactive)
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


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "prelabel.db", time.time()) as opened:
        yield opened


def run(rig: Rig, test: Callable[[], Awaitable[None]], stop_s: float = 5) -> None:
    async def go() -> None:
        rig.worker.start()
        try:
            await test()
        finally:
            await rig.worker.stop(stop_s)

    asyncio.run(go())


def test_accepted_work_is_answered_and_stored(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:
        waiter = await rig.accept(1, 2, 3)
        keys = [outcome.answer_key for outcome in await rig.outcomes(waiter)]
        assert len(rig.store.answers([key for key in keys if key])) == 3
        assert rig.states() == {"done": 3}

    run(rig, test)


def test_no_more_is_taken_than_fits_and_a_person_goes_before(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(20))
        await eventually(lambda: engine.num_asked == 4)
        person = await rig.accept(99, interactive=True)
        await eventually(lambda: engine.num_asked == 5)
        await rig.rounds(2)
        assert (engine.num_asked, rig.states()) == (5, {"queued": 16, "running": 5})
        engine.open()
        assert (await rig.outcomes(person))[0].answer_key
        await eventually(lambda: rig.states() == {"done": 21})

    run(rig, test)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GenerationFailed("too_long: the picture does not fit"), "generation_failed"),
        (Cancelled("cancelled"), "cancelled"),
        (EngineDead("the engine died 2 times while it worked on this request"), "engine_dead"),
        (RuntimeError("a bug"), "internal"),
    ],
    ids=["failed", "cancelled", "killed the engine", "bug"],
)
def test_a_task_the_engine_cannot_answer_fails_with_the_reason(store: Store, error: Exception, reason: str) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = error
    rig = Rig(store, engine)

    async def test() -> None:
        waiter = await rig.accept(1)
        [outcome] = await rig.outcomes(waiter)
        assert (outcome.answer_key, outcome.reason) == (None, reason)
        [failed] = rig.store.failures(PROJECT, 10)
        assert failed.reason == reason
        assert "a bug" not in failed.message

    run(rig, test)


@pytest.mark.parametrize(
    ("url", "reason"),
    [("https://shop.example/missing-{}.jpg", "image_not_found"), ("", "image_missing")],
    ids=["not there", "no address"],
)
def test_a_task_without_its_picture_fails_alone(store: Store, url: str, reason: str) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:
        bad, good = await rig.accept(1, url=url), await rig.accept(2)
        assert [outcome.reason for outcome in await rig.outcomes(bad)] == [reason]
        assert (await rig.outcomes(good))[0].answer_key

    run(rig, test)


def test_a_task_whose_turn_comes_at_once_has_its_whole_address(store: Store) -> None:
    rig = Rig(SlowToTell(store), FakeEngine(ANSWER))
    many = range(1, FEW_ROWS + 2)  # few have no turn before that
    whole = {number: TaskInput("text", f"https://shop.example/{number}.jpg?key=1") for number in many}

    async def test() -> None:
        waiter = await rig.accept(*many, url="https://shop.example/{}.jpg#withheld", whole=whole)
        assert all(outcome.answer_key for outcome in await rig.outcomes(waiter))
        assert sorted(rig.images.fetched) == sorted(str(task.image_url) for task in whole.values())

    run(rig, test)


def test_work_of_another_model_version_fails_and_says_what_to_do(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:
        [outcome] = await rig.outcomes(await rig.accept(1, version="another-nf4-0123456789ab"))
        assert outcome.reason == "model_changed"
        assert "ask again" in outcome.message
        assert rig.images.fetched == []

    run(rig, test)


@pytest.mark.parametrize("error", [EngineBusy("full"), EngineNotReady("restarting")], ids=["busy", "not ready"])
def test_a_busy_engine_is_asked_again_and_nothing_counts_as_an_attempt(store: Store, error: Exception) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = error
    rig = Rig(store, engine)

    async def test() -> None:
        waiter = await rig.accept(1, 2)
        await eventually(lambda: len(engine.requests) > 12)
        engine.failure = None
        assert all(outcome.answer_key for outcome in await rig.outcomes(waiter))

    run(rig, test)


SELDOM = replace(FAST, poll_s=10 * WAIT_S)
"""It looks for work that nobody announced too seldom for any test."""


@pytest.mark.parametrize("num_tasks", [1, 3 * FAST.max_running, 10 * FEW_ROWS])
def test_the_end_of_one_task_makes_room_for_the_next(store: Store, num_tasks: int) -> None:
    rig = Rig(store, FakeEngine(ANSWER), SELDOM)

    async def test() -> None:
        assert all(outcome.answer_key for outcome in await rig.outcomes(await rig.accept(*range(num_tasks))))
        waiter = await rig.accept(num_tasks)
        assert (await rig.outcomes(waiter))[0].answer_key

    run(rig, test)


def test_suspects_take_their_turns_as_soon_as_the_one_before_has_ended(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER), SELDOM)
    store.save_recipe(RECORD, time.time())
    rows = [NewWork(PROJECT, n, VERSION, RECIPE.fingerprint, f"https://shop.example/{n}.jpg") for n in range(5)]
    store.accept(rows, interactive=False, reply_until=0.0, now=time.time())
    store.claim(5, time.time())
    store.recover(time.time())  # the process ended while all of them ran

    async def test() -> None:
        await eventually(lambda: rig.states() == {"done": 5})

    run(rig, test)


def test_a_task_that_was_queued_again_is_taken_up_again(store: Store) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = EngineNotReady("restarting")
    rig = Rig(store, engine, SELDOM)

    async def test() -> None:
        waiter = await rig.accept(1)
        await eventually(lambda: len(engine.requests) > 3)
        engine.failure = None
        assert (await rig.outcomes(waiter))[0].answer_key

    run(rig, test)


def test_a_task_is_claimed_in_the_transaction_that_accepts_it_and_nothing_is_claimed_in_vain(store: Store) -> None:
    rig = Rig(CountsClaims(store), FakeEngine(ANSWER), SELDOM)

    async def test() -> None:
        for number in range(5):
            assert (await rig.outcomes(await rig.accept(number)))[0].answer_key
        assert rig.store.num_claims <= 6  # one at the start

    run(rig, test)


@pytest.mark.parametrize("state", ["restarting", "loading"])
def test_nothing_is_taken_while_the_engine_is_not_ready(store: Store, state: Any) -> None:
    engine = FakeEngine(ANSWER)
    engine.status = EngineStatus(state)
    rig = Rig(store, engine)

    async def test() -> None:
        waiter = await rig.accept(1)
        await rig.rounds(2)
        assert rig.states() == {"queued": 1}
        engine.status = EngineStatus("ready", "ready", 1.0, READY)
        assert (await rig.outcomes(waiter))[0].answer_key

    run(rig, test)


class Dies(FakeEngine):
    async def generate(self, request: GenerateRequest) -> Finished:
        self.status = EngineStatus("failed", message="it died")
        raise EngineDead("it died")


def test_when_the_engine_is_given_up_its_work_is_queued_and_nobody_waits_in_vain(store: Store) -> None:
    rig = Rig(store, Dies(ANSWER))

    async def test() -> None:
        waiter = await rig.accept(1, 2, 3)
        await waiter.wait(asyncio.get_running_loop().time() + 10**9)
        assert waiter.outcomes == {}
        await eventually(lambda: rig.states() == {"queued": 3})

    run(rig, test)
    assert [work.attempts for work in store.claim(9, time.time())] == [1, 1, 1]


def test_a_full_disk_throws_no_answer_away_and_stops_the_worker(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(ANSWER)
    disk = FullDisk(store)
    rig = Rig(disk, engine)

    async def test() -> None:
        waiter = await rig.accept(*range(10))
        await eventually(lambda: len(engine.requests) == 4)
        tried = disk.num_tries
        await eventually(lambda: disk.num_tries >= tried + 8)
        await rig.rounds(2)
        assert len(engine.requests) == 4, "it goes on computing what it cannot store"
        disk.is_full = False
        assert all(outcome.answer_key for outcome in await rig.outcomes(waiter))
        assert len(engine.requests) == 10

    with caplog.at_level(logging.WARNING):
        run(rig, test)
    assert len([line for line in caplog.messages if "The disk is full" in line]) == 1


def test_a_store_that_is_locked_for_a_while_delays_and_loses_nothing(store: Store) -> None:
    rig = Rig(OftenLocked(store), FakeEngine(ANSWER))

    async def test() -> None:
        assert all(outcome.answer_key for outcome in await rig.outcomes(await rig.accept(1, 2, 3)))

    run(rig, test)


def test_stopping_lets_what_is_nearly_done_end_and_queues_the_rest_without_counting_it(store: Store) -> None:
    engine = GateEngine(1)
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(6))
        await eventually(lambda: engine.num_asked == 5 and engine.num_done == 1)

    run(rig, test, stop_s=4.5)
    assert rig.states() == {"done": 1, "queued": 5}
    assert {work.attempts for work in store.claim(9, time.time())} == {1}


def test_cancelled_work_that_is_under_way_says_so(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        waiter = await rig.accept(1)
        await eventually(lambda: engine.num_asked == 1)
        store.cancel_project(PROJECT, time.time())
        engine.open()
        assert [outcome.reason for outcome in await rig.outcomes(waiter)] == ["cancelled"]
        assert rig.states() == {str(WorkState.CANCELLED): 1}

    run(rig, test)


def test_a_task_that_is_asked_for_again_and_again_waits_once(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:  # nothing runs: it is counted before the store is looked at
        for _ in range(5):
            await rig.accept(1, 2, 3)
            assert rig.worker.num_waiting == 3
        await rig.accept(3, 4, 5)
        assert rig.worker.num_waiting == 5

    asyncio.run(test())
