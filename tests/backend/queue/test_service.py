"""What lasts between requests: it ends in time whatever hangs, and old work is forgotten by the hour."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.api.project_model import ProjectModel
from backend.predict.task import TaskInput
from backend.queue.service import DurableCore, Timing
from backend.queue.task_queue import KEEP_S, PRUNE_EVERY_S
from backend.settings import load_settings
from backend.store import Store, WorkState
from backend.store.serving import FILE_NAME, open_store
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG
from tests.backend.steered import SteeredTime
from tests.backend.store.given import RECIPE, accepted, done, tasks
from tests.fakes import FakeEngine, FakeImages
from tests.limits import TEST_S, WAIT_S, eventually

PROJECT = "12.1700000000"
LIMIT_S = 1.0


def core(data_dir: Path, engine: FakeEngine, images: FakeImages, steered: SteeredTime, **settings: str) -> DurableCore:
    chosen = load_settings({"data_dir": data_dir, "max_slots": "1", **settings})
    return DurableCore(chosen, engine, images, Timing(steered.wall))


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


@dataclass
class SilentLabelStudio:
    """Takes connections and says nothing."""

    url: str
    num_asked: int = 0


@contextmanager
def silent_label_studio() -> Iterator[SilentLabelStudio]:
    with ExitStack() as taken, socket.create_server(("127.0.0.1", 0)) as listener:
        silent = SilentLabelStudio(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def take() -> None:
            while True:
                try:
                    taken.enter_context(listener.accept()[0])
                except OSError:
                    return
                silent.num_asked += 1

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield silent
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
    """Begin five tasks; two are done, two in work."""
    model = ProjectModel.of_config(running, PROJECT, CONFIG)
    inputs = [TaskInput(number, f"https://shop.example/{number}.jpg") for number in range(5)]
    deadline = asyncio.get_running_loop().time() + TEST_S
    asking = asyncio.create_task(model.predict_tasks(inputs, deadline, interactive=False, keep=True))
    await eventually(lambda: engine.num_asked == 4)  # two at a time
    running.worker.answer_now()
    assert sum(bool(result.prediction) for result in await asking) == 2


@pytest.mark.parametrize("what", ["engine", "pictures", "store", "Label Studio", "all of them", "nothing"])
def test_it_ends_whatever_hangs_and_keeps_what_was_computed(tmp_path: Path, what: str) -> None:
    def hangs(name: str) -> bool:
        return what in (name, "all of them")

    steered = SteeredTime()
    with silent_label_studio() as label_studio:
        access = (
            {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY} if hangs("Label Studio") else {}
        )
        engine, images = HangingEngine(2), HangingImages()
        engine.hangs, images.hangs = hangs("engine"), hangs("pictures")

        async def go() -> None:
            steered.hold_wall()
            running = core(tmp_path, engine, images, steered, **access)
            await running.start()
            await under_way(running, engine)
            if access:
                await eventually(lambda: states(tmp_path).get("returned") == 2)
                steered.put_forward(300)  # what went out in the reply is looked up in Label Studio
                running.delivery.wake()
                await eventually(lambda: label_studio.num_asked)
            with ExitStack() as trouble:
                if hangs("store"):
                    trouble.enter_context(locked(tmp_path))
                await running.close(LIMIT_S)

        steered.run(go())
    with Store.open(tmp_path / FILE_NAME, steered.wall()) as store:  # as the next start does
        store.recover(steered.wall())
        assert states(tmp_path) == {"returned": 2, "queued": 3}, "what was computed is kept, the rest is taken up again"


def test_after_an_orderly_end_the_next_start_has_nothing_to_repair(tmp_path: Path) -> None:
    engine, steered = GateEngine(2), SteeredTime()

    async def go() -> None:
        running = core(tmp_path, engine, FakeImages(), steered)
        await running.start()
        await under_way(running, engine)
        with steered.hold_loop():  # nothing is cut short because the machine is busy
            closing = asyncio.create_task(running.close(WAIT_S))
            for _ in range(10):
                await asyncio.sleep(0)  # it has begun, and waits for what is in work
            steered.put_forward(WAIT_S / 2)
            await closing

    steered.run(go())
    assert not (tmp_path / f"{FILE_NAME}-wal").exists()
    with open_store(tmp_path, time.time()) as store:
        assert store.recover(time.time()) == 0
        assert [work.attempts for work in store.claim(9, time.time())] == [1, 1, 1]


def run_core(data_dir: Path, steered: SteeredTime, test: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        running = core(data_dir, FakeEngine({}, ready=False), FakeImages(), steered)
        await running.start()
        try:
            await test()
        finally:
            await running.close(LIMIT_S)

    steered.run(go())


def test_old_work_is_forgotten_at_the_start_and_again_by_the_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steered = SteeredTime()
    steered.hold_wall()
    now = steered.wall()
    old = now - KEEP_S - 60
    with Store.open(tmp_path / FILE_NAME, old) as store:
        store.save_recipe(RECIPE, old)
        store.delivered([work.id for work in done(store, 5, now=old)], old)
        store.delivered([work.id for work in done(store, 3, now=old + 120, first=100)], old + 120)
        accepted(store, tasks(2, first=1_000), old)

    async def test() -> None:
        await eventually(lambda: _pruned(caplog) == ["5"])
        steered.put_forward(PRUNE_EVERY_S)
        await eventually(lambda: _pruned(caplog) == ["5", "3"])

    with caplog.at_level(logging.INFO):
        run_core(tmp_path, steered, test)
    with Store.open(tmp_path / FILE_NAME, now) as store:
        assert store.summary()[0].states == {WorkState.QUEUED: 2}, "what is not over is kept however old it is"


def _pruned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.split()[0] for line in caplog.messages if "are forgotten" in line]


def test_a_round_of_forgetting_that_fails_is_not_the_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steered = SteeredTime()
    old = time.time() - KEEP_S - 60
    with Store.open(tmp_path / FILE_NAME, old) as store:
        store.save_recipe(RECIPE, old)
        store.delivered([work.id for work in done(store, 5, now=old)], old)

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other, other:
            other.execute(statement)

    execute("CREATE TRIGGER odd BEFORE DELETE ON work BEGIN SELECT RAISE(ABORT, 'odd'); END")

    def num_failed() -> int:
        return sum("could not be forgotten" in line or "has trouble" in line for line in caplog.messages)

    async def test() -> None:
        await eventually(lambda: num_failed() == 1)
        execute("DROP TRIGGER odd")
        steered.put_forward(PRUNE_EVERY_S)
        await eventually(lambda: _pruned(caplog) == ["5"])

    with caplog.at_level(logging.INFO):
        run_core(tmp_path, steered, test)
