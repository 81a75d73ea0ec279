"""One JSON list in as many files as what reads it takes: `t.json`, or `t.1.json`, `t.2.json`, ...

All of them appear when the last is written, and none if that fails; what an earlier run left under these names is gone
then. Raises OSError.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from backend.bulk.files import json_line, replaced


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What Label Studio takes in one request: DATA_UPLOAD_MAX_MEMORY_SIZE, 250 MiB if nobody has changed it, less what
    the upload adds; and TASKS_MAX_NUMBER."""

    max_bytes: int = 240 << 20
    max_tasks: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    path: Path
    num_items: int


def part_path(whole: Path, number: int) -> Path:
    return whole.with_name(f"{whole.stem}.{number}{whole.suffix}")


def is_part(path: Path, whole: Path) -> bool:
    """Whether `path` may become a part of `whole`."""
    pattern = rf"{re.escape(whole.stem)}\.[1-9]\d*{re.escape(whole.suffix)}"
    return path.parent == whole.parent and re.fullmatch(pattern, path.name) is not None


def write_parts(items: Iterable[Mapping[str, Any]], whole: Path, limits: PartLimits) -> list[Part]:
    """An item that is larger than a part may be is one of its own."""
    nums: list[int] = []
    with contextlib.ExitStack() as files:
        file: BinaryIO | None = None
        size = 0
        for item in items:
            line = json_line(item).rstrip(b"\n")
            if file is None or size + len(line) + 5 > limits.max_bytes or nums[-1] >= limits.max_tasks:
                if file is not None:
                    file.write(b"\n]\n")
                nums.append(0)
                file, size = files.enter_context(replaced(part_path(whole, len(nums)))), 0
            size += file.write((b",\n" if nums[-1] else b"[\n") + line)
            nums[-1] += 1
        if file is None:
            nums.append(0)
            file = files.enter_context(replaced(part_path(whole, 1)))
            file.write(b"[")
        file.write(b"\n]\n")
    if len(nums) == 1:
        os.replace(part_path(whole, 1), whole)
    else:
        whole.unlink(missing_ok=True)
    _forget(whole, len(nums) + 1)
    return [Part(whole if len(nums) == 1 else part_path(whole, n), num) for n, num in enumerate(nums, 1)]


def _forget(whole: Path, first: int) -> None:
    """Parts of an earlier run, so that nobody imports them with the new ones."""
    for number in count(first):
        try:
            part_path(whole, number).unlink()
        except FileNotFoundError:
            return
