"""The engine's process: what ends it, and that the built-in model answers through it as it was sized."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.engine import process
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Failed, Finished, LoadFailed, Loading, Part, Ready, Shutdown, StartAgain
from backend.engine.options import EngineOptions, StartAgainWithout
from backend.engine.own_code import code_digest
from backend.engine.start import LOAD_SHARE
from model_loader.errors import CardUnusable
from tests.backend.engine import fake_process, scripted_process
from tests.backend.engine.requests import CLOTHES, submit
from tests.limits import WAIT_S


@contextmanager
def scripted(folder: Path) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that has said it is ready, and our end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    options = EngineOptions(model="garments", quantised_dir=folder)
    started = context.Process(target=scripted_process.main, args=(theirs, options), daemon=True)
    started.start()
    theirs.close()
    try:
        assert ours.poll(WAIT_S)
        assert isinstance(ours.recv(), Ready)
        yield started, ours
    finally:
        ours.close()
        started.kill()
        started.join()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(lambda pipe: pipe.send_bytes(b"no message"), process.EXIT_READER, id="an unreadable message"),
        pytest.param(lambda pipe: pipe.close(), 0, id="a closed pipe"),
    ],
)
def test_what_makes_the_pipe_useless_ends_the_process_instead_of_losing_requests(
    end: Callable[[Connection], None], code: int, tmp_path: Path
) -> None:
    with scripted(tmp_path) as (started, pipe):
        end(pipe)
        started.join(WAIT_S)
        assert started.exitcode == code


def _refusal(*args: Any) -> LoadFailed:
    """What a process that is started with `args` says first."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=process.main, args=(theirs, *args), daemon=True)
    started.start()
    theirs.close()
    try:
        assert ours.poll(WAIT_S)
        told = ours.recv()
    finally:
        started.kill()
        started.join()
    assert isinstance(told, LoadFailed)
    return told


def test_a_process_whose_code_is_not_that_of_who_started_it_loads_nothing() -> None:
    told = _refusal(EngineOptions(code="of the version before", model="garments"))
    assert told.why.code == "load_code_changed"
    assert "prelabel was updated while it ran" in told.message


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        (lambda root: (root / "label_config/new.py").touch(), True),
        (lambda root: (root / "backend/engine/messages.py").write_text("class Ready: ...\n"), True),
        (lambda root: (root / "backend/engine/messages.py").rename(root / "backend/messages.py"), True),
        (lambda root: (root / "model_loader/cards.py").unlink(), True),
        (lambda root: (root / "backend/engine/notes.txt").touch(), False),
        (lambda root: os.utime(root / "model_loader/cards.py", (1, 1)), False),
    ],
)
def test_the_code_is_another_when_any_source_file_of_it_is(
    change: Callable[[Path], object], is_seen: bool, tmp_path: Path
) -> None:
    for name in ("backend/engine/messages.py", "model_loader/cards.py", "label_config/schema.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"# {name}\n")
    before = code_digest(tmp_path)
    change(tmp_path)
    assert (code_digest(tmp_path) != before) == is_seen


def test_a_load_that_fails_by_the_machine_is_told_in_its_own_name() -> None:
    told = _refusal(EngineOptions(), _out_of_memory)
    assert told.message.startswith("MachineUnfit: this machine's own memory (not the card's) did not suffice")
    assert told.why.code == "load_host_full"


def _out_of_memory(options: EngineOptions, mailbox: Mailbox, send: process.Send) -> process.Loop:
    raise MemoryError


def test_a_library_that_crashes_leaves_in_the_log_where(capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=process.main, args=(theirs, EngineOptions(), _crash), daemon=True)
    started.start()
    started.join(WAIT_S)
    ours.close()
    assert started.exitcode == -signal.SIGSEGV
    assert "in _crash" in capfd.readouterr().err


def _crash(options: EngineOptions, mailbox: Mailbox, send: process.Send) -> process.Loop:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def test_a_load_that_can_only_go_on_without_a_part_says_so_and_ends() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=process.main, args=(theirs, EngineOptions(), _without_graphs), daemon=True)
    started.start()
    theirs.close()
    try:
        assert ours.poll(WAIT_S)
        assert ours.recv() == StartAgain("graphs", "operation not permitted")
        started.join(WAIT_S)
        assert started.exitcode == 0
    finally:
        started.kill()
        started.join()


@pytest.mark.parametrize(
    ("without", "wish", "told"),
    [
        ((), "", "expandable_segments:True, no torch yet, without {}"),
        ((("segments", "no"),), "", ", no torch yet, without {'segments': 'no'}"),
        ((), "backend:cudaMallocAsync", "without {'segments': 'PYTORCH_ALLOC_CONF=backend:cudaMallocAsync is kept'}"),
    ],
)
def test_the_allocator_is_told_before_torch_is_there(
    without: tuple[tuple[Part, str], ...], wish: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", wish)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    options = EngineOptions(without=without)
    given = (theirs, options, fake_process.what_torch_will_read)
    started = context.Process(target=process.main, args=given, daemon=True)
    started.start()
    theirs.close()
    try:
        assert ours.poll(WAIT_S)
        said = ours.recv()
    finally:
        started.kill()
        started.join()
    assert isinstance(said, LoadFailed)
    assert said.message.endswith(told)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("enabled", r"^\w+: HF_HUB_OFFLINE: its value is neither on nor off"),
        ('"1"', r"^\w+: HF_HUB_OFFLINE is set, and the cache has nothing of no/such"),
    ],
)
def test_an_engine_on_another_machine_heeds_its_own_environment(
    wish: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Ray worker's, which no command has looked at."""
    monkeypatch.setenv("HF_HUB_OFFLINE", wish)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    options = EngineOptions(model="no/such", device="cpu", quantised_dir=tmp_path)
    started = context.Process(target=process.main, args=(theirs, options), daemon=True)
    started.start()
    theirs.close()
    try:
        while isinstance(said := ours.recv(), Loading):
            pass
    finally:
        started.kill()
        started.join()
    assert isinstance(said, LoadFailed)
    assert re.search(told, said.message)


def _without_graphs(options: EngineOptions, mailbox: Mailbox, send: process.Send) -> process.Loop:
    raise StartAgainWithout("graphs", "operation not permitted")


@pytest.mark.parametrize("model", ["auto", "garments", "/models/mine"])
def test_a_card_that_is_not_there_is_refused_before_anything_else_is_looked_at(model: str) -> None:
    with pytest.raises(CardUnusable, match="PRELABEL_DEVICE=cuda:99, but"):
        process.load(EngineOptions(model=model, device="cuda:99"), Mailbox(), lambda message: None)


def test_the_built_in_model_answers_through_the_real_loop() -> None:
    sent: list[Any] = []
    mailbox = Mailbox()
    loop = process.load(EngineOptions(model="garments", device="cpu", max_slots=4), mailbox, sent.append)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    ready = sent[-1]
    told = [message for message in sent if isinstance(message, Loading)]
    assert told == sent[:-1]
    assert all(message.fraction <= LOAD_SHARE and message.stage != "ready" for message in told)
    assert isinstance(ready, Ready)
    assert (ready.max_slots, ready.quantisation) == (4, "nf4")
    assert ready.kv_tokens >= 4096
    for request_id in range(3):
        mailbox.put(submit(request_id, CLOTHES))
    while sum(isinstance(m, Finished | Failed) for m in sent) < 3:
        assert loop.turn()
    assert all(m.finish_reason in ("stop", "length") for m in sent if isinstance(m, Finished))
    assert not [m for m in sent if isinstance(m, Failed)]
    mailbox.put(Shutdown())
    loop.run()
