"""Bytes from the disk or from the address itself: local files below one root, a file of the command line, data: URIs.

A local file is opened folder by folder without following links, after its links were resolved and found to stay below
the root, so a link swapped in between is not followed. Only regular files are read. Blocking: call it in a thread.
Raises ImageError.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError

_DATA_URI_OVERHEAD_BYTES = 1024
_MAX_ESCAPES = 2**21
"""Half a second of work. Of a large picture in base64 some 5 % are characters that may be written as one."""
_PIECE_CHARS = 2**16
# O_NONBLOCK: opening a FIFO must not wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def read_below(root: Path, relative_paths: Sequence[str], max_bytes: int) -> bytes:
    """Read the first of some files that is there and, with all links resolved, below `root`."""
    try:
        real_root = root.resolve(strict=True)
    except (OSError, RuntimeError):
        raise _not_found() from None
    real_path = next((found for path in relative_paths if (found := _resolved(real_root / path))), None)
    if real_path is None:
        raise _not_found()
    if not real_path.is_relative_to(real_root):
        raise ImageError("blocked", "The local file is refused: it leaves PRELABEL_LOCAL_FILES_ROOT.")
    try:
        descriptor = _open_without_links(real_root, real_path.relative_to(real_root).parts)
    except OSError:
        raise _not_found() from None
    return _read_regular(descriptor, max_bytes)


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links
        return None


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file a person named on the command line; links are followed."""
    try:
        descriptor = os.open(path, _FILE_FLAGS & ~os.O_NOFOLLOW)
    except (OSError, ValueError):
        raise ImageError("not_found", f"{path.name} cannot be opened.") from None
    return _read_regular(descriptor, max_bytes)


def read_data_uri(uri: str, max_bytes: int) -> bytes:
    """Decode a `data:` URI. Its claimed media type is ignored; base64 must be exact."""
    if len(uri) > max_bytes * 4 // 3 + _DATA_URI_OVERHEAD_BYTES:
        raise _too_large(max_bytes)
    header, comma, body = uri.partition(",")
    if not comma:
        raise ImageError("corrupt", "The data: address has no comma, so no picture follows it.")
    try:
        raw = _unescaped(body) if "%" in body else body.encode("utf-8")
        if header.rstrip().lower().endswith(";base64"):
            raw = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("corrupt", "The data: address is not valid base64.") from None
    if len(raw) > max_bytes:
        raise _too_large(max_bytes)
    return raw


def _unescaped(body: str) -> bytes:
    """In pieces, between which no escape is cut: of millions at once the library makes a list that takes gigabytes."""
    if body.count("%") > _MAX_ESCAPES:
        raise ImageError("corrupt", "The data: address has more than two million % in it. Write the picture in base64.")
    raw, start = bytearray(), 0
    while start < len(body):
        end = start + _PIECE_CHARS
        if (escape := body.find("%", end - 2, end)) >= 0:
            end = escape
        raw += unquote_to_bytes(body[start:end])
        start = end
    return bytes(raw)


def _open_without_links(root: Path, parts: tuple[str, ...]) -> int:
    if not parts:
        raise IsADirectoryError
    folder = os.open(root, _FOLDER_FLAGS)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _FILE_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def _read_regular(descriptor: int, max_bytes: int) -> bytes:
    try:
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("blocked", "The local file is refused: it is not a regular file.")
            if status.st_size > max_bytes:
                raise _too_large(max_bytes)
            # not `max_bytes` of memory for each small picture; a few file systems do not know a file's size
            data = file.read((status.st_size or max_bytes) + 1)
    except IsADirectoryError:
        raise ImageError("blocked", "The local file is refused: it is a folder.") from None
    except OSError:
        raise ImageError("unreachable", "The local file cannot be read.", retryable=True) from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _not_found() -> ImageError:
    return ImageError("not_found", "The local file does not exist below PRELABEL_LOCAL_FILES_ROOT, or is not readable.")


def _too_large(max_bytes: int) -> ImageError:
    return ImageError("too_large", f"The picture's file is larger than the limit of {max_bytes // 2**20} MB.")
