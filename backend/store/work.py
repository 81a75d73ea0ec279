"""From a task that waits to an answer, a failure or a cancellation. Each function is part of a transaction.

Who is next (`claim`): those a person waits for; then one suspect; then all others. Of either kind projects take turns,
and there is an end to how many of one project run, so that it leaves places to others however slow its pictures are. A
suspect was running when the engine or prelabel ended. Only one runs at a time, so that a picture which ends the engine
reaches the last attempt alone and none of those that happened to run beside it does. Of the suspects, too, one that a
person waits for is first; then come those tried less often, so that they do not wait for the one to blame.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable

from backend.reasons import Reason
from backend.store import answers, audit, rows
from backend.store.accepting import FRESH
from backend.store.types import WITHOUT_END, Places, StoredAnswer, Work

MAX_REASON_CHARS = 64
MAX_MESSAGE_CHARS = 500
CHUNK = 5_000
"""Rows changed in one transaction where there may be a million, so that other writes get their turn."""

CRASHED = "prelabel or its model ended {} times while working on this task; look at the picture, then retry it"

NEXT_SUSPECT = """SELECT id FROM work WHERE state = 'queued' AND attempts > 0
    AND NOT EXISTS (SELECT 1 FROM work WHERE state = 'running' AND attempts > 1)
    ORDER BY interactive DESC, attempts, id LIMIT 1"""
RUNNING = "SELECT project_id FROM work WHERE state = 'running'"
WAITED_FOR = "SELECT EXISTS (SELECT 1 FROM work WHERE state = 'queued' AND interactive = 1 AND attempts = 0)"
NEXT_PROJECTS = """SELECT id FROM project p WHERE EXISTS
    (SELECT 1 FROM work WHERE state = 'queued' AND project_id = p.id AND interactive = ? AND attempts = 0)
    ORDER BY turn, id LIMIT ?"""
NEXT_OF_PROJECT = """SELECT id FROM work WHERE state = 'queued' AND project_id = ? AND interactive = ?
    AND attempts = 0 ORDER BY id LIMIT ?"""

_OF_THIS_JOB = """id = ? AND state IN ('queued', 'running') AND (image_hash = '' OR ? IN ('', image_hash))"""
FAR_S = 86_400.0
_CLOCK_WENT_BACK = """UPDATE work SET check_at = iif(check_at > :far, :now, check_at),
    told_at = iif(told_at > :far, :now, told_at), next_try_at = iif(next_try_at > :far, :now, next_try_at),
    reply_until = iif(reply_until > :far, :now, reply_until)
    WHERE check_at > :far OR told_at > :far OR next_try_at > :far OR reply_until > :far"""

RETRY_IDS = """SELECT id FROM work WHERE state = 'failed' AND (answer_id IS NOT NULL OR image_url IS NOT NULL)
    AND project_id = (SELECT id FROM project WHERE name = ?) LIMIT ?"""


def claim(connection: sqlite3.Connection, limit: int, now: float, places: Places = WITHOUT_END) -> list[Work]:
    """Take up to `limit` rows to work on, and no more than there are places for; `attempts` counts this one already, so
    that a crash counts."""
    running = Counter[int](row[0] for row in connection.execute(RUNNING))
    ids: list[int] = []
    if connection.execute(WAITED_FOR).fetchone()[0]:
        room = min(limit, places.left_to_people(running.values()))
        ids = _in_turns(connection, running, room, places.of_one_and_its_people, interactive=True)
    if len(ids) < limit:
        ids += [row[0] for row in connection.execute(NEXT_SUSPECT)]
    room = min(limit - len(ids), places.left(running.values()))
    ids += _in_turns(connection, running, room, places.of_one, interactive=False)
    connection.execute(
        f"UPDATE work SET state = 'running', attempts = attempts + 1, updated_at = ? WHERE id {rows.IN_IDS}",  # noqa: S608
        [now, rows.id_list(ids)],
    )
    return rows.works(connection, ids)


def _in_turns(
    connection: sqlite3.Connection, running: Counter[int], limit: int, of_one: int, *, interactive: bool
) -> list[int]:
    """One row of each project in turn, again and again, until `of_one` of it run; who got one last is last the next
    time. What is taken is counted as `running`.

    Projects below their share of what runs come first. By turns alone, one whose pictures lie on a host that never
    answers would hold ever more places: its rows end a minute after they began, the others' after seconds.
    """
    if limit <= 0:
        return []
    projects = [row[0] for row in connection.execute(NEXT_PROJECTS, [interactive, limit + len(running)])]
    queues = {
        project_id: [row[0] for row in connection.execute(NEXT_OF_PROJECT, [project_id, interactive, limit])]
        for project_id in projects
        if running[project_id] < of_one
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
            if not queues[project_id] or running[project_id] >= of_one:
                del queues[project_id]
    return taken


def finish(
    connection: sqlite3.Connection,
    work_id: int,
    answer: StoredAnswer,
    score: float | None,
    needs_review: bool,
    now: float,
    *,
    image_hash: str = "",
) -> Work | None:
    """Save the answer and mark the row DONE, or WITHHELD. A row that is over (cancelled, say) keeps its state.

    `image_hash` is that of the Work which was claimed: if the task has another picture since, the row is QUEUED. None:
    the row was forgotten meanwhile (see `Store.set_present`); the answer is saved nevertheless.
    """
    answer_id = answers.save_answer(connection, answer, now)
    connection.execute(
        f"""UPDATE work SET state = 'done', reason = '', message = '', answer_id = ?, score = ?, needs_review = ?,
        finished_at = ?, updated_at = ? WHERE {_OF_THIS_JOB}""",  # noqa: S608 - constants
        [answer_id, score, needs_review, now, now, work_id, image_hash],
    )
    audit.withhold(connection, [work_id], now)
    return _queued_if_unsettled(connection, work_id, now)


def fail(
    connection: sqlite3.Connection, work_id: int, reason: Reason, message: str, now: float, *, image_hash: str = ""
) -> Work | None:
    """Mark the row FAILED. `image_hash` and what is returned are as for `finish`."""
    connection.execute(
        f"""UPDATE work SET state = 'failed', reason = ?, message = ?, finished_at = ?, updated_at = ?
        WHERE {_OF_THIS_JOB}""",  # noqa: S608 - constants
        [*reason_and_message(reason, message), now, now, work_id, image_hash],
    )
    return _queued_if_unsettled(connection, work_id, now)


def _queued_if_unsettled(connection: sqlite3.Connection, work_id: int, now: float) -> Work | None:
    """Queue again what its job did not settle: the task has another picture since. That one was never tried."""
    connection.execute(
        "UPDATE work SET state = 'queued', attempts = 0, updated_at = ? WHERE id = ? AND state = 'running'",
        [now, work_id],
    )
    return rows.work(connection, work_id)


def reason_and_message(reason: str, message: str) -> tuple[str, str]:
    return rows.clean(reason)[:MAX_REASON_CHARS], rows.clean(message)[:MAX_MESSAGE_CHARS]


def requeue(connection: sqlite3.Connection, work_id: int, now: float) -> Work | None:
    """Put a running row back, through no fault of it: the attempt is taken back. None: the row was forgotten."""
    connection.execute(
        """UPDATE work SET state = 'queued', attempts = max(attempts - 1, 0), updated_at = ?
        WHERE id = ? AND state = 'running'""",
        [now, work_id],
    )
    return rows.work(connection, work_id)


def give_back(connection: sqlite3.Connection, work_ids: Iterable[int], now: float) -> None:
    """Put running rows back at a shutdown, all in one transaction: there is little time. No attempt is counted.

    Rows that were forgotten meanwhile are left out.
    """
    for work_id in work_ids:
        requeue(connection, work_id, now)


def recover(connection: sqlite3.Connection, now: float, max_attempts: int) -> int:
    """No request, no claim and no push outlives the process; what a push did is to be looked up.

    Nothing waits for a day: what does was noted by a clock that has been set back since, and is due now.
    """
    connection.execute(
        "UPDATE work SET open_replies = 0, reply_until = min(reply_until, ?) WHERE open_replies > 0", [now]
    )
    connection.execute("UPDATE work SET state = 'returned' WHERE state = 'done' AND push_until > 0")
    connection.execute("UPDATE work SET push_until = 0 WHERE push_until > 0")
    connection.execute(_CLOCK_WENT_BACK, {"now": now, "far": now + FAR_S})
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


def cancel(connection: sqlite3.Connection, ids: Iterable[int], now: float) -> None:
    chosen = "(SELECT value FROM json_each(?)) AND state IN ('queued', 'running')"
    connection.execute(_CANCEL + chosen, [now, rows.id_list(ids)])


def cancel_running(connection: sqlite3.Connection, project: str, now: float) -> int:
    chosen = """(SELECT id FROM work WHERE state = 'running'
        AND project_id = (SELECT id FROM project WHERE name = ?))"""
    return connection.execute(_CANCEL + chosen, [now, rows.clean(project)]).rowcount


def cancel_queued(connection: sqlite3.Connection, project: str, now: float) -> int:
    """Cancel up to CHUNK rows of `project`; 0 when there are none left."""
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
        f"UPDATE work SET {FRESH}, updated_at = ? WHERE state = 'failed' AND id {rows.IN_IDS}",  # noqa: S608 - constants
        [now, chosen],
    )
    return len(ids)
