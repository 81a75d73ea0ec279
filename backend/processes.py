"""Processes beside this one: how each is started, and whole messages to and fro.

Not as multiprocessing starts them: it hands the whole environment on, where passwords and keys are (what each gets is
said in `backend.environment`), and it runs the program's main module again, where a server's script without
`if __name__ == "__main__"` would start its server once more. Nor does it end a wait. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

END_S = 5.0
"""For a process that was killed to be gone."""
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""How a process ends that others end, the system for want of memory among them."""
_START_S = 60.0
_START = "import sys; sys.path[:] = sys.argv[3:]; from backend.processes import run; run(int(sys.argv[2]))"
_LENGTH = struct.Struct(">Q")
_JOINED_BYTES = 2**14


class Malformed(Exception):
    """What another process said is nothing that it says."""


class Pipe:
    """Whole messages over a socket. `ends_at` (monotonic): when a wait is over, whatever the other side does.

    Raises TimeoutError, EOFError or OSError where the other side is gone, Malformed for a message that is too long.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: bytes, ends_at: float | None = None) -> None:
        head = _LENGTH.pack(len(message))
        for part in (head + message,) if len(message) < _JOINED_BYTES else (head, message):
            self._wait_until(ends_at)
            self._end.sendall(part)

    def receive(self, max_bytes: int, ends_at: float | None = None) -> bytes:
        (num_bytes,) = _LENGTH.unpack(self._exactly(_LENGTH.size, ends_at))
        if num_bytes > max_bytes:
            raise Malformed
        return self._exactly(num_bytes, ends_at)

    def _exactly(self, num_bytes: int, ends_at: float | None) -> bytes:
        received, at = bytearray(num_bytes), 0
        with memoryview(received) as view:
            while at < num_bytes:
                self._wait_until(ends_at)
                num_more = self._end.recv_into(view[at:])
                if not num_more:
                    raise EOFError
                at += num_more
        return bytes(received)

    def _wait_until(self, ends_at: float | None) -> None:
        if ends_at is not None and (left_s := ends_at - time.monotonic()) > 0:
            self._end.settimeout(left_s)
        elif ends_at is not None:
            raise TimeoutError


class Process:
    """One that runs `entry(socket, *args)`, all of which can be pickled.

    `entry` is to return when its socket is closed, as it is however this process ends. `name` is for people who look at
    the processes of a machine. Raises OSError where none can be started.
    """

    def __init__(self, name: str, environment: Mapping[str, str], entry: Callable[..., object], *args: Any) -> None:
        task = pickle.dumps((entry, args))
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as started, theirs:
            started.callback(ours.close)
            handle, path = theirs.fileno(), map(os.path.abspath, sys.path)
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our own code
                [sys.executable, "-P", "-c", _START, name, str(handle), *path],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[handle],
            )
            started.pop_all()
        self.socket = ours
        self.pipe = Pipe(ours)
        with contextlib.suppress(OSError):  # it has ended already, which whoever listens notices
            self.pipe.send(task, time.monotonic() + _START_S)
        ours.settimeout(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """None while it runs; below 0 the number of the signal that ended it."""
        return self._process.poll()

    def wait(self, limit_s: float) -> int | None:
        """Return `exitcode`, once it is there or after `limit_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        return self.exitcode

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Whatever it is at. Who waits for it in another thread is to call this; that it was killed, it hears."""
        self.kill()
        self.wait(END_S)
        self.socket.close()


def run(handle: int) -> None:
    """In the process. Ctrl-C, a service's stop and `timeout` reach the whole group: the one that started this ends in
    order, and this with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=handle)
    entry, args = pickle.loads(Pipe(end).receive(sys.maxsize))  # noqa: S301 - of the process that started this one
    entry(end, *args)
