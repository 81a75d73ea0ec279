"""What the processes of test_apart.py do, in a module of its own: they import it, and pytest they need not."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backend.engine.messages import Picture
from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import Decoded, decode
from tests.backend.images.pictures import png

LONG_S = 3_600.0
LIMITS = Limits(decode_s=LONG_S, queue_s=LONG_S)
SOON = replace(LIMITS, decode_s=0.05, decode_s_per_megapixel=LONG_S)


LIES: dict[str, Decoded | bytes] = {
    "fewer bytes than pixels": Decoded(Picture(10, 10, bytes(299))),
    "more bytes than pixels": Decoded(Picture(10, 10, bytes(301))),
    "remarks without end": Decoded(Picture(2, 2, bytes(12)), remarks="x" * 2**20),
    "more bytes than there are": b"\xff" * 8 + b"{}",
    "no head": b"\0\0\0\0\0\0\0\1{",
}
RIGHTS = {
    "write": (lambda path: Path(path).write_text("x"), "Too many open files"),
    "read": (lambda path: Path("/proc/self/environ").read_bytes(), "Too many open files"),
    "connect": (lambda path: socket.socket(), "Too many open files"),
    "have a pipe": (lambda path: os.pipe(), "Too many open files"),
    "become another user": (lambda path: os.setuid(os.getuid() + 1), "Operation not permitted"),
    "see another root": (lambda path: os.chroot("/proc"), "Operation not permitted"),
}
"""What it tries, and how that is refused, whoever runs it."""


def work(data: bytes, limits: Limits, begin: Callable[[int], None]) -> Decoded:
    """What a decoder of `data` does: a word, and for some a link to make, whose target is its process: it cannot write
    a file."""
    word, _, path = data.decode().partition(" ")
    match word:
        case "pid":
            raise ImageError("corrupt", str(os.getpid()))
        case "endless":  # in C, which looks at nothing meanwhile
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        case "long":
            begin(1_000_000)
            while time.process_time() < 4 * SOON.decode_s:
                pass
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            bytearray(2**33)
        case "waits":
            os.symlink(str(os.getpid()), path)
            threading.Event().wait()
        case "says":
            if isinstance(lie := LIES[path], Decoded):
                return lie
            os.write(int(sys.argv[2]), lie)
        case "stops":  # in the middle of what it says
            os.symlink(str(os.getpid()), path)
            os.write(int(sys.argv[2]), b"\0\0\0\0")
            os.kill(os.getpid(), signal.SIGSTOP)
        case "may":
            right, _, place = path.rpartition(" ")
            try:
                RIGHTS[right][0](place)
            except OSError as error:
                raise ImageError("corrupt", os.strerror(error.errno or 0)) from None
        case "large":
            begin(limits.large_picture_pixels + 1)
        case "large-waits":
            begin(limits.large_picture_pixels + 1)
            os.symlink(str(os.getpid()), path)
            threading.Event().wait()
        case "large-twice":
            begin(limits.large_picture_pixels + 1)
            begin(limits.large_picture_pixels + 1)
        case "large-crash":
            begin(limits.large_picture_pixels + 1)
            os.kill(os.getpid(), signal.SIGSEGV)
    return decode(png(), limits)
