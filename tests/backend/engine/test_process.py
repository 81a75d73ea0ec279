"""The engine's process: what ends it, and that the built-in model answers through it as it was sized."""

import os
from typing import Any

import pytest

from backend.engine import process
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Failed, Finished, Loading, Ready, Shutdown
from backend.engine.options import EngineOptions
from tests.backend.engine.requests import CLOTHES, submit


def test_an_unreadable_message_ends_the_process_instead_of_losing_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    class Garbage:
        def recv(self) -> None:
            raise ValueError("not a message")

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    process._read(Garbage(), Mailbox())  # type: ignore[arg-type]
    assert codes == [process.EXIT_READER]


def test_a_closed_pipe_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def recv(self) -> None:
            raise EOFError

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    process._read(Closed(), Mailbox())  # type: ignore[arg-type]
    assert codes == [0]


def test_the_built_in_model_answers_through_the_real_loop() -> None:
    sent: list[Any] = []
    mailbox = Mailbox()
    loop = process.load(EngineOptions(model="garments", device="cpu", max_slots=4), mailbox, sent.append)
    ready = sent[-1]
    assert isinstance(sent[0], Loading)
    assert isinstance(ready, Ready)
    assert (ready.max_slots, ready.quantisation) == (4, "nf4")
    assert ready.kv_tokens >= 4096
    for request_id in range(6):
        mailbox.put(submit(request_id, CLOTHES))
    while sum(isinstance(m, Finished | Failed) for m in sent) < 6:
        assert loop.turn()
    assert all(m.finish_reason in ("stop", "length") for m in sent if isinstance(m, Finished))
    assert not [m for m in sent if isinstance(m, Failed)]
    mailbox.put(Shutdown())
    loop.run()
