"""Answers by key and recipes by fingerprint: both are written once and shared by many rows of work."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator

from backend.store.rows import clean
from backend.store.types import RecipeRecord, StoredAnswer

SAVED_AGAIN_S = 60.0
"""A recipe that is asked for all the time is written once in so long: what is forgotten is older by far."""


def save_recipe(connection: sqlite3.Connection, record: RecipeRecord, now: float) -> None:
    texts = [clean(t) for t in (record.fingerprint, record.project, record.label_config, record.options)]
    connection.execute(
        """INSERT INTO recipe VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET project = excluded.project,
        label_config = excluded.label_config, options = excluded.options, saved_at = excluded.saved_at
        WHERE saved_at <= excluded.saved_at - ? OR (project, label_config, options)
            <> (excluded.project, excluded.label_config, excluded.options)""",
        [*texts, now, SAVED_AGAIN_S],
    )


def recipe(connection: sqlite3.Connection, fingerprint: str) -> RecipeRecord | None:
    row = connection.execute(
        "SELECT fingerprint, project, label_config, options FROM recipe WHERE fingerprint = ?", [clean(fingerprint)]
    ).fetchone()
    return RecipeRecord(*row) if row else None


def save_answer(connection: sqlite3.Connection, answer: StoredAnswer, now: float) -> int:
    """Return its row id. The first content of a key stays: Label Studio may have been told it already."""
    connection.execute(
        "INSERT INTO answer (key, content, saved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [clean(answer.key), clean(answer.content), now],
    )
    return int(connection.execute("SELECT id FROM answer WHERE key = ?", [clean(answer.key)]).fetchone()[0])


def save_answers(connection: sqlite3.Connection, items: Iterable[StoredAnswer], now: float) -> None:
    """Keep answers that belong to no task; those whose key is there already are left as they are."""
    for item in items:
        save_answer(connection, item, now)


def keys(connection: sqlite3.Connection, suffix: str) -> Iterator[str]:
    """Every key that ends so."""
    for row in connection.execute("SELECT key FROM answer WHERE substr(key, -length(?1)) = ?1", [clean(suffix)]):
        yield row[0]


def answers(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, StoredAnswer]:
    """What is stored under `keys`; those without an answer are left out."""
    wanted = {clean(key): key for key in keys}
    rows = connection.execute(
        "SELECT key, content FROM answer WHERE key IN (SELECT value FROM json_each(?))", [json.dumps(list(wanted))]
    )
    return {wanted[key]: StoredAnswer(key, content) for key, content in rows}
