"""Processes for pictures of formats that a library reads at once: WebP, AVIF, HEIC, TIFF.

Such a library asks nobody for the time, and some of them keep Python's lock meanwhile: an AVIF of 3 MB stopped the
whole API for minutes, a TIFF of 1 MB may take a thread for hours. A process has a lock of its own, and the system ends
it when its time of CPU is over; one that crashes ends nothing else, either. Blocking: use it in threads. Raises
ImageError and nothing else.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import resource
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from backend.engine.child import FROM_OUTSIDE, without_main
from backend.errors import ImageError
from backend.images.decode import FetchedImage, damaged, decode, in_turn
from backend.images.forms import too_slow
from backend.images.policy import Limits
from backend.images.sniff import Sniffed, sniff

READ_AT_ONCE = frozenset({"WEBP", "AVIF", "HEIF", "TIFF"})
"""Pillow's names of them. All others are read in pieces: see `timed_file`."""
END_S = 2.0
_CONTEXT = multiprocessing.get_context("spawn")


class DecoderProcesses:
    """One for each thread that asks at the same time, used again until a picture has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[_Decoder] = set()
        self._idle: list[_Decoder] = []
        self._is_closed = False

    def decode(self, data: bytes, limits: Limits) -> FetchedImage:
        """As `decode.decode`, in a process if its format is READ_AT_ONCE."""
        found = sniff(data)
        if found.pillow_format not in READ_AT_ONCE:
            return decode(data, limits)
        decoder = self._take()
        try:
            image = decoder.decode(data, found, limits)
        finally:
            self._give_back(decoder)
        return image

    def close(self) -> None:
        """End them all: what they decode is nobody's any more."""
        with self._lock:
            self._is_closed = True
            for decoder in self._all:
                decoder.end()
            for decoder in self._all:
                decoder.wait(END_S)

    def _take(self) -> _Decoder:
        with self._lock:
            if self._is_closed:
                raise _ended()
            while self._idle:
                decoder = self._idle.pop()
                if decoder.is_alive:
                    return decoder
                self._all.discard(decoder)
            try:
                decoder = _Decoder()
            except OSError:
                raise _ended() from None
            self._all.add(decoder)
            return decoder

    def _give_back(self, decoder: _Decoder) -> None:
        with self._lock:
            if decoder.is_ended:
                self._all.discard(decoder)
            else:
                self._idle.append(decoder)


class _Decoder:
    """One process, and the pipe to it."""

    def __init__(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs,), name="picture-decoder", daemon=True)
        self.is_ended = False
        try:
            with without_main():
                self._process.start()
        finally:
            theirs.close()

    def decode(self, data: bytes, found: Sniffed, limits: Limits) -> FetchedImage:
        """`is_ended` when anything but a picture or its refusal comes of it."""
        allowed_s = limits.decode_s
        try:
            self._pipe.send((data, limits))
            reply = self._pipe.recv()
            if isinstance(reply, int):
                with in_turn(reply, limits):
                    allowed_s = limits.decode_s_of(reply)
                    self._pipe.send(None)
                    reply = self._pipe.recv()
        except (OSError, EOFError):
            raise self._why_ended(found, allowed_s) from None
        except BaseException:
            self.end()
            raise
        if isinstance(reply, FetchedImage):
            return reply
        kind, message, retryable = reply
        raise ImageError(kind, message, retryable=retryable)

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        self.is_ended = True
        self._process.terminate()

    def wait(self, limit_s: float | None = None) -> None:
        self._process.join(limit_s)

    def _why_ended(self, found: Sniffed, allowed_s: float) -> ImageError:
        if self.is_ended:  # by `close`
            return _ended()
        self.end()
        self.wait()
        self._pipe.close()
        if self._process.exitcode == -signal.SIGXCPU:
            return too_slow(found, allowed_s)
        return _ended() if self._process.exitcode in FROM_OUTSIDE else damaged(found)


def _ended() -> ImageError:
    return ImageError("timeout", "The process that decodes pictures was ended; try again.", retryable=True)


def _serve(pipe: Connection) -> None:
    """The process's: until the pipe is closed, which the system does when the API's process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the API, which ends this
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # being ended for its time leaves no file of its memory
    with contextlib.suppress(EOFError, OSError):
        while True:
            data, limits = pipe.recv()
            pipe.send(_decoded(pipe, data, limits))


def _decoded(pipe: Connection, data: bytes, limits: Limits) -> FetchedImage | tuple[str, str, bool]:
    began_s = time.process_time()

    @contextlib.contextmanager
    def turn(num_pixels: int, limits: Limits) -> Iterator[None]:
        pipe.send(num_pixels)
        pipe.recv()
        _end_at(began_s + limits.decode_s_of(num_pixels))
        yield

    _end_at(began_s + limits.decode_s)
    try:
        return decode(data, limits, turn)
    except ImageError as error:
        return error.kind, str(error), error.retryable
    finally:
        _end_at(math.inf)  # what is left of it is not the next picture's


def _end_at(cpu_s: float) -> None:
    """Let the system end this process when it has had as much since its start."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = hard if cpu_s == math.inf else math.ceil(cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
