"""What people did in Label Studio, as it was last read there, and how far it has been read. Part of a transaction.

A row is one task with all its annotations: a task that was read again replaces it, one that has no annotations any more
takes it away. What was read earlier never replaces what was read later, so that several may read beside each other.
The rows of a project are forgotten with it (`forget_people`); no other table needs them. No names: people are the
numbers that Label Studio has for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backend.store import audit, rows
from backend.store.types import RecipeRecord, StoredAnswer

_OF = "people_id = (SELECT id FROM people WHERE project = ?)"


@dataclass(frozen=True, slots=True)
class Reading:
    """Times are Label Studio's, in seconds since the epoch, but for `ended_at` (0.0: never).

    What changed before `since` has been read. `until` is above 0 while a reading is under way: tasks up to the number
    `after` are done, and when it ends all that changed before `until` has been read. `num_tasks`: of the project, those
    nobody labelled too, when the last one ended.
    """

    since: float = 0.0
    until: float = 0.0
    after: int = 0
    num_tasks: int = 0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelledTask:
    """`changed_at`: the task's own, by Label Studio. `content`: JSON, of whoever wrote it. The counts are of its
    annotations: submitted ones, and skips."""

    task_id: int
    changed_at: float
    num_submitted: int
    num_skipped: int
    content: str


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """`place`: the time it was given, in seconds since the epoch, and a number: in the order of both."""

    place: tuple[float, int]
    task_id: int
    model_version: str
    stored: StoredAnswer


@dataclass(frozen=True, slots=True)
class PeopleCounts:
    """`num_skipped_tasks`: tasks that anybody skipped. `changed_at`: of the task that changed last."""

    num_tasks: int
    num_submitted: int
    num_skipped_tasks: int
    changed_at: float


def reading(connection: sqlite3.Connection, project: str) -> Reading:
    row = connection.execute(
        "SELECT since, until, after_task, num_tasks, ended_at FROM people WHERE project = ?", [rows.clean(project)]
    ).fetchone()
    return Reading(*row) if row else Reading()


def begin_reading(connection: sqlite3.Connection, project: str, until: float) -> None:
    connection.execute(
        """INSERT INTO people (project, until) VALUES (?, ?)
        ON CONFLICT DO UPDATE SET until = excluded.until, after_task = 0""",
        [rows.clean(project), until],
    )


def save_people(
    connection: sqlite3.Connection,
    project: str,
    tasks: Sequence[LabelledTask],
    unlabelled: Mapping[int, float],
    *,
    until: float,
    after: int,
) -> None:
    """A page of the reading that ends at `until`, which came as far as `after`. `unlabelled`: tasks that have no
    annotation, with the time they changed. Nothing is kept of a project that was forgotten meanwhile."""
    row = connection.execute("SELECT id FROM people WHERE project = ?", [rows.clean(project)]).fetchone()
    if row is None:
        return
    people_id = row[0]
    connection.executemany(
        """INSERT INTO labelled (people_id, task_id, changed_at, num_submitted, num_skipped, content)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (people_id, task_id) DO UPDATE SET changed_at = excluded.changed_at,
        num_submitted = excluded.num_submitted, num_skipped = excluded.num_skipped, content = excluded.content
        WHERE changed_at <= excluded.changed_at""",
        [
            (people_id, task.task_id, task.changed_at, task.num_submitted, task.num_skipped, rows.clean(task.content))
            for task in tasks
        ],
    )
    connection.executemany(
        "DELETE FROM labelled WHERE people_id = ? AND task_id = ? AND changed_at <= ?",
        [(people_id, task_id, changed_at) for task_id, changed_at in unlabelled.items()],
    )
    audit.were_labelled(connection, project, [task.task_id for task in tasks if task.num_submitted], until)
    connection.execute("UPDATE people SET after_task = ? WHERE id = ? AND until = ?", [after, people_id, until])


def end_reading(connection: sqlite3.Connection, project: str, since: float, num_tasks: int, now: float) -> None:
    """All that changed before `since` has been read."""
    connection.execute(
        """UPDATE people SET since = max(since, ?), until = 0, after_task = 0, num_tasks = ?, ended_at = ?
        WHERE project = ?""",
        [since, num_tasks, now, rows.clean(project)],
    )


def labelled(connection: sqlite3.Connection, project: str, after: int, limit: int) -> list[LabelledTask]:
    """Tasks with a number above `after`, in order."""
    found = connection.execute(
        f"""SELECT task_id, changed_at, num_submitted, num_skipped, content FROM labelled WHERE {_OF} AND task_id > ?
        ORDER BY task_id LIMIT ?""",  # noqa: S608 - constants
        [rows.clean(project), after, limit],
    )
    return [LabelledTask(*row) for row in found]


def labelled_among(connection: sqlite3.Connection, project: str, task_ids: Iterable[int]) -> list[LabelledTask]:
    """What is kept of those tasks."""
    found = connection.execute(
        f"""SELECT task_id, changed_at, num_submitted, num_skipped, content FROM labelled
        WHERE {_OF} AND task_id {rows.IN_IDS}""",  # noqa: S608 - constants
        [rows.clean(project), rows.id_list(task_ids)],
    )
    return [LabelledTask(*row) for row in found]


def people_counts(connection: sqlite3.Connection, project: str) -> PeopleCounts:
    row = connection.execute(
        f"""SELECT count(*), coalesce(sum(num_submitted), 0), coalesce(sum(num_skipped > 0), 0),
        coalesce(max(changed_at), 0.0) FROM labelled WHERE {_OF}""",  # noqa: S608 - constants
        [rows.clean(project)],
    ).fetchone()
    return PeopleCounts(*row)


def forget_labelled(connection: sqlite3.Connection, project: str, task_ids: Iterable[int]) -> None:
    """These tasks are not in Label Studio any more."""
    connection.execute(
        f"DELETE FROM labelled WHERE {_OF} AND task_id {rows.IN_IDS}",  # noqa: S608 - constants
        [rows.clean(project), rows.id_list(task_ids)],
    )


def forget_people(connection: sqlite3.Connection, project: str) -> None:
    """The project is not in Label Studio any more."""
    connection.execute(f"DELETE FROM labelled WHERE {_OF}", [rows.clean(project)])  # noqa: S608 - constants
    connection.execute("DELETE FROM people WHERE project = ?", [rows.clean(project)])


def people_projects(connection: sqlite3.Connection) -> list[str]:
    """All of which anything was ever read."""
    return [row[0] for row in connection.execute("SELECT project FROM people ORDER BY id")]


def version_recipes(connection: sqlite3.Connection, project: str) -> dict[str, RecipeRecord]:
    """How the project's tasks were answered under each model version."""
    found = connection.execute(
        """SELECT DISTINCT w.model_version, r.fingerprint, r.project, r.label_config, r.options
        FROM work w JOIN recipe r ON r.fingerprint = w.recipe
        WHERE w.project_id = (SELECT id FROM project WHERE name = ?)""",
        [rows.clean(project)],
    )
    return {version: RecipeRecord(*record) for version, *record in found}


def answers_in_order(
    connection: sqlite3.Connection, project: str, after: tuple[float, int], limit: int
) -> list[OwnAnswer]:
    """Our answers in the order they were given, after the time and number of the last one."""
    found = connection.execute(
        """SELECT w.finished_at, w.id, w.task_id, w.model_version, a.key, a.content
        FROM work w JOIN answer a ON a.id = w.answer_id
        WHERE w.project_id = (SELECT id FROM project WHERE name = ?) AND w.finished_at IS NOT NULL
        AND (w.finished_at, w.id) > (?, ?) ORDER BY w.finished_at, w.id LIMIT ?""",
        [rows.clean(project), *after, limit],
    )
    return [
        OwnAnswer((at, work_id), task_id, version, StoredAnswer(key, content))
        for at, work_id, task_id, version, key, content in found
    ]


def own_answers(
    connection: sqlite3.Connection, project: str, task_ids: Iterable[int]
) -> dict[tuple[int, str], StoredAnswer]:
    """Our answers to those tasks, by task and model version, whatever Label Studio was told of them."""
    found = connection.execute(
        f"""SELECT w.task_id, w.model_version, a.key, a.content, a.saved_at
        FROM work w JOIN answer a ON a.id = w.answer_id WHERE w.project_id = (SELECT id FROM project WHERE name = ?)
        AND w.task_id {rows.IN_IDS}""",  # noqa: S608 - constants
        [rows.clean(project), rows.id_list(task_ids)],
    )
    return {(task_id, version): StoredAnswer(*answer) for task_id, version, *answer in found}
