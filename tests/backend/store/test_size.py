from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.store import Store, accepting, outbox, overview, pruning, work
from tests.backend.store.given import opened

NUM_ROWS = 200_000

FILL = f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {NUM_ROWS})
INSERT INTO work (project_id, task_id, model_version, recipe, state, interactive, attempts, answer_id, reply_until,
    open_replies, finished_at, updated_at)
SELECT 1 + i % 20, i, 'v1', 'recipe-1',
    CASE i % 5 WHEN 0 THEN 'done' WHEN 1 THEN 'delivered' WHEN 2 THEN 'failed' ELSE 'queued' END,
    0, 0, 1, 0, 0, CASE WHEN i % 5 < 3 THEN i END, i FROM n"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened(tmp_path_factory.mktemp("large") / "prelabel.db") as store:
        with store._database.write() as connection:
            connection.execute("INSERT INTO answer VALUES (1, 'k', '{}', 0)")
            for number in range(1, 21):
                connection.execute("INSERT INTO project VALUES (?, ?, 0, 0, 0, 0, 0, 0)", [number, f"p{number}"])
            connection.execute(FILL)
        yield store


QUERIES = {
    "those a person waits for": (work.NEXT_WAITED_FOR, [8]),
    "one suspect": (work.NEXT_SUSPECT, []),
    "projects in turn": (work.NEXT_PROJECTS, [8]),
    "next of a project": (work.NEXT_OF_PROJECT, [3, 8]),
    "running": (work.RUNNING, []),
    "older versions": (accepting.FORGET_OLDER, [3, 7, '["v2"]']),
    "due": (outbox.DUE_IDS, ["p3", 1.0, 100]),
    "projects due": (outbox.PROJECTS_DUE, [1.0]),
    "failures": (overview.FAILED_IDS, ["p3", 10]),
    "rate": (overview.NUM_FINISHED, [100.0, 160.0]),
    "old rows": (pruning.OVER_IDS, [50.0, 1.0, 1.0, 100]),
    "unused answers": (pruning.UNUSED_ANSWERS, [50.0, 100]),
}


@pytest.mark.parametrize(("query", "parameters"), QUERIES.values(), ids=QUERIES)
def test_no_query_of_daily_work_reads_the_table_or_sorts_it(large: Store, query: str, parameters: list[object]) -> None:
    with large._database.read() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
    for step in plan:
        assert not step.startswith(("SCAN work", "SCAN a ")) or " INDEX work_" in step, plan
        assert "B-TREE" not in step or query is work.NEXT_PROJECTS, plan  # projects are few, and sorted by turn


def test_a_claim_among_many_rows_touches_few_pages(large: Store) -> None:
    """SQLite's own steps instead of seconds: a scan of the table would take a hundred times as many."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    large._database._writer.set_progress_handler(count, 1_000)
    try:
        rows = large.claim(16, 2.0)
        num_due = len(large.take_due("p1", 100, 60.0, 2.0))
    finally:
        large._database._writer.set_progress_handler(None, 0)
    assert (len(rows), len({row.project for row in rows}), num_due) == (16, 8, 100)
    assert steps * 1_000 < NUM_ROWS / 4


def test_the_summary_of_many_rows_is_right(large: Store) -> None:
    with large._database.read() as connection:
        counted = dict(connection.execute("SELECT state, count(*) FROM work GROUP BY state").fetchall())
    summed: dict[str, int] = {}
    for project in large.summary():
        for state, num in project.states.items():
            summed[state.value] = summed.get(state.value, 0) + num
    assert summed == counted
