"""What Label Studio was told and what it still has to be told, so that each prediction is there exactly once.

Predictions have no uniqueness in Label Studio, so a row is told in one way at a time:
- while a request is open that may return it (`reply_until`), it is not due;
- while a push is under way (`push_until`), no reply may return it;
- a reply may not hold what was told (`told_at`) after Label Studio chose its tasks (`chosen_at`): another reply or a
  push was faster, and Label Studio, which has its predictions by now, would store them again;
- what may be there, because a reply or a push ended in the dark, is RETURNED: to be looked up before it is pushed;
- what the blind audit withholds (`audit.withhold`, asked by both) is WITHHELD, and neither way is open to it.

A row may be queued again while a push of its earlier answer is under way. How that ends is noted all the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from backend.reasons import Reason
from backend.store import audit, rows
from backend.store.types import GONE, Work
from backend.store.work import reason_and_message

_DUE = "state IN ('done', 'returned') AND project_id = (SELECT id FROM project WHERE name = ?) AND due_at <= ?"
DUE_IDS = f"SELECT id FROM work WHERE {_DUE} ORDER BY due_at, id LIMIT ?"  # noqa: S608 - constants
_STILL_OPEN = f"SELECT id FROM work WHERE state IN ('done', 'returned') AND id {rows.IN_IDS}"  # noqa: S608 - constants
PROJECTS_DUE = """SELECT name FROM project p WHERE EXISTS
    (SELECT 1 FROM work WHERE state IN ('done', 'returned') AND project_id = p.id AND due_at <= ?) ORDER BY id"""


def returned(
    connection: sqlite3.Connection,
    work_ids: Sequence[int],
    check_at: float,
    now: float,
    *,
    chosen_at: float | None = None,
    told_at: float | None = None,
) -> list[int]:
    """Call it before a reply is sent. Returns the ids whose predictions may go out in it; they are RETURNED now.

    The reply has to give `[]` for the others: they are being pushed, or Label Studio was told since `chosen_at` (when
    it chose the tasks of this request). `told_at`: when it will have stored this reply. Both are `now` by default. At
    `check_at` those in the reply are due, to be looked up.
    """
    before = now if chosen_at is None else chosen_at
    audit.withhold(connection, work_ids, now)
    chosen = connection.execute(
        f"""SELECT id FROM work WHERE id {rows.IN_IDS} AND state IN ('done', 'returned', 'delivered')
        AND push_until = 0 AND told_at <= ?""",  # noqa: S608 - constants
        [rows.id_list(work_ids), before],
    )
    allowed = {row[0] for row in chosen}
    connection.execute(
        f"""UPDATE work SET state = 'returned', check_at = max(check_at, ?), told_at = ?, updated_at = ?
        WHERE id {rows.IN_IDS}""",  # noqa: S608 - constants
        [check_at, now if told_at is None else told_at, now, rows.id_list(allowed)],
    )
    return [work_id for work_id in work_ids if work_id in allowed]


def is_missing(connection: sqlite3.Connection, work_ids: Sequence[int], now: float, *, chosen_at: float) -> None:
    """Label Studio lacked them when it chose the tasks of a request (`chosen_at`), whose reply has no room for them:
    what it was told before and has lost is due now, to be looked up. People delete predictions."""
    connection.execute(
        f"""UPDATE work SET state = 'returned', check_at = 0, updated_at = ?1
        WHERE id {rows.IN_IDS.replace("?", "?2")} AND state = 'delivered' AND told_at <= ?3""",  # noqa: S608 - constants
        [now, rows.id_list(work_ids), chosen_at],
    )


def reply_ended(connection: sqlite3.Connection, work_ids: Sequence[int], now: float) -> None:
    """The request that accepted `work_ids` is over, however it ended; what it did not return is due at once."""
    connection.execute(
        f"""UPDATE work SET open_replies = open_replies - 1,
        reply_until = CASE WHEN open_replies = 1 THEN min(reply_until, ?) ELSE reply_until END
        WHERE open_replies > 0 AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [now, rows.id_list(work_ids)],
    )


def due(connection: sqlite3.Connection, project: str, limit: int, now: float) -> list[Work]:
    """What could be delivered now, oldest first; to look only. `take_due` is for pushing."""
    return rows.works(connection, _due_ids(connection, project, limit, now))


def _due_ids(connection: sqlite3.Connection, project: str, limit: int, now: float) -> list[int]:
    return [row[0] for row in connection.execute(DUE_IDS, [rows.clean(project), now, limit])]


def projects_due(connection: sqlite3.Connection, now: float) -> list[str]:
    return [row[0] for row in connection.execute(PROJECTS_DUE, [now])]


def take_due(connection: sqlite3.Connection, project: str, limit: int, hold_until: float, now: float) -> list[Work]:
    """Take what is due, oldest first, for one push; no reply may return it meanwhile.

    A row that is RETURNED may be in Label Studio: look there first. One that is DONE cannot be. End each with
    `delivered`, `push_failed` or `drop`; what has none of them at `hold_until` is due again, as RETURNED.
    """
    due_ids = _due_ids(connection, project, limit, now)
    audit.withhold(connection, due_ids, now)
    open_ids = {row[0] for row in connection.execute(_STILL_OPEN, [rows.id_list(due_ids)])}
    ids = [work_id for work_id in due_ids if work_id in open_ids]
    chosen = rows.id_list(ids)
    connection.execute(  # an earlier push never said how it ended
        f"UPDATE work SET state = 'returned' WHERE push_until > 0 AND id {rows.IN_IDS}",  # noqa: S608 - constants
        [chosen],
    )
    taken = rows.works(connection, ids)
    connection.execute(
        f"UPDATE work SET push_until = ?, told_at = ?, updated_at = ? WHERE id {rows.IN_IDS}",  # noqa: S608 - constants
        [hold_until, now, now, chosen],
    )
    return taken


def delivered(connection: sqlite3.Connection, work_ids: Sequence[int], now: float) -> None:
    """Label Studio has them: a push was confirmed, or they were found there."""
    connection.execute(
        f"""UPDATE work SET push_until = 0, told_at = ? WHERE state NOT IN ('done', 'returned') AND push_until > 0
        AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [now, rows.id_list(work_ids)],
    )
    connection.execute(
        f"""UPDATE work SET state = 'delivered', reason = '', message = '', image_url = NULL, check_at = 0,
        next_try_at = 0, push_until = 0, told_at = ?, updated_at = ?
        WHERE state IN ('done', 'returned') AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [now, now, rows.id_list(work_ids)],
    )


def push_failed(
    connection: sqlite3.Connection,
    work_ids: Sequence[int],
    next_try_at: float,
    reason: Reason,
    now: float,
    *,
    sent: bool = True,
) -> None:
    """Try again at `next_try_at`, having looked. `sent=False`: nothing can have arrived, so a DONE row stays so."""
    connection.execute(
        f"""UPDATE work SET state = CASE WHEN ? AND state = 'done' THEN 'returned' ELSE state END,
        reason = CASE WHEN state IN ('done', 'returned') THEN ? ELSE reason END, next_try_at = ?,
        push_attempts = push_attempts + 1, push_until = 0, told_at = CASE WHEN ? THEN ? ELSE told_at END, updated_at = ?
        WHERE (state IN ('done', 'returned') OR push_until > 0) AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [sent, reason_and_message(reason, "")[0], next_try_at, sent, now, now, rows.id_list(work_ids)],
    )


def drop(connection: sqlite3.Connection, work_ids: Sequence[int], reason: Reason, message: str, now: float) -> None:
    """They will never fit (the config changed): FAILED; or CANCELLED, where the reason is one of GONE."""
    connection.execute(
        f"""UPDATE work SET state = ?, reason = ?, message = ?, push_until = 0,
        finished_at = coalesce(finished_at, ?), updated_at = ?
        WHERE state IN ('queued', 'running', 'done', 'returned') AND id {rows.IN_IDS}""",  # noqa: S608 - constants
        [
            "cancelled" if reason in GONE else "failed",
            *reason_and_message(reason, message),
            now,
            now,
            rows.id_list(work_ids),
        ],
    )
