"""The present model version of a project: what was last asked for. Each function is part of a transaction.

A project has one label config at a time, so a task has one row that is still to be answered: under the present version.
When that changes, what is not in Label Studio yet moves to it: the same task, another recipe. What Label Studio was
told under an earlier version stays as it is, and is not counted in the project's progress.

A row moves as a new row and the old one's end: a job or a reply that began under the earlier version finds its row
gone, so that an answer never goes out under another version than its own.
"""

from __future__ import annotations

import sqlite3

from backend.store import answers, rows
from backend.store.accepting import FRESH
from backend.store.audit import PERHAPS_TOLD, SHOWN
from backend.store.types import RecipeRecord

CHUNK = 5_000
"""Rows moved in one transaction: there may be a million, and other writes get their turn."""

_SET = """UPDATE project SET model_version = ?1, recipe = ?2, present_since = ?3,
    audit_share = coalesce(?5, audit_share), num_pruned = iif(model_version IN ('', ?1), num_pruned, 0)
    WHERE name = ?4 AND name <> '' AND present_since <= ?3"""
_UNSETTLED = "project_id = ?1 AND state IN ('queued', 'running', 'done', 'withheld', 'failed') AND push_until = 0"
OLDER = f"""SELECT id FROM work INDEXED BY work_unsettled WHERE {_UNSETTLED} AND model_version < ?2
    UNION ALL SELECT id FROM work INDEXED BY work_unsettled WHERE {_UNSETTLED} AND model_version > ?2
    LIMIT ?3"""  # noqa: S608 - constants
"""A push under way ends first: as delivered, or it moves then."""
_STAYS_FAILED = """state = 'failed' AND (image_url IS NULL OR (answer_id IS NULL AND reason <> 'model_changed'))"""
"""The picture is to blame; every other failure was the earlier version's."""
# PERHAPS_TOLD: Label Studio may have been told that version of the task before, if the row of it was forgotten since.
# So it is looked up before it is pushed; a reply may hold it.
_MOVE = f"""INSERT INTO work (project_id, task_id, model_version, recipe, image_url, image_hash, interactive, attempts,
        state, reason, message, finished_at, told_at, audit, reply_until, open_replies, updated_at)
    SELECT project_id, task_id, ?1, ?2, image_url, image_hash, interactive,
        CASE state WHEN 'queued' THEN attempts WHEN 'running' THEN max(attempts - 1, 0) ELSE 0 END,
        iif({_STAYS_FAILED}, 'failed', 'queued'), iif({_STAYS_FAILED}, reason, ''), iif({_STAYS_FAILED}, message, ''),
        iif({_STAYS_FAILED}, finished_at, NULL), {PERHAPS_TOLD},
        iif(told_at > {PERHAPS_TOLD}, {SHOWN}, audit), 0, 0, ?3
    FROM work WHERE id {rows.IN_IDS.replace("?", "?4")} ORDER BY id
    ON CONFLICT (project_id, task_id, model_version) DO UPDATE SET {FRESH}, recipe = excluded.recipe,
        image_url = excluded.image_url, image_hash = excluded.image_hash, audit = max(audit, excluded.audit),
        updated_at = excluded.updated_at
    WHERE excluded.state = 'queued'
        AND (state IN ('failed', 'cancelled') OR image_hash NOT IN ('', excluded.image_hash))"""  # noqa: S608 - constants


def set_present(
    connection: sqlite3.Connection,
    record: RecipeRecord,
    model_version: str,
    now: float,
    audit_share: float | None = None,
) -> bool:
    """Unless something else was set after `now`. A project that was never asked for any task needs none. Returns
    whether the version is another one than before. `audit_share`: of its tasks from now on, None: as before."""
    project, version = rows.clean(record.project), rows.clean(model_version)
    before = connection.execute("SELECT model_version FROM project WHERE name = ?", [project]).fetchone()
    if before is None:
        return False
    answers.save_recipe(connection, record, now)
    is_set = connection.execute(_SET, [version, rows.clean(record.fingerprint), now, project, audit_share]).rowcount
    return bool(is_set) and before[0] != version


def is_earlier(connection: sqlite3.Connection, project: str, model_version: str) -> bool:
    """Whether another version is the present one of `project`."""
    row = connection.execute("SELECT model_version FROM project WHERE name = ?", [rows.clean(project)]).fetchone()
    return row is not None and row[0] not in ("", rows.clean(model_version))


def present(connection: sqlite3.Connection, project: str) -> tuple[str, RecipeRecord] | None:
    """The present model version of `project` and its recipe; None if it was never asked for."""
    row = connection.execute(
        "SELECT model_version, recipe FROM project WHERE name = ?", [rows.clean(project)]
    ).fetchone()
    record = answers.recipe(connection, row[1]) if row else None
    return (str(row[0]), record) if record else None


def versions(connection: sqlite3.Connection, project: str) -> set[str]:
    """All model versions under which there is work of `project`, and the present one."""
    found = connection.execute(
        """SELECT model_version FROM project WHERE name = ?1 AND model_version <> '' UNION
        SELECT t.model_version FROM tally t JOIN project p ON p.id = t.project_id WHERE p.name = ?1""",
        [rows.clean(project)],
    )
    return {str(row[0]) for row in found}


def move_older(connection: sqlite3.Connection, project: str | None, now: float) -> int:
    """Move up to CHUNK rows of `project`, None: of any, to its present version; 0 when there are none left."""
    projects = connection.execute(
        "SELECT id, model_version, recipe FROM project WHERE model_version <> '' AND (?1 IS NULL OR name = ?1)",
        [None if project is None else rows.clean(project)],
    ).fetchall()
    for project_id, version, recipe in projects:
        ids = [row[0] for row in connection.execute(OLDER, [project_id, version, CHUNK])]
        if ids:
            _move(connection, rows.id_list(ids), version, recipe, now)
            return len(ids)
    return 0


def _move(connection: sqlite3.Connection, ids: str, version: str, recipe: str, now: float) -> None:
    connection.execute(_MOVE, [version, recipe, now, ids])
    # The newest row stays, or SQLite would give its id to the next one, of which a job that still runs must not hear.
    connection.execute(
        f"UPDATE work SET state = 'cancelled', reason = '', image_url = NULL, updated_at = ? WHERE id {rows.IN_IDS}",  # noqa: S608
        [now, ids],
    )
    connection.execute(
        f"DELETE FROM work WHERE id {rows.IN_IDS} AND id < (SELECT max(id) FROM work)",  # noqa: S608 - constants
        [ids],
    )


def forget_older(connection: sqlite3.Connection, project: str) -> int:
    """Forget up to CHUNK rows of earlier versions, which Label Studio has no predictions of any more."""
    chosen = """SELECT w.id FROM work w JOIN project p ON p.id = w.project_id WHERE p.name = ? AND p.model_version <> ''
        AND w.model_version <> p.model_version AND w.state IN ('returned', 'delivered') AND w.push_until = 0
        AND w.id < (SELECT max(id) FROM work) LIMIT ?"""
    return connection.execute(
        f"DELETE FROM work WHERE id IN ({chosen})",  # noqa: S608 - constants
        [rows.clean(project), CHUNK],
    ).rowcount
