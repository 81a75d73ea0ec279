"""A file whose reading ends when its decoding has taken too long: a picture may be written to be slow.

A progressive JPEG of 30 KB may go over its pixels a thousand times, a TIFF may have a million strips; a GIF, a PNG or
a JPEG may be millions of empty parts, each looked at in Python. All of them are read in pieces, and a thread cannot be
ended but by itself: so what is read asks for the time. What is read at once (WebP, AVIF, HEIC) is not covered.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable


class TooSlow(Exception):
    """`seconds`: of CPU that were allowed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class TimedFile(io.BytesIO):
    """`data`, for the thread that makes this. `clock`: seconds of CPU that the thread has had, so that no picture is
    refused because the machine is busy. Reading raises TooSlow `seconds` after the beginning, and those of `allow`."""

    def __init__(self, data: bytes, seconds: float, clock: Callable[[], float] = time.thread_time) -> None:
        super().__init__(data)
        self._seconds = seconds
        self._clock = clock
        self._began = clock()

    def allow(self, seconds: float) -> None:
        """As many more, once it is known how large the picture is."""
        self._seconds += seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if self._clock() - self._began > self._seconds:
            raise TooSlow(self._seconds)
        return super().read(size)
