"""What lasts between requests: it ends in time whatever hangs, and old work is forgotten by the hour."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import core
from backend.core import DurableCore
from backend.errors import StoreFull
from backend.http.requests import TaskInput
from backend.keeping import FILE_NAME, open_store
from backend.project_model import ProjectModel
from backend.settings import load_settings
from backend.store import Store, WorkState
from label_config import parse_label_config
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG, look_up_at_once
from tests.backend.store.given import RECIPE, accepted, done, tasks
from tests.fakes import FakeEngine, FakeImages

PROJECT = "12.1700000000"
LIMIT_S = 2.0
GRACE_S = 1.5
"""For a busy machine."""


class HangingEngine(GateEngine):
    """Answers nothing beyond the gate, and does not end."""

    hangs = False

    async def close(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()


class HangingImages(FakeImages):
    hangs = False

    async def aclose(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()


@contextmanager
def silent_label_studio() -> Iterator[str]:
    """Takes connections and says nothing."""
    with ExitStack() as taken, socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    taken.enter_context(listener.accept()[0])
                except OSError:
                    return

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            taking.join()


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    with closing(sqlite3.connect(data_dir / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def under_way(running: DurableCore, engine: GateEngine) -> None:
    """Begin four tasks; two are done."""
    model = ProjectModel(running, PROJECT, parse_label_config(CONFIG))
    inputs = [TaskInput(number, f"https://shop.example/{number}.jpg") for number in range(4)]
    deadline = asyncio.get_running_loop().time() + 30
    asking = asyncio.create_task(model.predict_tasks(inputs, deadline, interactive=False, keep_config=CONFIG))
    await until(lambda: states(running.settings.data_dir) == {"done": 2, "running": 2})
    await asyncio.sleep(0.05)  # for the news to reach the request
    running.worker.answer_now()
    assert sum(bool(result.prediction) for result in await asking) == 2
    await until(lambda: engine.num_asked == 4)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["engine", "pictures", "store", "Label Studio", "all of them", "nothing"])
def test_it_ends_in_time_whatever_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    look_up_at_once(monkeypatch)

    def hangs(name: str) -> bool:
        return what in (name, "all of them")

    with silent_label_studio() as url:
        access = {"label_studio_url": url, "label_studio_api_key": LEGACY_KEY} if hangs("Label Studio") else {}
        engine, images = HangingEngine(2), HangingImages()
        engine.hangs, images.hangs = hangs("engine"), hangs("pictures")

        async def go() -> None:
            running = DurableCore(load_settings({"data_dir": tmp_path, **access}), engine, images)
            await running.start()
            await under_way(running, engine)
            if access:
                await until(lambda: bool(running.delivery._running))
            with ExitStack() as trouble:
                if hangs("store"):
                    trouble.enter_context(locked(tmp_path))
                async with asyncio.timeout(LIMIT_S + GRACE_S):
                    await running.close(LIMIT_S)

        asyncio.run(go())
    told = states(tmp_path)
    left = {"running": 2} if hangs("store") else {"queued": 2}
    assert told == {"returned": 2} | left, "what was computed is kept, what was not is taken up again"


def test_after_an_orderly_end_the_next_start_has_nothing_to_repair(tmp_path: Path) -> None:
    engine = HangingEngine(2)

    async def go() -> None:
        running = DurableCore(load_settings({"data_dir": tmp_path}), engine, FakeImages())
        await running.start()
        await under_way(running, engine)
        await running.close(LIMIT_S)

    asyncio.run(go())
    assert not (tmp_path / f"{FILE_NAME}-wal").exists()
    with open_store(tmp_path, time.time()) as store:
        assert store.recover(time.time()) == 0
        assert [work.attempts for work in store.claim(9, time.time())] == [1, 1]


def run_core(data_dir: Path, condition: Callable[[DurableCore], bool]) -> None:
    async def go() -> None:
        running = DurableCore(load_settings({"data_dir": data_dir}), FakeEngine({}, ready=False), FakeImages())
        await running.start()
        try:
            await until(lambda: condition(running))
        finally:
            await running.close(LIMIT_S)

    asyncio.run(go())


def test_old_work_is_forgotten_at_the_start_and_again_by_the_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    clock = SimpleNamespace(time=lambda: now + 3_600 * len(_pruned(caplog)), monotonic=time.monotonic)
    monkeypatch.setattr(core, "PRUNE_EVERY_S", 0.05)
    monkeypatch.setattr(core, "time", clock)
    old = now - core.KEEP_S - 60
    with Store.open(tmp_path / FILE_NAME, old) as store:
        store.save_recipe(RECIPE, old)
        store.delivered([work.id for work in done(store, 5, now=old)], old)
        store.delivered([work.id for work in done(store, 3, now=old + 120, first=100)], old + 120)
        accepted(store, tasks(2, first=1_000), old)
    with caplog.at_level(logging.INFO):
        run_core(tmp_path, lambda running: len(_pruned(caplog)) == 2)
    assert _pruned(caplog) == ["5", "3"]
    with Store.open(tmp_path / FILE_NAME, now) as store:
        assert store.summary()[0].states == {WorkState.QUEUED: 2}, "what is not over is kept however old it is"


def _pruned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.split()[0] for line in caplog.messages if "are forgotten" in line]


def test_a_round_of_forgetting_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(core, "PRUNE_EVERY_S", 0.01)
    faults: list[Exception] = [StoreFull("The disk is full."), RuntimeError("a bug"), sqlite3.OperationalError("odd")]
    rounds = 0

    def prune(self: Store, now: float, keep_s: float) -> int:
        nonlocal rounds
        rounds += 1
        if faults:
            raise faults.pop(0)
        return 0

    monkeypatch.setattr(Store, "prune", prune)
    run_core(tmp_path, lambda running: rounds >= 5)
    assert sum("The disk is full" in line for line in caplog.messages) == 1
    assert caplog.messages.count("old work could not be forgotten") == 2
