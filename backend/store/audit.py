"""The blind audit: a share of a project's tasks whose answers nobody is shown until a person has labelled them.

`chooses` and `withheld_tasks` decide which those are, for every way out: nothing else does. A choice follows from a
key of this data folder, the project and the task alone, not from the model, the label config or the order of tasks. A
task that Label Studio was ever told an answer of is never withheld; one that is stays so, whatever share is asked for
next, until a person has labelled it, as `store.people` tells, or the share is 0. The functions with a connection are
part of a transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable
from hashlib import blake2b

from backend.store import rows

MAX_SHARE = 0.5
CHUNK = 5_000
PERHAPS_TOLD = 1.0
"""`told_at` of a row that moved to another version: whatever was told of that version before, it was forgotten."""

WITHHELD, SHOWN = 1, 2
"""`audit` of a row, 0 while nothing is decided. SHOWN: an answer was told, or may be told: it is never withheld.
The tasks that people labelled while they were withheld are in the table `audited`, for good."""

_OF_TASKS = """SELECT task_id, max(audit), max(told_at) FROM work
    WHERE project_id = ? AND task_id IN (SELECT value FROM json_each(?)) GROUP BY task_id"""
_AUDITED = f"""audit = {WITHHELD} AND project_id = (SELECT id FROM project WHERE name = ?)
    AND task_id {rows.IN_IDS}"""  # noqa: S608 - constants
_LABELLED = f"""SELECT l.task_id FROM labelled l JOIN people p ON p.id = l.people_id
    WHERE p.project = ? AND l.num_submitted > 0 AND l.task_id {rows.IN_IDS}"""  # noqa: S608 - constants
_UNTOLD = f"""SELECT w.id, w.task_id, p.name, p.audit_share FROM work w JOIN project p ON p.id = w.project_id
    WHERE p.audit_share > 0 AND w.state IN ('done', 'returned') AND w.push_until = 0 AND w.id {rows.IN_IDS}"""  # noqa: S608


def chooses(key: bytes, project: str, task: str, share: float) -> bool:
    """Whether `task` is among the `share` (0..1) of all tasks. Those of a smaller share are among those of a larger."""
    digest = blake2b(json.dumps([project, task]).encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def audit_key(connection: sqlite3.Connection) -> bytes:
    """Made once, with the file."""
    return bytes(connection.execute("SELECT key FROM audit_key").fetchone()[0])


def withheld_tasks(connection: sqlite3.Connection, project: str, task_ids: Collection[int], share: float) -> set[int]:
    """Those of `task_ids` whose answers are not to be shown now, where `share` of the tasks is audited."""
    if share <= 0:
        return set()
    project = rows.clean(project)
    found = connection.execute("SELECT id FROM project WHERE name = ?", [project]).fetchone()
    of_tasks = connection.execute(_OF_TASKS, [found[0], rows.id_list(task_ids)]) if found else ()
    known = {task_id: SHOWN if told_at > PERHAPS_TOLD else audit for task_id, audit, told_at in of_tasks}
    labelled = {row[0] for row in connection.execute(_LABELLED, [project, rows.id_list(task_ids)])}
    key = audit_key(connection)
    return {
        task_id
        for task_id in set(task_ids) - labelled
        if known.get(task_id) == WITHHELD
        or (known.get(task_id) != SHOWN and chooses(key, project, str(task_id), share))
    }


def withhold(connection: sqlite3.Connection, work_ids: Iterable[int], now: float) -> None:
    """Every way out calls it first: those of `work_ids` that are answered and not to be shown are WITHHELD then. A row
    may be RETURNED and was never told: one that moved, of a project that was gone and is back."""
    asked: defaultdict[tuple[str, float], list[tuple[int, int]]] = defaultdict(list)
    for work_id, task_id, project, share in connection.execute(_UNTOLD, [rows.id_list(work_ids)]):
        asked[project, share].append((work_id, task_id))
    for (project, share), pairs in asked.items():
        tasks = withheld_tasks(connection, project, {task_id for _, task_id in pairs}, share)
        chosen = [work_id for work_id, task_id in pairs if task_id in tasks]
        connection.execute(
            f"""UPDATE work SET state = 'withheld', audit = {WITHHELD}, reason = '', message = '', updated_at = ?
            WHERE id {rows.IN_IDS}""",  # noqa: S608 - constants
            [now, rows.id_list(chosen)],
        )


def audited_tasks(connection: sqlite3.Connection, project: str) -> frozenset[int]:
    """Chosen by chance, and shown to nobody before a person labelled them: those that were, and those that still are
    withheld."""
    found = connection.execute(
        f"""SELECT task_id FROM audited WHERE project = ?1 UNION SELECT task_id FROM work WHERE audit = {WITHHELD}
        AND state = 'withheld' AND project_id = (SELECT id FROM project WHERE name = ?1)""",  # noqa: S608 - constants
        [rows.clean(project)],
    )
    return frozenset(row[0] for row in found)


def were_labelled(connection: sqlite3.Connection, project: str, task_ids: Collection[int], now: float) -> None:
    """By people, as was just read: what is WITHHELD of these tasks is DONE, to be delivered for the record."""
    asked = [rows.clean(project), rows.id_list(task_ids)]
    connection.execute(
        f"INSERT INTO audited SELECT ?, task_id FROM work WHERE {_AUDITED} ON CONFLICT DO NOTHING",  # noqa: S608
        [rows.clean(project), *asked],
    )
    connection.execute(
        f"""UPDATE work SET state = CASE state WHEN 'withheld' THEN 'done' ELSE state END, audit = {SHOWN},
        updated_at = ? WHERE {_AUDITED}""",  # noqa: S608 - constants
        [now, *asked],
    )


def audit_share(connection: sqlite3.Connection, project: str) -> float:
    """0 for a project that was never asked for any task."""
    row = connection.execute("SELECT audit_share FROM project WHERE name = ?", [rows.clean(project)]).fetchone()
    return float(row[0]) if row else 0.0


def audited_projects(connection: sqlite3.Connection) -> dict[str, tuple[float, str]]:
    """Of each project that has one, its share and the options of its present recipe, as JSON; "" for no such recipe."""
    found = connection.execute(
        """SELECT p.name, p.audit_share, coalesce(r.options, '') FROM project p
        LEFT JOIN recipe r ON r.fingerprint = p.recipe WHERE p.audit_share > 0"""
    )
    return {name: (share, options) for name, share, options in found}


def release_unaudited(connection: sqlite3.Connection, project: str, now: float) -> int:
    """Where no share of `project` is audited any more, up to CHUNK of what was withheld is as if it never had been; 0
    when there is none left."""
    ids = [
        row[0]
        for row in connection.execute(
            f"""SELECT id FROM work WHERE audit = {WITHHELD}
            AND project_id = (SELECT id FROM project WHERE name = ? AND audit_share = 0) LIMIT ?""",  # noqa: S608
            [rows.clean(project), CHUNK],
        )
    ]
    connection.execute(
        f"""UPDATE work SET audit = 0, updated_at = ?,
        state = CASE state WHEN 'withheld' THEN 'done' ELSE state END WHERE id {rows.IN_IDS}""",  # noqa: S608 - constants
        [now, rows.id_list(ids)],
    )
    return len(ids)
