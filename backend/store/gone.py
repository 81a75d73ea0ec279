"""Rows whose tasks need no answer any more: Label Studio has lost the task, or people did by hand what had failed.
Each function is part of a transaction.

They are CANCELLED with a reason, so nothing counts or retries them; when Label Studio asks for the task again, it is
queued again like any that was cancelled. Of a task that is gone the reason is one of GONE, of one that people did it is
why it had failed. Left alone is what runs or is being pushed, and what a request asked for after `asked_at`, when Label
Studio was asked about the tasks: then it has them. Answers of a project that is found again, because that was asked at
a wrong address, are to be delivered again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from backend.reasons import Reason
from backend.store import rows

CHUNK = 5_000

_OF_PROJECT = "project_id = (SELECT id FROM project WHERE name = ?1)"
_AT_REST = "state NOT IN ('running', 'cancelled') AND push_until = 0 AND open_replies = 0 AND reply_until <= ?2"
UNSETTLED = f"""SELECT id, task_id FROM work INDEXED BY work_unsettled WHERE {_OF_PROJECT} AND {_AT_REST}
    AND state IN ('queued', 'running', 'done', 'withheld', 'failed') AND id > ?3
    AND model_version = (SELECT model_version FROM project WHERE name = ?1) ORDER BY id LIMIT ?4"""  # noqa: S608
ALL = f"""SELECT task_id, task_id FROM work WHERE {_OF_PROJECT} AND {_AT_REST} AND task_id > ?3
    ORDER BY task_id LIMIT ?4"""  # noqa: S608 - constants
WORTH_ASKING = f"""SELECT EXISTS (SELECT 1 FROM work WHERE {_OF_PROJECT}
    AND (({_AT_REST}) OR (state = 'cancelled' AND reason = 'project_deleted')))"""  # noqa: S608 - constants
_END = "UPDATE work SET state = 'cancelled', image_url = NULL, updated_at = ?2"


def is_worth_asking(connection: sqlite3.Connection, project: str, now: float) -> bool:
    """Whether anything would change if its tasks were gone, or the project were back."""
    return bool(connection.execute(WORTH_ASKING, [rows.clean(project), now]).fetchone()[0])


def tasks_at_rest(
    connection: sqlite3.Connection, project: str, after: int, limit: int, now: float, *, told: bool
) -> list[tuple[int, int]]:
    """Up to `limit` tasks that wait, failed or are to be delivered, or (`told`) that Label Studio was told of, too.
    Each is a pair: its place in the order, all of them behind `after`, and the task's id."""
    return connection.execute(ALL if told else UNSETTLED, [rows.clean(project), now, after, limit]).fetchall()


def tasks_gone(
    connection: sqlite3.Connection, project: str, task_ids: Iterable[int], reason: Reason, asked_at: float
) -> int:
    """Label Studio does not have them any more. Returns how many rows ended."""
    return connection.execute(
        f"""{_END}, reason = ?3, message = '' WHERE {_OF_PROJECT} AND {_AT_REST}
        AND task_id {rows.IN_IDS.replace("?", "?4")}""",
        [rows.clean(project), asked_at, reason, rows.id_list(task_ids)],
    ).rowcount


def project_gone(connection: sqlite3.Connection, project: str, reason: Reason, asked_at: float) -> int:
    """As `tasks_gone`, of all its tasks: up to CHUNK rows, 0 when there are none left."""
    name = rows.clean(project)
    connection.execute("UPDATE project SET num_pruned = 0 WHERE name = ? AND num_pruned > 0", [name])
    return connection.execute(
        f"""{_END}, reason = ?3, message = '' WHERE id IN
        (SELECT id FROM work WHERE {_OF_PROJECT} AND {_AT_REST} LIMIT ?4)""",  # noqa: S608 - constants
        [name, asked_at, reason, CHUNK],
    ).rowcount


def project_back(connection: sqlite3.Connection, project: str, now: float) -> int:
    """It is there after all: of what ended with it up to CHUNK answers are to be delivered, those Label Studio was told
    of to be looked up there first. What has no answer stays cancelled until it is asked for. Returns how many rows."""
    return connection.execute(
        f"""UPDATE work SET state = iif(told_at > 0, 'returned', 'done'), reason = '', check_at = 0, next_try_at = 0,
        push_attempts = 0, updated_at = ?2 WHERE id IN (SELECT id FROM work WHERE {_OF_PROJECT} AND state = 'cancelled'
        AND reason = 'project_deleted' AND answer_id IS NOT NULL LIMIT ?3)""",  # noqa: S608 - constants
        [rows.clean(project), now, CHUNK],
    ).rowcount


def tasks_done_by_people(connection: sqlite3.Connection, project: str, task_ids: Iterable[int], asked_at: float) -> int:
    """People have annotated them: what had failed of them has not to be answered. Returns how many rows ended."""
    return connection.execute(
        f"""{_END} WHERE {_OF_PROJECT} AND {_AT_REST} AND state = 'failed'
        AND task_id {rows.IN_IDS.replace("?", "?3")}""",
        [rows.clean(project), asked_at, rows.id_list(task_ids)],
    ).rowcount
