"""A file of JSON that is refused where it is nested deeper than any export is, before a parser reads that far: ijson
remembers the path to where it is, so that a hundred thousand brackets, 100 KB, would take all memory there is.

Counts brackets outside of texts, a tenth of the time that reading takes. Says nothing of what is no JSON. Raises
UsageError, and OSError as files do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from backend.errors import UsageError

MAX_DEPTH = 200
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b'"[]{}\\'))


class ShallowFile:
    """`file` from where it stands; `path` is for the message."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._depth = 0
        self._in_text = False
        self._begun = b""
        """A backslash at the end of a chunk: it escapes what comes next."""

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._look_through(chunk)
        return chunk

    def _look_through(self, chunk: bytes) -> None:
        text = _ESCAPED.sub(b"", self._begun + chunk)
        self._begun = b"\\" if text.endswith(b"\\") else b""
        parts = text.translate(None, _NO_BRACKETS).split(b'"')
        for char in b"".join(parts[self._in_text :: 2]):
            self._depth += 1 if char in b"[{" else -1
            if self._depth > MAX_DEPTH:
                raise UsageError(f"{self._path} is nested deeper than {MAX_DEPTH} levels, which no export is.")
        self._in_text ^= len(parts) % 2 == 0
