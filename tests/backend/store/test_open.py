from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import StoreError, StoreUnusable
from backend.store import Options, Store
from tests.backend.store.connections import Connections
from tests.backend.store.given import ANSWER, QUICK, accepted, done, opened, task

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
LARGE = replace(QUICK, checked_bytes=0)
"""As if the file was too large to be checked at every start."""


def filled(path: Path) -> None:
    with opened(path) as store:
        done(store, 100)


def rot(path: Path) -> None:
    """Overwrite the page of a table or an index, not the first one."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 // 2 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 9])


@pytest.mark.parametrize("damage", [garbage, rot, cut], ids=["garbage", "a page overwritten", "cut short"])
def test_a_damaged_file_is_kept_aside_and_an_empty_one_begun(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prelabel.db"
    filled(path)
    damage(path)  # type: ignore[operator]
    content = path.read_bytes()
    with caplog.at_level(logging.ERROR), Store.open(path, NOW) as store:
        assert store.set_aside == tmp_path / "prelabel.db.unreadable-20231114-221320"
        assert store.set_aside.read_bytes() == content
        assert store.summary() == []
    assert "is damaged; it is kept as prelabel.db.unreadable-20231114-221320" in caplog.text
    with Store.open(path, NOW) as store:
        assert store.set_aside is None


def test_what_belongs_to_a_damaged_file_goes_with_it_and_no_earlier_one_is_replaced(path: Path, tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        garbage(path)
        (tmp_path / "prelabel.db-wal").write_bytes(b"wal")
        (tmp_path / "prelabel.db-shm").write_bytes(b"shm")
        with Store.open(path, NOW) as store:
            assert store.set_aside
            names.add(store.set_aside.name)
    assert len(names) == 2
    for name in names:
        assert {p.name for p in tmp_path.glob(f"{name}*")} >= {name, f"{name}-wal"}


def test_damage_that_shows_only_later_says_to_restart(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'work_due'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with Store.open(path, NOW, LARGE) as store, pytest.raises(StoreUnusable, match="Restart prelabel"):
        store.due("12.17", 500, NOW)


def test_a_large_file_is_checked_only_after_a_crash(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crashed = tmp_path / "crashed.db"
    with opened(path) as store:
        done(store, 100)
        for part in ("", "-wal"):
            shutil.copy(f"{path}{part}", f"{crashed}{part}")  # as kill -9 leaves it
    rot(path)
    with Store.open(path, NOW, LARGE) as store:
        assert store.set_aside is None
    assert "is read whole and checked first" not in caplog.text
    assert Path(f"{crashed}-wal").stat().st_size > 8192
    with Store.open(crashed, NOW, LARGE) as store:
        assert store.set_aside is None
        assert store.summary()[0].num_tasks == 100
    assert f"{crashed} was not closed in order: it is read whole and checked first" in caplog.text
    filled(crashed)
    rot(crashed)
    Path(f"{crashed}-wal").write_bytes(b"left behind")
    with Store.open(crashed, NOW, LARGE) as store:
        assert store.set_aside


def test_an_orderly_close_leaves_one_file_for_this_user_alone(tmp_path: Path) -> None:
    filled(tmp_path / "prelabel.db")
    assert os.listdir(tmp_path) == ["prelabel.db"]
    assert (tmp_path / "prelabel.db").stat().st_mode & 0o777 == 0o600


def test_what_was_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    with opened(tmp_path / "prelabel.db") as store:
        (row,) = done(store)
    with Store.open(tmp_path / "prelabel.db", NOW) as store:
        assert (store.due("12.17", 9, NOW), store.answer(ANSWER.key)) == ([row], ANSWER)


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "prelabel.db").touch()
    with Store.open(tmp_path / "prelabel.db", NOW) as store:
        assert store.set_aside is None


@pytest.mark.parametrize("name", ["missing/prelabel.db", "file/prelabel.db", "folder"])
def test_a_place_that_cannot_be_written_is_refused_with_the_next_step(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnusable, match=r"cannot be written.*Set PRELABEL_DATA_DIR"):
        Store.open(tmp_path / name, NOW)


def test_a_folder_that_takes_no_new_file_is_refused(tmp_path: Path) -> None:
    """A root user may write anywhere, so the refusal comes from SQLite: the place of the WAL is taken by a folder."""
    path = tmp_path / "prelabel.db"
    (tmp_path / "prelabel.db-wal").mkdir()
    with pytest.raises(StoreUnusable, match="PRELABEL_DATA_DIR"):
        Store.open(path, NOW)


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    with pytest.raises(StoreUnusable, match="another program"):
        Store.open(path, NOW)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    other.close()


def test_a_closed_store_says_so_and_may_be_closed_twice(tmp_path: Path) -> None:
    store = opened(tmp_path / "prelabel.db")
    store.summary()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        accepted(store, [task(1)])
    with pytest.raises(StoreError, match="closed"):
        store.summary()


def test_unless_told_otherwise_each_commit_waits_for_the_disk(path: Path) -> None:
    connections = Connections()
    with Store.open(path, NOW, Options(connect=connections)) as store:
        store.save_answers([ANSWER], NOW)
        assert store.answer(ANSWER.key) == ANSWER
        assert connections.pragma("synchronous") == [2, 2]
