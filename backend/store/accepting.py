"""Tasks that Label Studio asks for become rows of work, or find theirs. Part of a transaction; raises ValueError.

A row is for one picture, by the hash of its address: a task whose picture was changed is queued again, whatever came of
it before. An empty hash, of schema 1, is any picture.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence

from backend.store import rows
from backend.store.types import NewWork, Work

FRESH = """attempts = 0, reason = '', message = '', answer_id = NULL, score = NULL, needs_review = 0,
    push_attempts = 0, finished_at = NULL, state = 'queued'"""
"""Computed anew. What Label Studio was told of it, and until when it may still be taking that in, stays."""

_ACCEPT = """INSERT INTO work (project_id, task_id, model_version, recipe, image_url, image_hash, interactive,
        reply_until, open_replies, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT DO UPDATE SET reply_until = max(reply_until, excluded.reply_until), open_replies = open_replies + 1,
        interactive = max(interactive, excluded.interactive),
        image_url = CASE WHEN state IN ('queued', 'running') THEN excluded.image_url ELSE image_url END,
        image_hash = CASE WHEN state IN ('queued', 'running') OR image_hash = '' THEN excluded.image_hash
            ELSE image_hash END,
        recipe = CASE WHEN state = 'queued' THEN excluded.recipe ELSE recipe END
    RETURNING id, state, image_hash"""
_QUEUE_AGAIN = f"""UPDATE work SET {FRESH}, recipe = ?, image_url = ?, image_hash = ?, interactive = ?, reply_until = ?,
    open_replies = 1, updated_at = ? WHERE id = ?"""  # noqa: S608 - constants


def accept(
    connection: sqlite3.Connection,
    items: Sequence[NewWork],
    *,
    interactive: bool,
    reply_until: float,
    now: float,
    audit_share: float = 0.0,
) -> list[Work]:
    """`audit_share` is that of a project that is new. Raises ValueError for a recipe that was not saved."""
    _require_recipes(connection, {rows.clean(item.recipe) for item in items})
    projects: dict[str, int] = {}
    for item in items:
        if item.project not in projects:
            projects[item.project] = _project_id(connection, item, now, audit_share)
    ids: dict[tuple[str, int, str], int] = {}
    for item in items:
        key = (item.project, item.task_id, item.model_version)
        if key not in ids:  # one request is one open reply, however often it names a task
            ids[key] = _accept_one(connection, projects[item.project], item, interactive, reply_until, now)
    return rows.works(connection, [ids[item.project, item.task_id, item.model_version] for item in items])


def _accept_one(
    connection: sqlite3.Connection, project_id: int, item: NewWork, interactive: bool, reply_until: float, now: float
) -> int:
    recipe, version = rows.clean(item.recipe), rows.clean(item.model_version)
    url = None if item.image_url is None else rows.clean(item.image_url)
    image = image_hash(url)
    new = [project_id, item.task_id, version, recipe, url, image, interactive, reply_until, now]
    work_id, state, image_before = connection.execute(_ACCEPT, new).fetchone()
    if state in ("failed", "cancelled") or image_before != image:
        connection.execute(_QUEUE_AGAIN, [recipe, url, image, interactive, reply_until, now, work_id])
    return int(work_id)


def image_hash(url: str | None) -> str:
    return hashlib.sha256((url or "").encode()).hexdigest()[:16]


def _require_recipes(connection: sqlite3.Connection, fingerprints: set[str]) -> None:
    for fingerprint in fingerprints:
        if not connection.execute("SELECT 1 FROM recipe WHERE fingerprint = ?", [fingerprint]).fetchone():
            raise ValueError("a recipe must be saved before work that needs it is accepted")


def _project_id(connection: sqlite3.Connection, item: NewWork, now: float, audit_share: float) -> int:
    """A new project is first in turn; not before all that ever were, or it would take all turns until it caught up.
    Its present version is that of its first task; where no project is named, there is none (see `versions`)."""
    version, recipe = (rows.clean(item.model_version), rows.clean(item.recipe)) if item.project else ("", "")
    row = connection.execute(
        """INSERT INTO project (name, turn, first_accepted_at, last_accepted_at, model_version, recipe, audit_share)
        VALUES (?, (SELECT coalesce(min(turn), 0) FROM project), ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET last_accepted_at = excluded.last_accepted_at RETURNING id""",
        [rows.clean(item.project), now, now, version, recipe, audit_share],
    ).fetchone()
    return int(row[0])
