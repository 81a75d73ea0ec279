"""From a task that was accepted to an answer, a failure or a cancellation. Each function is part of a transaction.

Who is next (`claim`): those a person waits for; then one suspect; then the projects in turns. A suspect was running
when the engine or prelabel ended. Only one runs at a time, so that a picture which ends the engine reaches the last
attempt alone and none of those that happened to run beside it does. Of the suspects, too, one
that a person waits for is first; then come those tried less often, so that they do not wait for the one to blame.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from backend.store import answers, rows
from backend.store.types import NewWork, StoredAnswer, Work

MAX_REASON_CHARS = 64
MAX_MESSAGE_CHARS = 500
CHUNK = 5_000
"""Rows changed in one transaction where there may be a million, so that other writes get their turn."""

CRASHED = "prelabel or its model ended {} times while working on this task; look at the picture, then retry it"

_FRESH = """attempts = 0, reason = '', message = '', answer_id = NULL, score = NULL, needs_review = 0,
    check_at = 0, next_try_at = 0, push_until = 0, push_attempts = 0, finished_at = NULL, state = 'queued'"""

_ACCEPT = """INSERT INTO work (project_id, task_id, model_version, recipe, image_url, interactive, reply_until,
        open_replies, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT DO UPDATE SET reply_until = max(reply_until, excluded.reply_until), open_replies = open_replies + 1,
        interactive = max(interactive, excluded.interactive),
        image_url = CASE WHEN state IN ('queued', 'running') THEN excluded.image_url ELSE image_url END,
        recipe = CASE WHEN state = 'queued' THEN excluded.recipe ELSE recipe END
    RETURNING id, state"""
_QUEUE_AGAIN = f"""UPDATE work SET {_FRESH}, recipe = ?, image_url = ?, interactive = ?, reply_until = ?,
    open_replies = 1, updated_at = ? WHERE id = ?"""  # noqa: S608 - constants

FORGET_OLDER = """DELETE FROM work WHERE project_id = ? AND task_id = ?
    AND model_version NOT IN (SELECT value FROM json_each(?))
    AND (state = 'queued' OR (state IN ('failed', 'cancelled') AND open_replies = 0))
    AND id < (SELECT max(id) FROM work)"""
"""The label config, the extra params or the model changed: nobody asks for that version of the task any more. An open
request that waits for what is queued does not get it: it would be computed for nothing. The newest row stays, or
SQLite would give its id to the next one, of which such a request, or a job that still runs, must not hear."""

NEXT_WAITED_FOR = """SELECT id FROM work WHERE state = 'queued' AND interactive = 1 AND attempts = 0
    ORDER BY id LIMIT ?"""
NEXT_SUSPECT = """SELECT id FROM work WHERE state = 'queued' AND attempts > 0
    AND NOT EXISTS (SELECT 1 FROM work WHERE state = 'running' AND attempts > 1)
    ORDER BY interactive DESC, attempts, id LIMIT 1"""
NEXT_PROJECTS = """SELECT id FROM project p WHERE EXISTS
    (SELECT 1 FROM work WHERE state = 'queued' AND project_id = p.id AND interactive = 0 AND attempts = 0)
    ORDER BY turn, id LIMIT ?"""
RUNNING = "SELECT project_id FROM work WHERE state = 'running'"
NEXT_OF_PROJECT = """SELECT id FROM work WHERE state = 'queued' AND project_id = ? AND interactive = 0
    AND attempts = 0 ORDER BY id LIMIT ?"""

RETRY_IDS = """SELECT id FROM work WHERE state = 'failed' AND (answer_id IS NOT NULL OR image_url IS NOT NULL)
    AND project_id = (SELECT id FROM project WHERE name = ?) LIMIT ?"""


def accept(
    connection: sqlite3.Connection, items: Sequence[NewWork], *, interactive: bool, reply_until: float, now: float
) -> list[Work]:
    """Raises ValueError for a recipe that was not saved."""
    _require_recipes(connection, {rows.clean(item.recipe) for item in items})
    projects = {name: _project_id(connection, name, now) for name in dict.fromkeys(i.project for i in items)}
    ids: dict[tuple[str, int, str], int] = {}
    versions = json.dumps(sorted({rows.clean(item.model_version) for item in items}))
    for item in items:
        key = (item.project, item.task_id, item.model_version)
        if key not in ids:  # one request is one open reply, however often it names a task
            project_id = projects[item.project]
            ids[key] = _accept_one(connection, project_id, item, interactive, reply_until, now)
            connection.execute(FORGET_OLDER, [project_id, item.task_id, versions])
    return rows.works(connection, [ids[item.project, item.task_id, item.model_version] for item in items])


def _accept_one(
    connection: sqlite3.Connection, project_id: int, item: NewWork, interactive: bool, reply_until: float, now: float
) -> int:
    recipe, version = rows.clean(item.recipe), rows.clean(item.model_version)
    url = None if item.image_url is None else rows.clean(item.image_url)
    new = [project_id, item.task_id, version, recipe, url, interactive, reply_until, now]
    work_id, state = connection.execute(_ACCEPT, new).fetchone()
    if state in ("failed", "cancelled"):
        connection.execute(_QUEUE_AGAIN, [recipe, url, interactive, reply_until, now, work_id])
    return int(work_id)


def _require_recipes(connection: sqlite3.Connection, fingerprints: set[str]) -> None:
    for fingerprint in fingerprints:
        if not connection.execute("SELECT 1 FROM recipe WHERE fingerprint = ?", [fingerprint]).fetchone():
            raise ValueError("a recipe must be saved before work that needs it is accepted")


def _project_id(connection: sqlite3.Connection, name: str, now: float) -> int:
    """A new project is first in turn; not before all that ever were, or it would take all turns until it caught up."""
    row = connection.execute(
        """INSERT INTO project (name, turn, first_accepted_at, last_accepted_at)
        VALUES (?, (SELECT coalesce(min(turn), 0) FROM project), ?, ?)
        ON CONFLICT DO UPDATE SET last_accepted_at = excluded.last_accepted_at RETURNING id""",
        [rows.clean(name), now, now],
    ).fetchone()
    return int(row[0])


def claim(connection: sqlite3.Connection, limit: int, now: float) -> list[Work]:
    ids = [row[0] for row in connection.execute(NEXT_WAITED_FOR, [limit])]
    if len(ids) < limit:
        ids += [row[0] for row in connection.execute(NEXT_SUSPECT)]
    if len(ids) < limit:
        ids += _in_turns(connection, limit - len(ids))
    connection.execute(
        f"UPDATE work SET state = 'running', attempts = attempts + 1, updated_at = ? WHERE id {rows.IN_IDS}",  # noqa: S608
        [now, rows.id_list(ids)],
    )
    return rows.works(connection, ids)


def _in_turns(connection: sqlite3.Connection, limit: int) -> list[int]:
    """One row of each project in turn, again and again; who got one last is last the next time.

    Projects below their share of what runs come first. By turns alone, one whose pictures lie on a host that never
    answers would hold ever more places: its rows end a minute after they began, the others' after seconds.
    """
    running = Counter(row[0] for row in connection.execute(RUNNING))
    projects = [row[0] for row in connection.execute(NEXT_PROJECTS, [limit + len(running)])]
    queues = {
        project_id: [row[0] for row in connection.execute(NEXT_OF_PROJECT, [project_id, limit])]
        for project_id in projects
    }
    share = math.ceil((limit + running.total()) / max(1, len(running.keys() | queues.keys())))
    turn = int(connection.execute("SELECT coalesce(max(turn), 0) FROM project").fetchone()[0])
    taken: list[int] = []
    while queues and len(taken) < limit:
        below = [project_id for project_id in queues if running[project_id] < share]
        for project_id in (below or list(queues))[: limit - len(taken)]:
            taken.append(queues[project_id].pop(0))
            running[project_id] += 1
            turn += 1
            connection.execute("UPDATE project SET turn = ? WHERE id = ?", [turn, project_id])
            if not queues[project_id]:
                del queues[project_id]
    return taken


def finish(
    connection: sqlite3.Connection,
    work_id: int,
    answer: StoredAnswer | str,
    score: float | None,
    needs_review: bool,
    now: float,
) -> Work | None:
    """`answer` is a new one, or the key of one that is stored: LookupError if it is not. None: the row is forgotten."""
    if isinstance(answer, StoredAnswer):
        answer_id = answers.save_answer(connection, answer, now)
    else:
        answer_id = answers.answer_id(connection, answer)
    connection.execute(
        """UPDATE work SET state = 'done', reason = '', message = '', answer_id = ?, score = ?, needs_review = ?,
        finished_at = ?, updated_at = ? WHERE id = ? AND state IN ('queued', 'running')""",
        [answer_id, score, needs_review, now, now, work_id],
    )
    return rows.work(connection, work_id)


def fail(connection: sqlite3.Connection, work_id: int, reason: str, message: str, now: float) -> None:
    connection.execute(
        """UPDATE work SET state = 'failed', reason = ?, message = ?, finished_at = ?, updated_at = ?
        WHERE id = ? AND state IN ('queued', 'running')""",
        [*reason_and_message(reason, message), now, now, work_id],
    )


def reason_and_message(reason: str, message: str) -> tuple[str, str]:
    return rows.clean(reason)[:MAX_REASON_CHARS], rows.clean(message)[:MAX_MESSAGE_CHARS]


def requeue(
    connection: sqlite3.Connection, work_id: int, now: float, *, attempt_counts: bool, max_attempts: int
) -> Work | None:
    if attempt_counts:
        _end_attempts(connection, [work_id], max_attempts, now)
    else:
        connection.execute(
            """UPDATE work SET state = 'queued', attempts = max(attempts - 1, 0), updated_at = ?
            WHERE id = ? AND state = 'running'""",
            [now, work_id],
        )
    return rows.work(connection, work_id)


def recover(connection: sqlite3.Connection, now: float, max_attempts: int) -> int:
    """No request, no claim and no push outlives the process; what a push did is to be looked up."""
    connection.execute(
        "UPDATE work SET open_replies = 0, reply_until = min(reply_until, ?) WHERE open_replies > 0", [now]
    )
    connection.execute("UPDATE work SET state = 'returned' WHERE state = 'done' AND push_until > 0")
    connection.execute("UPDATE work SET push_until = 0 WHERE state IN ('done', 'returned') AND push_until > 0")
    running = [row[0] for row in connection.execute("SELECT id FROM work WHERE state = 'running'")]
    _end_attempts(connection, running, max_attempts, now)
    return len(running)


def _end_attempts(connection: sqlite3.Connection, ids: Iterable[int], max_attempts: int, now: float) -> None:
    chosen = rows.id_list(ids)
    connection.execute(
        f"""UPDATE work SET state = 'failed', reason = 'crashed', message = ?, finished_at = ?, updated_at = ?
        WHERE state = 'running' AND attempts >= ? AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [CRASHED.format(max_attempts), now, now, max_attempts, chosen],
    )
    connection.execute(
        f"UPDATE work SET state = 'queued', updated_at = ? WHERE state = 'running' AND id {rows.IN_IDS}",  # noqa: S608
        [now, chosen],
    )


_CANCEL = "UPDATE work SET state = 'cancelled', image_url = NULL, updated_at = ? WHERE id IN "


def cancel_running(connection: sqlite3.Connection, project: str, now: float) -> int:
    chosen = """(SELECT id FROM work WHERE state = 'running'
        AND project_id = (SELECT id FROM project WHERE name = ?))"""
    return connection.execute(_CANCEL + chosen, [now, rows.clean(project)]).rowcount


def cancel_queued(connection: sqlite3.Connection, project: str | None, now: float) -> int:
    """Cancel up to CHUNK rows of `project`, or of all; 0 when there are none left."""
    if project is None:
        chosen = "(SELECT id FROM work WHERE state = 'queued' LIMIT ?)"
        return connection.execute(_CANCEL + chosen, [now, CHUNK]).rowcount
    chosen = (
        "(SELECT id FROM work WHERE state = 'queued' AND project_id = (SELECT id FROM project WHERE name = ?) LIMIT ?)"
    )
    return connection.execute(_CANCEL + chosen, [now, rows.clean(project), CHUNK]).rowcount


def retry_failed(connection: sqlite3.Connection, project: str, now: float) -> int:
    """Begin up to CHUNK failed rows again; 0 when there are none left.

    One with an answer has failed on its way to Label Studio: it is delivered again, not computed again. One that has
    neither an answer nor a picture stays as it is.
    """
    ids = [row[0] for row in connection.execute(RETRY_IDS, [rows.clean(project), CHUNK])]
    chosen = rows.id_list(ids)
    connection.execute(
        f"""UPDATE work SET state = 'done', reason = '', message = '', next_try_at = 0, push_attempts = 0,
        updated_at = ? WHERE answer_id IS NOT NULL AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [now, chosen],
    )
    connection.execute(
        f"UPDATE work SET {_FRESH}, updated_at = ? WHERE state = 'failed' AND id {rows.IN_IDS}",  # noqa: S608 - constants
        [now, chosen],
    )
    return len(ids)
