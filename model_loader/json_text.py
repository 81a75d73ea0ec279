"""JSON of a checkpoint that anybody may have written: refused by name before it takes time or memory.

What is counted in the text bounds what comes of it; what comes of it is nested so little that it may be gone through
by recursion. Raises ModelFilesInvalid.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from model_loader.errors import ModelFilesInvalid

MAX_BYTES = 32 * 2**20
MAX_VALUES = 1_000_000
"""A tensor of a header or an index is at most seven; the published models have 20,000 tensors at most."""
MAX_DEPTH = 32


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds. Raises OSError, too."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, and some devices have no end
        raise ModelFilesInvalid(f"{path.name} is no file; download it again")
    if status.st_size > MAX_BYTES:
        raise ModelFilesInvalid(f"{path.name} is larger than {MAX_BYTES // 2**20} MiB, which no such file is")
    return parse_object(path.read_bytes(), path.name)


def parse_object(text: bytes, name: str) -> dict[str, Any]:
    """The JSON object that `text` is; `name` is its file's, for the message."""
    if sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ModelFilesInvalid(
            f"{name} lists more than {MAX_VALUES:,} values, which no model does that prelabel loads"
        )
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as error:
        raise ModelFilesInvalid(f"{name} is not valid JSON; download it again") from error
    if not isinstance(value, dict):
        raise ModelFilesInvalid(f"{name} is not a JSON object; download it again")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _values(outer)]
    if level:
        raise _too_deep(name)
    return value


def _values(outer: dict[str, Any] | list[Any]) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


def _too_deep(name: str) -> ModelFilesInvalid:
    return ModelFilesInvalid(f"{name} is nested deeper than {MAX_DEPTH} levels, which no such file is")
