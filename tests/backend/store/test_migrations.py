from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StoreUnusable
from backend.store import RecipeRecord, Store, StoredAnswer, WorkState
from backend.store.migrations import MIGRATIONS, migrate
from tests.backend.store.given import opened

RELEASED = sorted(Path(__file__).parent.glob("schema_*.sql"))


def schema(path: Path) -> dict[str, str]:
    """Every table, index and trigger with its SQL, spaces made equal."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: " ".join(sql.split()).replace('"', "") for name, sql in rows}


def released(file: Path, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(file.read_text(encoding="utf-8"))
    connection.close()


def test_each_released_schema_is_kept_as_a_fixture() -> None:
    assert [file.name for file in RELEASED] == [f"schema_{n}.sql" for n in range(1, len(MIGRATIONS) + 1)]


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_a_released_schema_becomes_todays_and_keeps_what_it_holds(tmp_path: Path, file: Path) -> None:
    opened(tmp_path / "new.db").close()
    released(file, tmp_path / "old.db")
    with Store.open(tmp_path / "old.db", 0.0) as store:
        assert store.set_aside is None
        assert store.recipe("r1") == RecipeRecord("r1", "12.17", "<View/>", "{}")
        assert store.answer("k1") == StoredAnswer("k1", '{"result": []}')
        (summary,) = store.summary()
        assert summary.states == {WorkState.DONE: 1, WorkState.FAILED: 1, WorkState.QUEUED: 1}
        assert [row.task_id for row in store.claim(9, 99.0)] == [3]
        assert [row.task_id for row in store.due("12.17", 9, 99.0)] == [1]
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_opening_again_changes_no_schema(tmp_path: Path) -> None:
    opened(tmp_path / "a.db").close()
    before = schema(tmp_path / "a.db")
    opened(tmp_path / "a.db").close()
    assert schema(tmp_path / "a.db") == before


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    opened(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(StoreUnusable, match=r"newer prelabel \(schema 99; this one knows \d+\).*PRELABEL_DATA_DIR"):
        Store.open(path, 0.0)
    assert path.read_bytes() == content


def test_a_migration_that_fails_changes_nothing_and_runs_the_next_time(path: Path) -> None:
    opened(path).close()
    before = schema(path)
    broken = ("ALTER TABLE work ADD COLUMN more TEXT", "ALTER TABLE nowhere ADD COLUMN more TEXT")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, [*MIGRATIONS, broken])
        assert schema(path) == before
        migrate(connection, [*MIGRATIONS, broken[:1]])
    assert "more TEXT" in schema(path)["work"]
    with pytest.raises(StoreUnusable, match="newer"):
        Store.open(path, 0.0)
