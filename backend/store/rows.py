"""Rows of work -> Work, lists of ids -> SQL, and text that every database takes. Knows no rule."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from backend.store.types import Work, WorkState

SELECT_WORK = """SELECT w.id, p.name, w.task_id, w.model_version, w.recipe, w.image_url, w.state, w.reason, w.message,
    w.attempts, a.key, w.score, w.needs_review, w.push_attempts, w.interactive, w.told_at > 0, w.image_hash
    FROM work w JOIN project p ON p.id = w.project_id LEFT JOIN answer a ON a.id = w.answer_id"""
IN_IDS = "IN (SELECT value FROM json_each(?))"

_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with half surrogate pairs, which JSON can hold and UTF-8 cannot, shown as U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def id_list(ids: Iterable[int]) -> str:
    """The parameter for IN_IDS: one statement for any number of ids."""
    return json.dumps(sorted(set(ids)))


def work_of(row: Sequence[Any]) -> Work:
    """SELECT_WORK names the fields of Work, in their order."""
    work = Work(*row)
    return replace(
        work,
        state=WorkState(work.state),
        needs_review=bool(work.needs_review),
        interactive=bool(work.interactive),
        told=bool(work.told),
    )


def works(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Work]:
    """The rows of `ids`, in that order. Raises LookupError for an id that is not there."""
    rows = connection.execute(f"{SELECT_WORK} WHERE w.id {IN_IDS}", [id_list(ids)])
    found = {row[0]: work_of(row) for row in rows}
    return [found[work_id] for work_id in ids]


def work(connection: sqlite3.Connection, work_id: int) -> Work | None:
    """None: it was forgotten."""
    row = connection.execute(f"{SELECT_WORK} WHERE w.id = ?", [work_id]).fetchone()
    return work_of(row) if row else None
