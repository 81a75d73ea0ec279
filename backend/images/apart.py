"""Pictures are decoded in processes of their own, which the kernel ends: decoders are C code, and nothing else ends it.

A picture may be written to be slow, to take much memory, to crash its decoder or to take it over. Each has so many
seconds of its process's CPU; when they are over the kernel ends the process (SIGPROF), whatever it is at. That picture
is refused, and the next has a new process. In it no file can be opened any more, nor a connection, and its environment
holds no secret. What it says is not believed: a short head of JSON and as many bytes of pixels as that says, or the
process is ended and the picture refused. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from backend.engine.messages import Picture
from backend.environment import for_readers
from backend.errors import ImageError, one_line
from backend.images.decode import Decoded, FetchedImage, decode
from backend.images.forms import damaged, import_decoders, too_slow
from backend.images.policy import Limits
from backend.images.sniff import sniff
from backend.images.wire import MAX_HEAD_BYTES, Asks, head, read_head
from backend.processes import END_S, FROM_OUTSIDE, Malformed, Pipe, Process

_log = logging.getLogger(__name__)

Decode = Callable[[bytes, Limits, Callable[[int], None]], Decoded]
_MEMORY_BESIDE = 2**29
"""Of a process, beside twice `max_decode_bytes`: more than Python, libraries and the file itself need."""
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION = 0x20080522  # of linux/capability.h: two times three sets of 32, none in any
_large_picture = threading.Lock()


class Decoders:
    """As many processes as threads are in `decode` at once, each started when it is first needed.

    `decode_one` is a seam for tests: what the processes do.
    """

    def __init__(self, limits: Limits, decode_one: Decode = decode) -> None:
        self._limits = limits
        self._decode_one = decode_one
        self._lock = threading.Lock()
        self._all: set[Process] = set()
        self._idle: list[Process] = []
        self._is_closed = False

    def decode(self, data: bytes) -> FetchedImage:
        """As `decode.decode` does, in a process. Blocks, for `queue_s` at most. Raises ImageError and TimeoutError."""
        ends_at = time.monotonic() + self._limits.queue_s
        for _ in range(2):  # a process that others have ended, perhaps while it was idle, is not the picture's fault
            process = self._take()
            try:
                found = self._ask(process, data, ends_at)
            except (EOFError, OSError, Malformed) as error:
                exitcode = process.wait(END_S) if not isinstance(error, (TimeoutError, Malformed)) else None
                self._end(process)
                if isinstance(error, TimeoutError):
                    raise
                if exitcode not in FROM_OUTSIDE:
                    raise _why_ended(exitcode, data) from None
                continue
            self._give_back(process)
            if isinstance(found, ImageError):
                raise found
            return found
        raise _unavailable("the process that decoded it was ended from outside, perhaps for want of memory")

    def close(self) -> None:
        """End the processes, those at work, too."""
        with self._lock:
            self._is_closed = True
            idle, at_work = set(self._idle), self._all - set(self._idle)
        for process in idle:
            self._end(process)
        for process in at_work:  # who waits for it does the rest
            process.kill()
            process.wait(END_S)

    def _take(self) -> Process:
        with self._lock:
            if self._is_closed:
                raise _unavailable("prelabel is stopping")
            if self._idle:
                return self._idle.pop()
            try:
                process = Process("prelabel-decoder", for_readers(os.environ), _serve, self._limits, self._decode_one)
            except OSError as error:
                raise _unavailable(f"no process can be started: {one_line(error)}") from None
            self._all.add(process)
            return process

    def _give_back(self, process: Process) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(process)
                return
        self._end(process)

    def _end(self, process: Process) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)

    def _ask(self, process: Process, data: bytes, ends_at: float) -> FetchedImage | ImageError:
        """Of large pictures one at a time is decoded, in all processes of this one: that bounds the memory."""
        pipe = process.pipe
        pipe.send(data, ends_at)
        digest = hashlib.sha256(data).hexdigest()  # of what was sent: answers are kept under it
        with contextlib.ExitStack() as held:
            said = read_head(pipe.receive(MAX_HEAD_BYTES, ends_at), self._limits)
            if isinstance(said, Asks):
                if not _large_picture.acquire(timeout=max(0.0, ends_at - time.monotonic())):
                    raise TimeoutError
                held.callback(_large_picture.release)
                pipe.send(b"", ends_at)
                said = read_head(pipe.receive(MAX_HEAD_BYTES, ends_at), self._limits)
            if isinstance(said, ImageError):
                return said
            if isinstance(said, Asks):
                raise Malformed
            rgb = pipe.receive(said.num_bytes, ends_at)
        if len(rgb) != said.num_bytes:
            raise Malformed
        return FetchedImage(Picture(said.width_px, said.height_px, rgb), said.scale, said.remarks, sha256=digest)


def _unavailable(why: str) -> ImageError:
    return ImageError("timeout", f"The picture was not decoded: {why}.", retryable=True)


def _why_ended(exitcode: int | None, data: bytes) -> ImageError:
    """`exitcode`: None where the process was ended for what it said."""
    found = sniff(data)
    if exitcode == -signal.SIGPROF:
        return too_slow(found)
    how = "said what none says" if exitcode is None else f"ended (exit code {exitcode})"
    _log.warning("the process that decoded a picture (%s) %s", found.name, how)
    return damaged(found)


def _serve(end: socket.socket, limits: Limits, decode_one: Decode) -> None:
    """In the process: answer each picture until the pipe closes, which it does however the parent ends."""
    pipe = Pipe(end)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    import_decoders()
    _give_up_rights(limits)

    def begin(num_pixels: int) -> None:
        """Once it is known how large the picture is."""
        left_s, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, left_s + limits.decode_s_per_megapixel * num_pixels / 1e6)
        if num_pixels > limits.large_picture_pixels:
            pipe.send(head(Asks()))
            pipe.receive(0)

    with contextlib.suppress(EOFError, OSError):
        while True:
            data = pipe.receive(sys.maxsize)
            signal.setitimer(signal.ITIMER_PROF, limits.decode_s)
            said: Decoded | ImageError
            try:
                said = decode_one(data, limits, begin)
            except ImageError as error:
                said = error
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(head(said))
            if isinstance(said, Decoded):
                pipe.send(said.picture.rgb)


def _give_up_rights(limits: Limits) -> None:
    """For good: the memory beyond what pictures need, opening a file or a socket, making a file longer, becoming
    another user, and what root may beyond others, which is to take all of that back. What is open stays open."""
    most = {
        resource.RLIMIT_DATA: _MEMORY_BESIDE + 2 * limits.max_decode_bytes,
        resource.RLIMIT_CORE: 0,  # else each picture that crashes it may leave a file as large
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for kind, value in most.items():
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or value < hard:
            resource.setrlimit(kind, (value, value))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)())
