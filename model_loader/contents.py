"""Whether the files of a hub's model hold what the hub has.

A file of the right size may hold something else: a copy from another disk, a power cut, a mirror. Packed to 4 bits it
would give answers that are a little worse, for ever, and nothing would say so. The hub's local cache names each file by
the digest of its content, so that it can be looked at without a network. Imports no torch. Raises ModelFilesInvalid.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_loader.errors import ModelFilesInvalid

THREADS = 4
_CHUNK_BYTES = 8 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA1_CHARS = 40


def named_by_content(folder: Path) -> dict[Path, int]:
    """The files behind the links of a snapshot that are named by the digest of their content, with their bytes."""
    targets = {link.resolve() for link in folder.iterdir() if link.is_symlink() and link.is_file()}
    return {file: file.stat().st_size for file in sorted(targets) if _DIGEST.fullmatch(file.name)}


def check_contents(files: dict[Path, int], on_fraction: Callable[[float], None] = lambda fraction: None) -> None:
    """Read `files` whole, as `named_by_content` gives them. Raises ModelFilesInvalid, which names those to remove.

    A second a gigabyte and core, on a disk that is as fast. `on_fraction` is told the share that is read, from any
    thread.
    """
    total_bytes, read_bytes, lock = max(1, sum(files.values())), 0, threading.Lock()

    def reading(num_bytes: int) -> None:
        nonlocal read_bytes
        with lock:
            read_bytes += num_bytes
            on_fraction(read_bytes / total_bytes)

    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as threads:
        found = list(threads.map(lambda file: _is_as_named(file, reading), files))
    damaged = [str(file) for file, is_as_named in zip(files, found, strict=True) if not is_as_named]
    if damaged:
        raise ModelFilesInvalid(
            f"{len(damaged)} of the model's files hold something else than the hub has: they were damaged on this "
            "disk, or when they were copied. Remove them and start again, and they alone are downloaded again: rm "
            + " ".join(damaged)
        )


def _is_as_named(file: Path, reading: Callable[[int], None]) -> bool:
    """By SHA-256 of a large file, of a small one by SHA-1 as git has it, or as mirrors give it."""
    digests = [hashlib.sha256()]
    if len(file.name) == _SHA1_CHARS:
        begin = b"blob %d\0" % file.stat().st_size
        digests = [hashlib.sha1(first, usedforsecurity=False) for first in (begin, b"")]
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            for digest in digests:
                digest.update(chunk)
            reading(len(chunk))
    return file.name in {digest.hexdigest() for digest in digests}
