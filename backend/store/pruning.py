"""Keep the file bounded: forget what is over and old, then what nobody refers to. Each call is part of a transaction.

`prune_work` and `prune_answers` remove at most CHUNK rows and return how many: a caller repeats them until that is 0.
"""

from __future__ import annotations

import sqlite3

CHUNK = 2_000

OVER_IDS = """SELECT id FROM work WHERE state IN ('returned', 'delivered', 'failed', 'cancelled') AND updated_at < ?
    AND (state <> 'returned' OR (check_at < ? AND push_attempts = 0 AND push_until = 0))
    AND (open_replies = 0 OR reply_until < ?)
    AND NOT EXISTS (SELECT 1 FROM project p JOIN people q ON q.project = p.name JOIN labelled l ON l.people_id = q.id
        WHERE p.id = work.project_id AND l.task_id = work.task_id AND work.answer_id IS NOT NULL) LIMIT ?"""
"""Without an API key nothing that a reply held is ever looked up. What a push may have lost is never forgotten, and
neither is the answer to a task that people labelled: how good it was is still asked."""
UNUSED_ANSWERS = """SELECT id FROM answer a WHERE saved_at < ?
    AND NOT EXISTS (SELECT 1 FROM work WHERE answer_id = a.id) LIMIT ?"""


def prune_work(connection: sqlite3.Connection, before: float, now: float) -> int:
    parameters = [before, now, now, CHUNK]
    return connection.execute(f"DELETE FROM work WHERE id IN ({OVER_IDS})", parameters).rowcount  # noqa: S608


def prune_answers(connection: sqlite3.Connection, before: float) -> int:
    return connection.execute(f"DELETE FROM answer WHERE id IN ({UNUSED_ANSWERS})", [before, CHUNK]).rowcount  # noqa: S608


def forget_unasked(connection: sqlite3.Connection) -> None:
    """Forget all rows that no open request waits for, and the answers that only they had. The newest row stays, or
    SQLite would give its id to the next one, of which a job that still ends must not hear."""
    connection.execute("DELETE FROM work WHERE open_replies = 0 AND id < (SELECT max(id) FROM work)")
    connection.execute("DELETE FROM answer WHERE NOT EXISTS (SELECT 1 FROM work WHERE answer_id = answer.id)")


def prune_rest(connection: sqlite3.Connection, before: float) -> None:
    """Forget recipes and projects without work."""
    connection.execute(
        "DELETE FROM recipe WHERE saved_at < ? AND NOT EXISTS (SELECT 1 FROM work WHERE recipe = fingerprint)", [before]
    )
    connection.execute(
        """DELETE FROM project WHERE last_accepted_at < ?
        AND NOT EXISTS (SELECT 1 FROM work WHERE project_id = project.id)""",
        [before],
    )
