"""What surrounds Ray in a bulk run: how work is dealt out, what is refused, what becomes of replies. Without a Ray."""

from __future__ import annotations

import asyncio
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backend.bulk import local_run, ray_run
from backend.bulk.items import Found, Item
from backend.bulk.job import Job
from backend.bulk.label_configs import LabelConfig
from backend.bulk.loading import Stopped
from backend.bulk.options import BulkOptions, check_options
from backend.bulk.outcomes import Failure, Record
from backend.bulk.ray_data import batch_sizes
from backend.bulk.ray_worker import COLUMN, BulkWorker, Reply
from backend.errors import EngineDead, UsageError
from backend.ray.cluster import Node, WorkerPlan, connected, on_any_machine, plan_workers, require_ray
from backend.settings import load_settings
from tests.backend.bulk.given import SCHEMA, VERSION, item, lines, many_pictures, pictures, record
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine

ALL = [item(name) for name in ("a", "b", "c")]


# -- how work is dealt out


@pytest.mark.parametrize(
    ("machines", "asked_for", "device", "plan"),
    [
        ([Node(16, 2), Node(16, 1)], None, "auto", WorkerPlan(3, 1, 1)),
        ([Node(16, 2), Node(16, 1)], 2, "auto", WorkerPlan(2, 1, 1)),
        ([Node(1, 4)], None, "cuda", WorkerPlan(4, 0, 1)),
        ([Node(16, 2)], None, "cpu", WorkerPlan(1, 16, 0)),
        ([Node(8, 0), Node(8, 0)], None, "auto", WorkerPlan(2, 8, 0)),
        ([Node(5, 0), Node(3, 0)], 3, "auto", WorkerPlan(3, 2, 0)),
        ([Node(6, 0), Node(2, 0)], 2, "auto", WorkerPlan(2, 3, 0)),
        ([Node(2, 0), Node(0, 0)], None, "auto", WorkerPlan(1, 2, 0)),
    ],
    ids=[
        "one a GPU", "fewer than GPUs", "fewer CPUs than GPUs", "a GPU that is not wanted", "one a machine",
        "uneven machines", "two on the larger one", "a head that lends nothing",
    ],
)  # fmt: skip
def test_workers_are_dealt_out(machines: list[Node], asked_for: int | None, device: str, plan: WorkerPlan) -> None:
    assert plan_workers(machines, asked_for, load_settings({"device": device})) == plan


@pytest.mark.parametrize(
    ("machines", "asked_for", "device", "message"),
    [
        ([Node(16, 2)], 3, "auto", "--workers 3: the cluster has 2 GPUs"),
        ([Node(2, 0)], 3, "auto", "--workers 3: the cluster has 2 CPUs"),
        ([Node(2, 0)], None, "cuda", "PRELABEL_DEVICE=cuda: the Ray cluster has no GPU"),
        ([Node(0, 0)], None, "auto", "the cluster has 0 CPUs"),
    ],
    ids=["GPUs", "CPUs", "no GPU", "nothing"],
)
def test_more_workers_than_fit_are_refused(
    machines: list[Node], asked_for: int | None, device: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_workers(machines, asked_for, load_settings({"device": device}))


@pytest.mark.parametrize(
    ("num_items", "num_workers", "max_slots", "sizes"),
    [
        (50_000, 8, 64, (16, 8)),
        (50_000, 8, 512, (64, 16)),
        (50_000, 8, 4, (1, 8)),
        (12, 2, 64, (2, 32)),
        (1, 2, 64, (1, 32)),
    ],
    ids=["usual", "a large card", "few slots", "a small run", "one picture"],
)
def test_batches_fill_the_slots_twice_and_give_each_worker_its_share(
    num_items: int, num_workers: int, max_slots: int, sizes: tuple[int, int]
) -> None:
    assert batch_sizes(num_items, num_workers, max_slots) == sizes


def test_settings_are_made_to_mean_the_same_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    given = {"model": "model", "data_dir": Path("data"), "device": "cuda:1", "label_studio_api_key": "geheim1234"}
    there = pickle.loads(pickle.dumps(on_any_machine(load_settings(given))))
    assert (there.model, there.data_dir, there.device) == (str(tmp_path / "model"), tmp_path / "data", "cuda")
    assert there.label_studio_api_key.get_secret_value() == "geheim1234"
    assert on_any_machine(load_settings({"model": "garments"})).model == "garments"


# -- what is refused


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UsageError, match=r"the extra `ray`: deploy/README.md"):
        require_ray()


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UsageError, match=f"no Ray to join at 127.0.0.1:{port}"), connected(f"127.0.0.1:{port}", 1):
        pass
    assert time.monotonic() - began < 30  # Ray's own patience is two minutes


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "here", "here:there"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="machine"), connected(address, 1):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ray_address": "auto"}, "--ray-address is for --engine ray"),
        ({"engine": "ray", "dry_run": True}, "leave out --engine ray"),
    ],
    ids=["address alone", "dry run"],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(BulkOptions((str(tmp_path),), output=tmp_path / "out.jsonl", **options))


# -- a worker


def _batch(*items: Item) -> dict[str, list[bytes]]:
    return {COLUMN: [pickle.dumps(one) for one in items]}


def _worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> BulkWorker:
    monkeypatch.setattr(local_run, "build_engine", lambda settings: engine)
    monkeypatch.setattr("backend.bulk.ray_worker.configure_logging", lambda level: None)
    return BulkWorker(load_settings({"data_dir": tmp_path / "data"}), LabelConfig(CONFIG, SCHEMA))


def test_a_worker_answers_each_item_of_a_batch_and_keeps_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many_pictures(tmp_path / "p", 2)
    items = [Item(path.stem, Found(str(path), path.stem, is_file=True)) for path in sorted(folder.iterdir())]
    worker = _worker(tmp_path, monkeypatch, FakeEngine(ANSWER))
    [packed] = worker(_batch(*items, item("missing")))[COLUMN]
    reply = pickle.loads(packed)
    assert [type(outcome) for outcome in reply.outcomes] == [Record, Record, Failure]
    assert reply.outcomes[2].line["reason"] == "image_not_found"
    assert reply.model_version == reply.outcomes[0].line["model_version"]
    assert (reply.model_name, reply.error) == ("garments", "")
    assert not (tmp_path / "data").exists()


def test_a_worker_takes_several_batches_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = many_pictures(tmp_path / "p", 6)
    engine = FakeEngine(ANSWER, delay_s=0.5)
    worker = _worker(tmp_path, monkeypatch, engine)
    items = [Item(path.stem, Found(str(path), path.stem, is_file=True)) for path in sorted(folder.iterdir())]
    threads = [threading.Thread(target=worker, args=(_batch(one),)) for one in items]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(engine.requests) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    assert all(thread.is_alive() for thread in threads), "one waited for another"
    for thread in threads:
        thread.join(10)


def test_a_worker_that_cannot_load_the_model_says_why_for_every_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unloadable(FakeEngine):
        async def wait_ready(self, timeout_s: float) -> Any:
            raise EngineDead("the model could not be loaded: no such model")

    worker = _worker(tmp_path, monkeypatch, Unloadable(ANSWER))
    for _ in range(2):
        [packed] = worker(_batch(*ALL))[COLUMN]
        reply = pickle.loads(packed)
        assert reply.error == "the model could not be loaded: no such model"
        assert not reply.outcomes


def test_a_worker_whose_engine_dies_for_good_hands_over_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(FakeEngine):
        async def generate(self, request: Any) -> Any:
            if len(self.requests) >= 1:
                await self.close()
                raise EngineDead("the engine process died 6 times in a row")
            return await super().generate(request)

    folder = many_pictures(tmp_path / "p", 2)
    items = [Item(path.stem, Found(str(path), path.stem, is_file=True)) for path in sorted(folder.iterdir())]
    [packed] = _worker(tmp_path, monkeypatch, Dying(ANSWER))(_batch(*items))[COLUMN]
    reply = pickle.loads(packed)
    assert len(reply.outcomes) == 1
    assert "died 6 times" in reply.error


# -- what becomes of replies


def _reply(*names: str, version: str = VERSION, error: str = "", worker: str = "here, process 1") -> Reply:
    outcomes = tuple(Record(record(name)) for name in names)
    return Reply(worker, outcomes, "garments", version, 0.25, error)


def _run(
    tmp_path: Path, make: Callable[[], Iterator[Reply]], monkeypatch: pytest.MonkeyPatch, stop_after_s: float = 0.0
) -> Job:
    folder = pictures(tmp_path / "pictures", ["a.png"])
    monkeypatch.setattr(ray_run, "_replies", lambda *_: make())
    monkeypatch.setattr(ray_run, "leave", lambda: None)
    options = BulkOptions((str(folder),), output=tmp_path / "out.jsonl", engine="ray")
    quiet = Console(quiet=True)
    job = Job(options, tmp_path / "out.jsonl", image_key="image", language="zh", price=None, console=quiet)

    async def go() -> None:
        stop = asyncio.Event()
        if stop_after_s:
            asyncio.get_running_loop().call_later(stop_after_s, stop.set)
        await ray_run.run_ray(load_settings(), job, LabelConfig(CONFIG, SCHEMA), quiet, stop)

    try:
        asyncio.run(go())
    finally:
        job.close()
    return job


def test_replies_are_written_in_the_order_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _run(tmp_path, lambda: iter_of(_reply("b"), _reply("a", "c")), monkeypatch)
    assert [line["image_id"] for line in lines(tmp_path / "out.jsonl")] == ["b", "a", "c"]
    assert job.model_version == VERSION
    assert job.seconds >= 0.25, "the first reply took that long before it came"


def test_workers_with_different_models_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(_reply("b", version="other-nf4-1"), worker="there, process 2")
    with pytest.raises(UsageError, match=r"different models, garments.* and other-nf4-1 \(there, process 2\)"):
        _run(tmp_path, lambda: iter_of(_reply("a"), other), monkeypatch)
    assert [line["image_id"] for line in lines(tmp_path / "out.jsonl")] == ["a"], "the other's would spoil the output"
    job = _run(tmp_path, lambda: iter_of(_reply("b")), monkeypatch)
    assert job.summary("finished").num_done == 1


def test_a_worker_that_cannot_go_on_ends_the_run_after_its_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineDead, match=r"cannot go on \(here, process 1\): the card is gone"):
        _run(tmp_path, lambda: iter_of(_reply("a"), _reply("b", error="the card is gone")), monkeypatch)
    assert [line["image_id"] for line in lines(tmp_path / "out.jsonl")] == ["a", "b"]


def test_what_the_other_thread_raises_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Iterator[Reply]:
        yield _reply("a")
        raise EngineDead("Ray gave up")

    with pytest.raises(EngineDead, match="Ray gave up"):
        _run(tmp_path, make, monkeypatch)
    assert len(lines(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize("num_replies", [0, 2], ids=["while it loads", "in the middle"])
def test_a_stop_is_heard_while_ray_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_replies: int) -> None:
    left = threading.Event()

    def make() -> Iterator[Reply]:
        yield from [_reply("a"), _reply("b")][:num_replies]
        left.wait(20)  # what `leave` ends

    monkeypatch.setattr(ray_run, "CLOSE_S", 5.0)
    original = ray_run._Pump.close

    def close(pump: Any) -> None:
        left.set()
        original(pump)

    monkeypatch.setattr(ray_run._Pump, "close", close)
    if num_replies:
        _run(tmp_path, make, monkeypatch, stop_after_s=0.5)
        assert len(lines(tmp_path / "out.jsonl")) == num_replies
    else:
        with pytest.raises(Stopped):
            _run(tmp_path, make, monkeypatch, stop_after_s=0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "ray-driver"]


def test_a_silence_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Iterator[Reply]:
        yield _reply("a")
        time.sleep(2)

    monkeypatch.setattr(ray_run, "NOTHING_S", 0.3)
    with pytest.raises(EngineDead, match="no worker has said anything"):
        _run(tmp_path, make, monkeypatch)


def iter_of(*replies: Reply) -> Iterator[Reply]:
    yield from replies
