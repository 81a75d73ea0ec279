"""What the processes of test_apart.py do, in a module of its own: they import it, and pytest they need not."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backend.errors import ImageError
from backend.images import FetchedImage, Limits
from backend.images.decode import decode
from tests.backend.images.pictures import png

LONG_S = 3_600.0
LIMITS = Limits(decode_s=LONG_S, queue_s=LONG_S)
SOON = replace(LIMITS, decode_s=0.05, decode_s_per_megapixel=LONG_S)


def work(data: bytes, limits: Limits, begin: Callable[[int], None]) -> FetchedImage:
    """What a decoder of `data` does: a word, and for some a file to write to."""
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
            Path(path).write_text(str(os.getpid()))
            threading.Event().wait()
        case "large":
            begin(limits.large_picture_pixels + 1)
        case "large-waits":
            begin(limits.large_picture_pixels + 1)
            Path(path).write_text(str(os.getpid()))
            threading.Event().wait()
        case "large-crash":
            begin(limits.large_picture_pixels + 1)
            os.kill(os.getpid(), signal.SIGSEGV)
    return decode(png(), limits)
