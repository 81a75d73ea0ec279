"""The worker over a real store: what goes wrong with the engine, the pictures or the disk, and what is then kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from backend.store import Store
from tests.backend.queue.worker_rig import PROJECT, FullDisk, OftenLocked, Rig, run
from tests.backend.serving import ANSWER
from tests.fakes import READY, FakeEngine
from tests.limits import eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "prelabel.db", time.time()) as opened:
        yield opened


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
