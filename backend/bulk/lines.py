"""A file of JSON lines that is whole at any moment: opened, repaired, read, and appended to by one process.

Each append is one write of one line at the end; one that the disk takes only in part is taken back. What a killed
process or a power cut left at the end of the file, not a whole line, is cut off when it is opened again.
Knows nothing of what the lines say. Raises OutputError, and UsageError for a file that is none of ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from backend.errors import OutputError, UsageError

_NOT_OURS = "it is not a file that prelabel wrote"
_START = b'{"image_id"'


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that nobody repairs: a last line that is not whole is left out, and so are empty ones.
    Raises OSError, and UsageError for a line that is none of ours."""
    with path.open("rb") as file:
        for number, (line, document) in enumerate(_documents(file, path), 1):
            if document is not None and line.endswith(b"\n"):
                yield document
            elif line.strip() and line.endswith(b"\n"):
                raise UsageError(f"{path} has something else in line {number}: {_NOT_OURS}.")


class LineFile:
    """Use it from one thread, but for `sync`. Its lock ends with the process, however that ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._synced = self._size

    @classmethod
    def open(cls, path: Path) -> LineFile:
        """Make it or take what is there, for this process alone. Raises UsageError if another has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not wait
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}). Choose another --output.") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{path} is no ordinary file. Choose another --output.")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
                raise BlockingIOError  # who held it has removed it meanwhile
            return cls(path, descriptor)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError | FileNotFoundError):
                raise UsageError(
                    f"{path} is being written by another run. Wait until that has ended, or choose another --output."
                ) from None
            if isinstance(error, OSError):
                raise UsageError(f"{path} cannot be locked ({error.strerror}). Choose another --output.") from None
            raise

    def read(self) -> Iterator[dict[str, Any]]:
        """Every object; then the end of the file is mended. Raises UsageError for lines that are none of ours."""
        good = bad_number = 0
        tail, is_ended = b"", True
        with open(self.path, "rb") as file:
            for number, (line, document) in enumerate(_documents(file, self.path), 1):
                if tail:
                    break
                if document is None:
                    tail, bad_number = line, number
                    continue
                yield document
                good += len(line)
                is_ended = line.endswith(b"\n")
        if tail and not (good + len(tail) == self._size and _is_torn(tail)):
            raise UsageError(
                f"{self.path} has something else in line {bad_number}: {_NOT_OURS}. Choose another --output."
            )
        if tail:
            self._cut(good)
        elif not is_ended:
            self.append(b"\n")  # the last line is whole but for that

    def append(self, line: bytes) -> None:
        """Raises OutputError; the file is then as it was."""
        rest = line
        try:
            while rest:  # a full disk takes a part, and the next write says why
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with contextlib.suppress(OutputError):
                self._cut(self._size)
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}). What it holds is whole. Free some space first."
            ) from None
        self._size += len(line)

    def clear(self) -> None:
        """Forget every line. Raises OutputError."""
        self._cut(0)

    def sync(self) -> None:
        """Wait until what was appended would outlive a power cut. Raises OutputError, also if the file was removed."""
        size = self._size
        try:
            if not os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                raise FileNotFoundError(errno.ENOENT, "it was replaced by another file")
            if size != self._synced:
                os.fdatasync(self._descriptor)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}). Check the disk.") from None
        self._synced = size

    def close(self, *, remove_empty: bool = False) -> None:
        """Safe to call twice."""
        if self._descriptor < 0:
            return
        if remove_empty and not self._size:
            with contextlib.suppress(OSError):
                self.path.unlink()  # under the lock: whoever opened it meanwhile finds it gone
        os.close(self._descriptor)
        self._descriptor = -1

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be shortened ({error.strerror}). Check the disk.") from None
        self._size = self._synced = size


def _documents(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with its object; None for a line that is no JSON. Raises UsageError for JSON that is no object."""
    for line in file:
        try:
            document = json.loads(line, parse_float=_number, parse_constant=_number)
        except (ValueError, RecursionError):
            yield line, None
            continue
        if not isinstance(document, dict):
            raise UsageError(f"{path} cannot be used: {_NOT_OURS}. Choose another --output.")
        yield line, document


def _number(text: str) -> float:
    """None of ours is without an end: such a line could not be written again. Raises ValueError."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _is_torn(tail: bytes) -> bool:
    """Whether it is a line of ours that a killed process or a power cut has left, and no other program's text."""
    return tail.startswith(_START) or _START.startswith(tail) or not tail.strip(b"\0")
