"""What people want to know of the store: counts per project, failures, speed. Reads only, and never the whole table."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict

from backend.store import rows
from backend.store.types import GONE, ProjectSummary, Work, WorkState

_SUMMARY = """SELECT id, name, model_version, num_pruned, first_accepted_at, last_accepted_at, last_finished_at,
    last_delivered_at FROM project ORDER BY last_accepted_at DESC, id DESC"""
MIN_SPAN_S = 1.0
_UNANSWERED = (WorkState.QUEUED, WorkState.RUNNING)
_TOLD = (WorkState.RETURNED, WorkState.DELIVERED)
_ANSWERED = (WorkState.DONE, WorkState.RETURNED, WorkState.DELIVERED)
FAILED_IDS = """SELECT id FROM work WHERE state = 'failed' AND project_id = (SELECT id FROM project WHERE name = ?)
    ORDER BY id DESC LIMIT ?"""
NUM_FINISHED = """SELECT count(*), min(finished_at), min(last_accepted_at)
    FROM work JOIN project p ON p.id = project_id WHERE finished_at > ? AND finished_at <= ?"""


def summary(connection: sqlite3.Connection) -> list[ProjectSummary]:
    """Every project, the one asked for last first. Costs the same with a million rows."""
    states: defaultdict[int, Counter[WorkState]] = defaultdict(Counter)
    reasons: defaultdict[int, Counter[str]] = defaultdict(Counter)
    reviews: Counter[int] = Counter()
    reviews_told: Counter[int] = Counter()
    older: Counter[int] = Counter()
    gone: defaultdict[int, Counter[str]] = defaultdict(Counter)
    by_people: defaultdict[int, Counter[str]] = defaultdict(Counter)
    tally = """SELECT project_id, state, reason, needs_review, num, p.model_version NOT IN ('', t.model_version)
        FROM tally t JOIN project p ON p.id = project_id"""
    for project_id, name, reason, needs_review, num, is_older in connection.execute(tally):
        state = WorkState(name)
        if is_older and state not in _UNANSWERED:
            older[project_id] += num if state in _TOLD else 0
            continue
        if state is WorkState.CANCELLED and reason:
            (gone if reason in GONE else by_people)[project_id][reason] += num
            continue
        states[project_id][state] += num
        if state is WorkState.FAILED:
            reasons[project_id][reason] += num
        if needs_review and state in _ANSWERED:
            reviews[project_id] += num
            reviews_told[project_id] += num if state in _TOLD else 0
    return [
        ProjectSummary(
            project=name,
            model_version=version,
            states=dict(states[project_id]),
            failures=dict(reasons[project_id].most_common()),
            num_needs_review=reviews[project_id],
            num_review_told=reviews_told[project_id],
            num_delivered=num_pruned + states[project_id][WorkState.DELIVERED],
            num_older=older[project_id],
            gone=dict(gone[project_id].most_common()),
            done_by_people=dict(by_people[project_id].most_common()),
            first_accepted_at=first,
            last_accepted_at=last,
            last_finished_at=finished,
            last_delivered_at=delivered,
        )
        for project_id, name, version, num_pruned, first, last, finished, delivered in connection.execute(_SUMMARY)
    ]


def failures(connection: sqlite3.Connection, project: str, limit: int) -> list[Work]:
    """What failed, newest first."""
    return rows.works(connection, [row[0] for row in connection.execute(FAILED_IDS, [rows.clean(project), limit])])


def rate(connection: sqlite3.Connection, now: float, window_s: float) -> float:
    """Rows finished or failed a second in the last `window_s`: what the queue shrinks by.

    Of work that was accepted within the window, since then, or since the first of it was finished: the first of them
    began before they ended, at the earliest when tasks were last accepted.
    """
    num_finished, first, accepted_at = connection.execute(NUM_FINISHED, [now - window_s, now]).fetchone()
    if not num_finished:
        return 0.0
    start = max(now - window_s, min(first, accepted_at))
    return float(num_finished / max(now - start, MIN_SPAN_S))
