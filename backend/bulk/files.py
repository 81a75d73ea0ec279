"""Output files: those that replace what was there in one step, and text that any name may be in.

Knows nothing of what is written. Raises OSError.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well; otherwise what was there stays."""
    part = path.with_name(f".prelabel-{secrets.token_hex(8)}.part")  # a long name leaves no room for a suffix
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Those that JSON allows in a string as they are, where many readers end a line all the same."""


def json_line(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    """UTF-8 JSON, one line for any reader. A file name that is no text is written as the escapes that give it back."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent).translate(_LINE_BREAKS)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document, ensure_ascii=True, allow_nan=False, indent=indent).encode() + b"\n"


_CONTROLS = {code: "?" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"}


def plain_text(text: str) -> str:
    """`text` as every table and page has it: bytes of a file name that no UTF-8 file can hold, and control characters,
    which a terminal that shows the file would obey, become question marks. Tabs and ends of lines stay."""
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()
