"""The worker over a real store: what goes wrong with the engine, the pictures or the disk, and what is then kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.answering import Answerer
from backend.batches import Batch, Outcome
from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, StoreBusy, StoreFull
from backend.keeping import recipe_in
from backend.metrics import Metrics
from backend.projects import ProjectOptions
from backend.recipe import recipe_of
from backend.store import NewWork, RecipeRecord, Store, WorkState
from backend.store_calls import StoreCalls
from backend.task_jobs import JobLimits
from backend.worker import Worker, WorkerLimits
from label_config import parse_label_config
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import READY, FakeEngine, FakeImages

PROJECT = "12.1700000000"
RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)
VERSION = RECIPE.version(READY)
FAST = WorkerLimits(max_running=4, max_urgent=2, poll_s=0.02, job=JobLimits(busy_s=0.01, retry_s=0.01))


class Rig:
    """A worker that runs, and what it works with. Use it inside `run`."""

    def __init__(self, store: Store, engine: FakeEngine, limits: WorkerLimits = FAST) -> None:
        self.store = store
        self.engine = engine
        self.images = FakeImages()
        self.calls = StoreCalls()
        metrics = Metrics()
        answerer = Answerer(engine, self.images, metrics, self._find)
        self.worker = Worker(
            store, self.calls, engine, answerer, metrics, lambda name: recipe_in(store, name, 256), limits
        )

    async def _find(self, key: str) -> str | None:
        found = self.store.answer(key)
        return found.content if found else None

    async def accept(
        self, *task_ids: int, url: str = "https://shop.example/{}.jpg", version: str = VERSION, **fields: Any
    ) -> Batch:
        batch, now = Batch(), time.time()
        self.store.save_recipe(RecipeRecord(RECIPE.fingerprint, PROJECT, CONFIG, "{}"), now)
        items = [
            NewWork(PROJECT, number, version, RECIPE.fingerprint, url.format(number) or None) for number in task_ids
        ]
        wanted = {"interactive": False, "reply_until": now + 60, "now": now} | fields
        await self.worker.accept(batch, items, **wanted)
        return batch

    async def outcomes(self, batch: Batch) -> list[Outcome]:
        await batch.wait(asyncio.get_running_loop().time() + 10)
        return [batch.outcomes[work_id] for work_id in batch.ids.values()]

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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_accepted_work_is_answered_and_stored(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:
        batch = await rig.accept(1, 2, 3)
        keys = [outcome.answer_key for outcome in await rig.outcomes(batch)]
        assert len(rig.store.answers([key for key in keys if key])) == 3
        assert rig.states() == {"done": 3}

    run(rig, test)


def test_no_more_is_taken_than_fits_and_a_person_goes_before(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(20))
        await until(lambda: engine.num_asked == 4)
        person = await rig.accept(99, interactive=True)
        await until(lambda: engine.num_asked == 5)
        await asyncio.sleep(0.1)
        assert (engine.num_asked, rig.states()) == (5, {"queued": 16, "running": 5})
        engine.open()
        assert (await rig.outcomes(person))[0].answer_key
        await until(lambda: rig.states() == {"done": 21})

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
        batch = await rig.accept(1)
        [outcome] = await rig.outcomes(batch)
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
        batch = await rig.accept(1, 2)
        await until(lambda: len(engine.requests) > 12)
        engine.failure = None
        assert all(outcome.answer_key for outcome in await rig.outcomes(batch))

    run(rig, test)


@pytest.mark.parametrize("state", ["restarting", "loading"])
def test_nothing_is_taken_while_the_engine_is_not_ready(store: Store, state: Any) -> None:
    engine = FakeEngine(ANSWER)
    engine.status = EngineStatus(state)
    rig = Rig(store, engine)

    async def test() -> None:
        batch = await rig.accept(1)
        await asyncio.sleep(0.1)
        assert rig.states() == {"queued": 1}
        engine.status = EngineStatus("ready", "ready", 1.0, READY)
        assert (await rig.outcomes(batch))[0].answer_key

    run(rig, test)


class Dies(FakeEngine):
    async def generate(self, request: GenerateRequest) -> Finished:
        self.status = EngineStatus("failed", message="it died")
        raise EngineDead("it died")


def test_when_the_engine_is_given_up_its_work_is_queued_and_nobody_waits_in_vain(store: Store) -> None:
    rig = Rig(store, Dies(ANSWER))

    async def test() -> None:
        batch = await rig.accept(1, 2, 3)
        async with asyncio.timeout(5):
            await batch.wait(asyncio.get_running_loop().time() + 60)
        assert batch.outcomes == {}
        await until(lambda: rig.states() == {"queued": 3})

    run(rig, test)
    assert [work.attempts for work in store.claim(9, time.time())] == [1, 1, 1]


def test_a_full_disk_throws_no_answer_away_and_stops_the_worker(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(ANSWER)
    rig = Rig(store, engine)
    full = True
    finish = store.finish

    def finish_or_fail(*args: Any, **kwargs: Any) -> Any:
        if full:
            raise StoreFull("The disk is full.")
        return finish(*args, **kwargs)

    monkeypatch.setattr(store, "finish", finish_or_fail)

    async def test() -> None:
        nonlocal full
        batch = await rig.accept(*range(10))
        await until(lambda: len(engine.requests) == 4)
        await asyncio.sleep(0.2)
        assert len(engine.requests) == 4, "it goes on computing what it cannot store"
        full = False
        assert all(outcome.answer_key for outcome in await rig.outcomes(batch))
        assert len(engine.requests) == 10

    with caplog.at_level(logging.WARNING):
        run(rig, test)
    assert len([line for line in caplog.messages if "The disk is full" in line]) == 1


def test_a_store_that_is_locked_for_a_while_delays_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store, FakeEngine(ANSWER))
    num_calls = 0
    claim = store.claim

    def claim_sometimes(limit: int, now: float) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls % 3:
            raise StoreBusy("It is locked.")
        return claim(limit, now)

    monkeypatch.setattr(store, "claim", claim_sometimes)

    async def test() -> None:
        assert all(outcome.answer_key for outcome in await rig.outcomes(await rig.accept(1, 2, 3)))

    run(rig, test)


def test_stopping_lets_what_is_nearly_done_end_and_queues_the_rest_without_counting_it(store: Store) -> None:
    engine = GateEngine(1)
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(6))
        await until(lambda: engine.num_asked == 5 and engine.num_done == 1)

    started = time.monotonic()
    run(rig, test, stop_s=2.5)
    assert time.monotonic() - started < 10
    assert rig.states() == {"done": 1, "queued": 5}
    assert {work.attempts for work in store.claim(9, time.time())} == {1}


def test_cancelled_work_that_is_under_way_says_so(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        batch = await rig.accept(1)
        await until(lambda: engine.num_asked == 1)
        store.cancel_project(PROJECT, time.time())
        engine.open()
        assert [outcome.reason for outcome in await rig.outcomes(batch)] == ["cancelled"]
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
