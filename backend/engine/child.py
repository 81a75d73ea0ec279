"""The engine's process as its parent sees it: how it is started, spoken to and ended, and what its exit code says.

Knows no request and no load. Imports no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from backend.engine.messages import EXIT_DEVICE, EXIT_LIBRARY, Failed, FromEngine, Submit, ToEngine
from backend.engine.options import EngineOptions
from backend.environment import for_engine
from backend.errors import one_line
from backend.pages.engine_words import Why
from backend.processes import Process
from model_loader.troubles import trouble

log = logging.getLogger(__name__)

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


class EngineProcess:
    """One that runs `entry`. `lost` is told, on the present event loop, of what could not be sent to it.

    Two daemon threads do the blocking reads and writes of its pipe. They may block for ever: a process that a driver
    does not let go is killed and keeps its end open. Raises OSError and RuntimeError, and leaves nothing then.
    """

    def __init__(self, entry: Entry, options: EngineOptions, lost: Callable[[Failed], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._incoming: asyncio.Queue[FromEngine | None] = asyncio.Queue()
        self._outgoing: queue.SimpleQueue[ToEngine | None] = queue.SimpleQueue()
        self._process = Process("prelabel-engine", for_engine(os.environ), _run, entry, options)
        self._connection = Connection(self._process.socket.detach())
        # daemon threads: an executor's would keep the interpreter from ending while they wait for the engine
        self._reader = threading.Thread(target=self._read, name="engine-reader", daemon=True)
        try:
            threading.Thread(target=self._write, name="engine-writer", daemon=True).start()
            self._reader.start()
        except BaseException:
            self.hang_up()
            self._process.end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    def send(self, message: ToEngine) -> None:
        self._outgoing.put(message)

    async def receive(self) -> FromEngine | None:
        """The next message; None at last, when the pipe is closed."""
        return await self._incoming.get()

    def hang_up(self) -> None:
        """Nothing is sent or received any more."""
        self._outgoing.put(None)
        self._connection.close()

    def kill(self) -> None:
        self._outgoing.put(None)
        self._process.kill()

    def wait_unread(self, limit_s: float) -> None:
        """Until nobody reads the pipe, which would else be read from what is opened under its number next."""
        self._reader.join(limit_s)

    def end(self, limit_s: float) -> bool:
        """Wait for its end, and kill it after `limit_s`. Return whether it ended without us."""
        self._outgoing.put(None)
        if self._process.wait(limit_s) is not None:
            return True
        self._process.kill()
        if self._process.wait(limit_s) is None:
            leave(self._process)
        return False

    def _read(self) -> None:
        message: FromEngine | None = None
        while True:
            try:
                message = self._connection.recv()
            except Exception as error:  # the pipe is closed, or this is no message: either way it is of no use
                if not isinstance(error, EOFError | OSError):
                    log.exception("a message of the engine could not be read")
                message = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._incoming.put_nowait, message)
            if message is None:
                return

    def _write(self) -> None:
        while (message := self._outgoing.get()) is not None:
            try:
                self._connection.send(message)
            except OSError as error:  # the engine is gone, which whoever listens notices: there is nobody to tell
                log.debug("a message was not sent: %s", one_line(error))
                if error.errno in (errno.ENOMEM, errno.ENOBUFS):  # it may have half of it, and understands none then
                    self.kill()
            except Exception as error:  # of pickling, or before the first byte, as for want of memory here
                is_short = isinstance(error, MemoryError)
                why = str(trouble("load_host_full", said="MemoryError")) if is_short else one_line(error)
                log.error("a message to the engine could not be made: %s", why)
                self._lose(message, why)

    def _lose(self, message: ToEngine, why: str) -> None:
        """The engine knows nothing of it, and would be taken for silent."""
        if isinstance(message, Submit):
            failed = Failed(message.request_id, "internal", why)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._lost, failed)


def _run(end: socket.socket, entry: Entry, options: EngineOptions) -> None:
    """In the process."""
    entry(Connection(end.detach()), options)
