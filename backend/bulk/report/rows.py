"""The lines of a run's two files, one at a time and with every value checked: a report must open whatever they hold.

A value of another type than a record has counts as absent; a line that is no JSON object is counted and left out, and
so is a line longer than `MAX_LINE_BYTES`. Raises OSError only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 2**20

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Row:
    """One record. `values` has every field as a tuple, empty where the model left it empty. Confidences are 0..1."""

    image_id: str
    image: str = ""
    values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    needs_review: bool = False
    reasons: tuple[str, ...] = ()
    model_version: str = ""
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class FailureRow:
    image_id: str
    image: str = ""
    reason: str = ""
    message: str = ""


def read_rows(path: Path) -> Iterator[Row | None]:
    """Every record of `path` in its order, None for a line that is none; nothing if there is no such file."""
    for content in _objects(path):
        yield None if content is None else _row(content)


def read_failures(path: Path) -> Iterator[FailureRow | None]:
    """As `read_rows`, of the file of failures."""
    for content in _objects(path):
        yield None if content is None else _failure(content)


def _objects(path: Path) -> Iterator[dict[str, Any] | None]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # a run in which nothing was done, or nothing failed
        return
    with file:
        while line := file.readline(MAX_LINE_BYTES):
            whole = len(line) < MAX_LINE_BYTES or line.endswith(b"\n")
            while not whole:
                rest = file.readline(MAX_LINE_BYTES)
                whole = len(rest) < MAX_LINE_BYTES or rest.endswith(b"\n")
                line = b"?"
            if line.strip():
                yield _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _row(content: dict[str, Any]) -> Row:
    values, confidence = content.get("fields"), content.get("confidence")
    reasons = content.get("review_reasons")
    return Row(
        image_id=_text(content.get("image_id")),
        image=_text(content.get("image")),
        values={name: _values(value) for name, value in values.items()} if isinstance(values, dict) else {},
        confidence=_shares(confidence) if isinstance(confidence, dict) else {},
        score=_share(content.get("score")),
        needs_review=content.get("needs_review") is True,
        reasons=tuple(filter(None, map(_text, reasons))) if isinstance(reasons, list) else (),
        model_version=_text(content.get("model_version")),
        withheld=content.get("withheld") is True,
    )


def _failure(content: dict[str, Any]) -> FailureRow:
    return FailureRow(**{key: _text(content.get(key)) for key in ("image_id", "image", "reason", "message")})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _values(value: object) -> tuple[Value, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(one for one in found if isinstance(one, str | int | float) and not isinstance(one, bool) and one != "")


def _shares(values: dict[str, Any]) -> dict[str, float]:
    return {name: share for name, value in values.items() if (share := _share(value)) is not None}


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 and math.isfinite(value) else None
