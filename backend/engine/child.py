"""The engine's process as its parent sees it: how it is started, and what its exit code says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection

from backend.engine.messages import EXIT_DEVICE, EXIT_LIBRARY
from backend.engine.options import EngineOptions
from backend.environment import for_engine
from backend.pages.engine_words import Why
from backend.processes import Process

OF_THE_DEVICE = ("engine_device", "engine_library")
"""What is said of a process whose device has failed."""
_ENDS: dict[int, str] = {
    **dict.fromkeys((-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE), "engine_crashed"),
    -signal.SIGBUS: "engine_file_lost",
    EXIT_DEVICE: "engine_device",
    EXIT_LIBRARY: "engine_library",
}
"""What is said of an exit code. Where a library crashes, it writes where to the log (`process.main`)."""
_left: list[Process] = []


def why_ended(exitcode: int | None, by_itself: bool, has_begun: bool = True) -> Why:
    """`by_itself`: its parent did not end it. `has_begun`: it has said something, and so its code could be imported;
    before that it is Python that ends with the code of EXIT_LIBRARY."""
    killed = by_itself and exitcode == -signal.SIGKILL
    code = "engine_killed" if killed else _ENDS.get(exitcode or 0, "engine_ended")
    if code == "engine_library" and not has_begun:
        code = "engine_not_imported"
    return Why(code, {"exitcode": str(exitcode)})


def leave(process: Process) -> None:
    """It was killed, and is still there: a driver does not let it go."""
    _left.append(process)


def is_one_left() -> bool:
    return any(process.exitcode is None for process in _left)


Entry = Callable[[Connection, EngineOptions], None]


def start(entry: Entry, options: EngineOptions) -> tuple[Process, Connection]:
    """A process that runs `entry`, and this side of its pipe. Raises OSError."""
    process = Process("prelabel-engine", for_engine(os.environ), _run, entry, options)
    return process, Connection(process.socket.detach())


def _run(end: socket.socket, entry: Entry, options: EngineOptions) -> None:
    """In the process."""
    entry(Connection(end.detach()), options)
