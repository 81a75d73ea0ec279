"""A process that calls what it is told to, one call after the other, and is started again when it has ended.

What it is told to read was written by strangers. So what it answers is read without believing it
(`label_config.crossing`): it is made of our values, refusals and schemas (VALUES), and of nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from backend.environment import for_readers
from backend.errors import one_line
from backend.processes import Malformed, Pipe, Process
from label_config.crossing import Kinds, kinds_of, read, written
from label_config.schema import read_packed, unpacked

T = TypeVar("T")

VALUES = (
    "backend.errors",
    "backend.api.requests",
    "backend.predict.options",
    "backend.predict.task",
    "backend.predict.trial",
)
"""Modules whose classes an answer may be made of, beside schemas."""
_CALLS = {(unpacked.__module__, unpacked.__name__): read_packed}
"""A schema that an answer holds is its own, and none that others have."""
MAX_MEMORY_BYTES = 4 * 2**30
_MAX_ANSWER_BYTES = 2**30


class ReaderEnded(Exception):
    """The process has ended, or was ended for the time it took or for what it answered."""


class Reader:
    """`call` and `end` it from one thread at a time, `kill` it from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._killed: list[Process] = []

    def call(self, function: Callable[[], T], limit_s: float) -> T:
        """Return what `function` does there. Raises what it raises, and ReaderEnded."""
        ends_at = time.monotonic() + limit_s
        self._bury()
        try:
            pipe = self._start().pipe
            pipe.send(pickle.dumps(function), ends_at)
            error, value = read(pipe.receive(_MAX_ANSWER_BYTES, ends_at), _kinds(), _CALLS)
            if not isinstance(error, Exception | None):
                raise Malformed
        except Exception as why:  # of a process that was taken over, anything
            self.end()
            raise ReaderEnded(one_line(why)) from None
        if error is not None:
            raise error
        found: T = value
        return found

    def kill(self) -> None:
        """Who waits for a call hears that the process has ended; the next call starts another."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                self._killed.append(process)

    def end(self) -> None:
        self.kill()
        self._bury()

    def _start(self) -> Process:
        with self._lock:
            if self._process is None:
                self._process = Process("prelabel-reader", for_readers(os.environ), _serve)
            return self._process

    def _bury(self) -> None:
        while self._killed:
            self._killed.pop().end()


@cache
def _kinds() -> Kinds:
    modules = [vars(importlib.import_module(name)) for name in VALUES]
    return kinds_of(
        each for module in modules for each in module.values() if isinstance(each, type) and each.__module__ in VALUES
    )


def _serve(end: socket.socket) -> None:
    """In the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe = Pipe(end)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function = pickle.loads(pipe.receive(sys.maxsize))  # noqa: S301 - of the process that started this one
            answer: tuple[Exception | None, object]
            gc.disable()  # JSON holds no circles: looking for some in millions of lists is three quarters of the time
            try:
                answer = None, function()
            except Exception as error:  # a process's border: it is raised where the answer is waited for
                answer = error, None
            pipe.send(written(answer, _kinds()))
            del function, answer
            gc.enable()
