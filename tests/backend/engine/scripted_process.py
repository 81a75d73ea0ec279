"""An engine process in which a script answers instead of a model; around it everything is the product's own.

Files in `EngineOptions.quantised_dir` steer it, so that a test can while it runs:
- `gate`: how many requests may be answered in all; without it, every one
- `bug`: the loop fails at its next turn, while one of its threads is busy; the file goes with it
- `garbled`: something that is no message is sent; the file goes with it
`answered` grows by one byte an answer, over all processes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from backend.engine import process
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Cancel, Failed, Finished, FromEngine, Ready, Running, Shutdown, Submit
from backend.engine.options import EngineOptions
from label_config.answer import FieldValue, render_answer
from tests.backend.engine.fake_process import until_the_tests_end

TURN_S = 0.005
CAPTION = "一件白色连衣裙，平铺在浅色背景上，整体干净清爽。"
ANSWER: dict[str, FieldValue] = {
    "caption": CAPTION,
    "category": (("服饰", "女装", "连衣裙"),),
    "season": ("冬季",),
}


def main(connection: Connection, options: EngineOptions) -> None:
    """Entry point of the process, in place of `process.main`."""
    process.main(connection, options, _make_loop)


def _make_loop(options: EngineOptions, mailbox: Mailbox, send: Callable[[FromEngine], None]) -> _Script:
    assert options.quantised_dir
    send(Ready("garments", "nf4", "cpu", 0.1, 0.0, max_slots=options.max_slots))
    return _Script(options.quantised_dir, mailbox, send)


class Garbled:
    """Cannot be read by whoever receives it."""

    def __reduce__(self) -> Any:
        return _cannot_be_read, ()


def _cannot_be_read() -> None:
    raise ValueError("no message")


class _Script:
    def __init__(self, folder: Path, mailbox: Mailbox, send: Callable[[FromEngine], None]) -> None:
        self._folder = folder
        self._mailbox = mailbox
        self._send = send
        self._waiting: dict[int, Submit] = {}

    def run(self) -> None:
        while True:
            for message in self._mailbox.take(wait=False):
                if isinstance(message, Shutdown):
                    return
                if isinstance(message, Submit):
                    self._waiting[message.request_id] = message
                    self._send(Running((message.request_id,)))
                elif isinstance(message, Cancel) and message.request_id in self._waiting:
                    del self._waiting[message.request_id]
                    self._send(Failed(message.request_id, "cancelled", "cancelled"))
            if self._is_told("garbled"):
                self._send(cast(FromEngine, Garbled()))
            if self._is_told("bug"):
                threading.Thread(target=until_the_tests_end).start()
                raise RuntimeError("a bug in the scheduler")
            self._answer(self._num_allowed())
            time.sleep(TURN_S)

    def _is_told(self, name: str) -> bool:
        try:
            (self._folder / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _num_allowed(self) -> int:
        try:
            allowed = int((self._folder / "gate").read_text() or "0")
        except FileNotFoundError:
            return len(self._waiting)
        answered = self._folder / "answered"
        return allowed - (answered.stat().st_size if answered.exists() else 0)

    def _answer(self, num_allowed: int) -> None:
        for request_id in list(self._waiting)[: max(0, num_allowed)]:
            request = self._waiting.pop(request_id)
            with (self._folder / "answered").open("ab") as answered:
                answered.write(b".")
            pieces = tuple(bytes([b]) for b in render_answer(request.schema, ANSWER).encode())
            self._send(Finished(request_id, pieces, tuple(0.999 for _ in pieces), "stop", 100, 64))
