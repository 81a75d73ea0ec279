"""One worker of a bulk run on Ray, with a fake engine and real picture files. No Ray runs."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.items import Found, Item
from backend.bulk.label_configs import LabelConfig
from backend.bulk.outcomes import FailedItem, Record
from backend.engine.api import EngineStatus
from backend.engine.messages import Ready, Stats
from backend.errors import EngineDead
from backend.ray.bulk.worker import COLUMN, BulkWorker, Reply
from backend.settings import load_settings
from tests.backend.bulk.given import SCHEMA, item, many_pictures
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import READY, FakeEngine
from tests.limits import POLL_S, until


def _worker(tmp_path: Path, engine: FakeEngine, tell: Callable[[str], None] = lambda line: None) -> BulkWorker:
    return BulkWorker(load_settings({"data_dir": tmp_path / "data"}), LabelConfig(CONFIG, SCHEMA), tell, engine)


def _items(tmp_path: Path, num: int) -> list[Item]:
    paths = sorted(many_pictures(tmp_path / "p", num).iterdir())
    return [Item(path.stem, Found(str(path), path.stem, is_file=True)) for path in paths]


def _ask(worker: BulkWorker, *items: Item) -> Reply:
    [packed] = worker({COLUMN: [pickle.dumps(one) for one in items]})[COLUMN]
    reply = pickle.loads(packed)
    assert isinstance(reply, Reply)
    return reply


def test_a_worker_answers_each_item_of_a_batch_and_keeps_no_file(tmp_path: Path) -> None:
    reply = _ask(_worker(tmp_path, FakeEngine(ANSWER)), *_items(tmp_path, 2), item("missing"))
    assert [type(outcome) for outcome in reply.outcomes] == [Record, Record, FailedItem]
    assert reply.outcomes[2].line["reason"] == "image_not_found"
    assert reply.model_version == reply.outcomes[0].line["model_version"]
    assert (reply.model_name, reply.error) == ("garments", "")
    assert not (tmp_path / "data").exists()


def test_a_machine_with_another_version_of_prelabel_loads_nothing_and_says_so(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path / "data", "model": "garments"})
    worker = BulkWorker(settings, LabelConfig(CONFIG, SCHEMA), lambda line: None, None, "of another version")
    [first, *_] = _items(tmp_path, 1)
    assert "has another version on another machine of the cluster" in _ask(worker, first).error


def test_a_worker_tells_what_makes_its_present_engine_slower(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    worker = _worker(tmp_path, engine)
    [first, second] = _items(tmp_path, 2)
    assert _ask(worker, first).slower == ()
    slower = (("slow_graphs", "not permitted"),)
    engine.status = EngineStatus(
        "ready",
        ready=replace(READY, slower=slower),
        num_running=1,
        num_restarts=2,
        stats=Stats(prefill_tokens=512, most_prefill_tokens=4096),
        ended="the device failed",
    )
    assert _ask(worker, second).slower == (
        *slower,
        ("slow_shortage", "512 / 4,096"),
        ("engine_restarted", "2; the device failed"),
    )


def test_a_worker_tells_what_it_is_at_with_its_machine_and_process_and_when_its_engine_starts_again(
    tmp_path: Path,
) -> None:
    told: list[str] = []

    class Loads(FakeEngine):
        async def wait_ready(self, timeout_s: float) -> Ready:
            while not told:
                await asyncio.sleep(POLL_S)
            self.status = EngineStatus("ready", ready=READY)
            return READY

    engine = Loads(ANSWER, ready=False)
    worker = _worker(tmp_path, engine, told.append)
    until(lambda: len(told) == 2)
    engine.status = EngineStatus("restarting", message="it was killed")
    until(lambda: len(told) == 3)
    del worker  # with it goes its engine
    who = f"{socket.gethostname()}, process {os.getpid()}"
    loaded = "garments (nf4) on cpu, 0.1 GiB, loaded in 0 s"
    assert told == [f"{who}: {line}" for line in ("25% weights", loaded, "Model restarting: it was killed")]


def test_a_worker_takes_several_batches_at_once(tmp_path: Path) -> None:
    engine = GateEngine()
    worker = _worker(tmp_path, engine)
    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(_ask, worker, one) for one in _items(tmp_path, 6)]
        try:
            until(lambda: engine.num_asked == 6, "that none waits for another")
        finally:
            engine.open()
    assert [len(asked.result().outcomes) for asked in asking] == [1] * 6


def test_a_worker_that_cannot_load_the_model_says_why_for_every_batch(tmp_path: Path) -> None:
    class Unloadable(FakeEngine):
        async def wait_ready(self, timeout_s: float) -> Any:
            raise EngineDead("the model could not be loaded: no such model")

    worker = _worker(tmp_path, Unloadable(ANSWER))
    for _ in range(2):
        reply = _ask(worker, item("a"), item("b"))
        assert reply.error == "the model could not be loaded: no such model"
        assert not reply.outcomes


@pytest.mark.parametrize("num_done", [0, 1])
def test_a_worker_whose_engine_dies_for_good_hands_over_what_was_done(tmp_path: Path, num_done: int) -> None:
    class Dying(FakeEngine):
        async def generate(self, request: Any) -> Any:
            if len(self.requests) >= num_done:
                message = "the engine process died 6 times in a row"
                self.status = EngineStatus("failed", message=message)  # for the picture that comes after this one, too
                raise EngineDead(message)
            return await super().generate(request)

    reply = _ask(_worker(tmp_path, Dying(ANSWER)), *_items(tmp_path, 2))
    assert len(reply.outcomes) == num_done
    assert "died 6 times" in reply.error
