"""Whether the files of a model hold what they held when they were made.

A file of the right size may hold something else: a copy from another disk, a power cut, a mirror, a disk that fails.
It would give answers that are a little worse, for ever, and nothing would say so. The hub's local cache names each file
by the digest of its content, and a 4-bit copy has those of its files in NAME: both need no network. A folder of
somebody's own has neither. Imports no torch. Raises ModelFilesInvalid.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from model_loader.errors import ModelError, ModelFilesInvalid
from model_loader.host import num_cpus
from model_loader.json_text import read_object

NAME = "prelabel-contents.json"
THREADS = 4
_CHUNK_BYTES = 8 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA1_CHARS = 40


def known_contents(folder: Path) -> dict[Path, str]:
    """The files of `folder` of which it is known what they hold, each with its digest. Raises ModelFilesInvalid."""
    targets = (link.resolve() for link in folder.iterdir() if link.is_symlink() and link.is_file())
    known = {target: target.name for target in targets if _DIGEST.fullmatch(target.name)}
    known |= {folder / name: digest for name, digest in _noted(folder).items() if Path(name).name == name}
    return {file: digest for file, digest in sorted(known.items()) if file.is_file()}


def _noted(folder: Path) -> dict[str, str]:
    """What NAME says; nothing where it is not there. One that is damaged stands for files that may be, too."""
    try:
        noted = read_object(folder / NAME)
        if odd := [name for name, digest in noted.items() if not _DIGEST.fullmatch(str(digest))]:
            raise ModelFilesInvalid(f"{odd[0][:80]!r} has no digest")
    except FileNotFoundError:
        return {}
    except (OSError, ModelError) as error:
        raise ModelFilesInvalid(
            f"{folder / NAME}, by which the files of a 4-bit copy are checked, is damaged ({error}), and they may be, "
            "too; bring a copy that you brought from elsewhere once more"
        ) from error
    return {name: str(digest) for name, digest in noted.items()}


def note_contents(folder: Path, reading: Callable[[int], None] = lambda num_bytes: None) -> None:
    """Write the digests of all files in `folder` beside them. Raises OSError.

    `reading` is told the bytes of each file that is read.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != NAME)
    noted = {}
    with _threads() as threads:
        digests = threads.map(lambda file: _read(file, [hashlib.sha256()])[0], files)
        for file, digest in zip(files, digests, strict=True):
            noted[file.name] = digest
            reading(file.stat().st_size)
    (folder / NAME).write_text(json.dumps(noted, indent=1) + "\n", "utf-8")


def check_contents(contents: Mapping[Path, str], on_fraction: Callable[[float], None] = lambda fraction: None) -> None:
    """Read the files of `contents` whole. Raises ModelFilesInvalid, which names those to remove.

    A second a gigabyte and core, on a disk that is as fast. `on_fraction` is told the share that is read, from any
    thread.
    """
    total_bytes, read_bytes, lock = max(1, size_bytes(contents)), 0, threading.Lock()

    def reading(num_bytes: int) -> None:
        nonlocal read_bytes
        with lock:
            read_bytes += num_bytes
            on_fraction(read_bytes / total_bytes)

    with _threads() as threads:
        found = list(threads.map(lambda file: _holds(file, contents[file], reading), contents))
    damaged = [str(file) for file, is_whole in zip(contents, found, strict=True) if not is_whole]
    if damaged:
        raise ModelFilesInvalid(
            f"{len(damaged)} of the model's files hold something else than they should: they were damaged on this "
            "disk, or when they were copied. Remove them and start again: those of the hub's cache and of prelabel's "
            "own copy are fetched or made anew, and they alone; into a folder of your own copy them again: rm "
            + " ".join(damaged)
        )


@contextlib.contextmanager
def checked_beside(contents: Mapping[Path, str], enter: Callable[[], Callable[[float], None]]) -> Iterator[None]:
    """Check `contents` while the block reads the same files, which then come from the disk once. Where the block
    fails, damaged files are the reason that is told.

    Where the block is done first, as on a slow core, `enter` is called, and what it returns is told the share that is
    checked.
    """
    report: Callable[[float], None] = lambda fraction: None  # noqa: E731 - the block tells its own progress until then
    with ThreadPoolExecutor(1) as thread:
        checking = thread.submit(check_contents, contents, lambda fraction: report(fraction))
        try:
            yield
        finally:
            if not checking.done():
                report = enter()
            checking.result()


def size_bytes(contents: Mapping[Path, str]) -> int:
    return sum(file.stat().st_size for file in contents)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(THREADS, num_cpus()))


def _holds(file: Path, wanted: str, reading: Callable[[int], None]) -> bool:
    """By SHA-256 of a large file, of a small one by SHA-1 as git has it, or as mirrors give it."""
    digests = [hashlib.sha256()]
    if len(wanted) == _SHA1_CHARS:
        begin = b"blob %d\0" % file.stat().st_size
        digests = [hashlib.sha1(first, usedforsecurity=False) for first in (begin, b"")]
    return wanted in _read(file, digests, reading)


def _read(file: Path, digests: list[Any], reading: Callable[[int], None] = lambda _: None) -> list[str]:
    """What each of hashlib's `digests` gives of `file`."""
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            for digest in digests:
                digest.update(chunk)
            reading(len(chunk))
    return [str(digest.hexdigest()) for digest in digests]
