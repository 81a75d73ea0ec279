"""Pictures are decoded in processes of their own, which the kernel ends: decoders are C code, and nothing else ends it.

A picture may be written to be slow, to take much memory or to crash its decoder. Each has so many seconds of its
process's CPU; when they are over the kernel ends the process (SIGPROF), whatever it is at. That picture is refused,
and the next has a new process. Linux only.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from backend.engine.child import FROM_OUTSIDE, without_main
from backend.errors import ImageError, ImageErrorKind, one_line
from backend.images.decode import FetchedImage, decode
from backend.images.forms import damaged, too_slow
from backend.images.policy import Limits
from backend.images.sniff import sniff

_log = logging.getLogger(__name__)

Decode = Callable[[bytes, Limits, Callable[[int], None]], FetchedImage]
END_S = 5.0
"""For a process that was killed to be gone."""
_MEMORY_BESIDE = 2**29
"""Of a process, beside twice `max_decode_bytes`: more than Python, libraries and the file itself need."""
_CONTEXT = multiprocessing.get_context("spawn")
"""A fork server would start them faster than in 0.2 s of CPU, but listens in TMPDIR, whose path may be too long."""
_large_picture = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class _Child:
    process: BaseProcess
    connection: Connection

    def end(self) -> None:
        self.process.kill()
        self.process.join(END_S)


class Decoders:
    """As many processes as threads are in `decode` at once, each started when it is first needed.

    `decode_one` is a seam for tests: what the processes do.
    """

    def __init__(self, limits: Limits, decode_one: Decode = decode) -> None:
        self._limits = limits
        self._decode_one = decode_one
        self._lock = threading.Lock()
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._is_closed = False

    def decode(self, data: bytes) -> FetchedImage:
        """As `decode.decode` does, in a process. Blocks, for `queue_s` at most. Raises ImageError and TimeoutError."""
        for _ in range(2):  # a process that others have ended, perhaps while it was idle, is not the picture's fault
            child = self._take()
            try:
                answer = self._ask(child, data)
            except TimeoutError:
                child.end()
                self._forget(child)
                raise
            except (EOFError, OSError):
                child.process.join(self._limits.queue_s)
                self._forget(child)
                if child.process.exitcode not in FROM_OUTSIDE:
                    raise _why_ended(child.process.exitcode, data) from None
                continue
            self._idle.append(child)
            if isinstance(answer, FetchedImage):
                return answer
            raise ImageError(*answer)
        raise _unavailable("the process that decoded it was ended from outside, perhaps for want of memory")

    def close(self) -> None:
        """End the processes, those at work, too."""
        with self._lock:
            self._is_closed = True
            children = set(self._all)
        for child in children:
            child.end()

    def _take(self) -> _Child:
        with self._lock:
            if self._is_closed:
                raise _unavailable("prelabel is stopping")
            if self._idle:
                return self._idle.pop()
            try:
                child = _start(self._limits, self._decode_one)
            except (EOFError, OSError) as error:
                raise _unavailable(f"no process can be started: {one_line(error)}") from None
            self._all.add(child)
            return child

    def _forget(self, child: _Child) -> None:
        child.connection.close()
        with self._lock:
            self._all.discard(child)

    def _ask(self, child: _Child, data: bytes) -> FetchedImage | tuple[ImageErrorKind, str]:
        """Of large pictures one at a time is decoded, in all processes of this one: that bounds the memory."""
        ends_at = time.monotonic() + self._limits.queue_s
        with contextlib.ExitStack() as held:
            child.connection.send_bytes(data)
            while True:
                if not child.connection.poll(max(0.0, ends_at - time.monotonic())):
                    raise TimeoutError
                answer: FetchedImage | tuple[ImageErrorKind, str] | None = child.connection.recv()
                if answer is not None:
                    return answer
                if not _large_picture.acquire(timeout=max(0.0, ends_at - time.monotonic())):
                    raise TimeoutError
                held.callback(_large_picture.release)
                child.connection.send_bytes(b"")


def _unavailable(why: str) -> ImageError:
    return ImageError("timeout", f"The picture was not decoded: {why}.", retryable=True)


def _why_ended(exitcode: int | None, data: bytes) -> ImageError:
    found = sniff(data)
    if exitcode == -signal.SIGPROF:
        return too_slow(found)
    _log.warning("a %s picture ended the process that decoded it (exit code %s)", found.name, exitcode)
    return damaged(found)


def _start(limits: Limits, decode_one: Decode) -> _Child:
    connection, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(theirs, limits, decode_one), name="prelabel-decoder", daemon=True)
    try:
        with without_main():
            process.start()
    finally:
        theirs.close()
    return _Child(process, connection)


def _serve(connection: Connection, limits: Limits, decode_one: Decode) -> None:
    """In the process: answer each picture until the pipe closes, which it does however the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would take memory for each core
    _limit_memory(_MEMORY_BESIDE + 2 * limits.max_decode_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # else each picture that crashes it may leave a file as large

    def begin(num_pixels: int) -> None:
        """Once it is known how large the picture is."""
        left_s, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, left_s + limits.decode_s_per_megapixel * num_pixels / 1e6)
        if num_pixels > limits.large_picture_pixels:
            connection.send(None)
            connection.recv_bytes()

    with contextlib.suppress(EOFError, OSError):
        while True:
            data = connection.recv_bytes()
            signal.setitimer(signal.ITIMER_PROF, limits.decode_s)
            answer: FetchedImage | tuple[ImageErrorKind, str]
            try:
                answer = decode_one(data, limits, begin)
            except ImageError as error:  # which cannot be pickled
                answer = (error.kind, str(error))
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(answer)


def _limit_memory(num_bytes: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or num_bytes < most:
        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
