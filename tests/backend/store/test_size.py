"""With many rows no call of daily work reads through them, or sorts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from backend.store import Store
from backend.store.people import LabelledTask
from tests.backend.store.connections import Connections
from tests.backend.store.given import QUICK, RECIPE, accepted, opened, task

NUM_ROWS = 50_000
"""Of two projects; SQLite needs some steps for each that it looks at."""
MOST_STEPS = NUM_ROWS / 5
NOW = 100_000.0
FILL = f"""
INSERT INTO project VALUES (1, 'p0', 0, 0, 0, 0, 0, 0, 'v1', '{RECIPE.fingerprint}', 0, 0.5),
    (2, 'p1', 0, 0, 0, 0, 0, 0, 'v1', '{RECIPE.fingerprint}', 0, 0.5);
CREATE TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {NUM_ROWS}) SELECT i FROM n;
INSERT INTO answer SELECT i, 'k' || i, '{{}}', {NOW} + i FROM n;
INSERT INTO work (project_id, task_id, model_version, recipe, state, interactive, attempts, answer_id, reply_until,
    open_replies, finished_at, updated_at, audit)
SELECT 1 + i % 2, i, 'v1', '{RECIPE.fingerprint}',
    CASE i / 2 % 5 WHEN 0 THEN iif(i / 10 % 2, 'withheld', 'done') WHEN 1 THEN 'delivered' WHEN 2 THEN 'failed'
        ELSE 'queued' END,
    0, 0, CASE WHEN i / 2 % 5 < 2 THEN i END, 0, 0, CASE WHEN i / 2 % 5 < 3 THEN {NOW} + i END, {NOW} + i,
    i / 2 % 5 = 0 AND i / 10 % 2 FROM n;
DROP TABLE n;
"""

Large = tuple[Store, Connections]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    path = tmp_path_factory.mktemp("large") / "prelabel.db"
    opened(path).close()
    with closing(sqlite3.connect(path)) as filling:
        filling.executescript(f"PRAGMA synchronous = OFF; BEGIN; {FILL} COMMIT;")
    connections = Connections()
    with Store.open(path, NOW, replace(QUICK, connect=connections)) as store:
        assert len(store.claim(8, NOW)) == 8
        store.recover(NOW)  # they are suspects now
        yield store, connections


CALLS: dict[str, Callable[[Store], object]] = {
    "the summary": lambda store: store.summary(),
    "what is due": lambda store: store.due("p1", 8, 2 * NOW),
    "the projects that are due": lambda store: store.projects_due(2 * NOW),
    "whether to look up tasks": lambda store: store.is_worth_asking("p1", 2 * NOW),
    "the tasks to look up": lambda store: store.tasks_at_rest("p1", 20_000, 8, 2 * NOW, told=False),
    "all tasks to look up": lambda store: store.tasks_at_rest("p1", 20_000, 8, 2 * NOW, told=True),
    "the newest failures": lambda store: store.failures("p1", 8),
    "the rate": lambda store: store.rate(NOW + NUM_ROWS, 60.0),
    "new work": lambda store: accepted(store, [task(NUM_ROWS + i, "p1") for i in range(1, 9)], NOW),
    "work a person waits for": lambda store: accepted(store, [task(24, "p1")], NOW, interactive=True),
    "the same tasks for a new model": lambda store: accepted(store, [task(i, "p1", "v2") for i in (7, 9, 11)], NOW),
    "the version that is the present one": lambda store: store.set_present(replace(RECIPE, project="p1"), "v1", NOW),
    "a claim with suspects": lambda store: store.claim(8, NOW),
    "a claim after others": lambda store: store.claim(8, NOW),
    "taking what is due": lambda store: store.take_due("p1", 8, NOW + 60.0, 2 * NOW),
    "which of some tasks are withheld": lambda store: store.withheld_tasks("p1", range(1, 99), 0.5),
    "what people labelled": lambda store: (
        store.begin_reading("p1", NOW),
        store.save_people("p1", [LabelledTask(11, NOW, 1, 0, "{}")], {}, until=NOW, after=11),
    ),
    "a look for what is old": lambda store: store.prune(NOW, 60.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_call_of_daily_work_looks_at_every_row(large: Large, call: Callable[[Store], object]) -> None:
    store, connections = large
    before = connections.steps
    call(store)
    assert connections.steps - before < MOST_STEPS
