"""Another process beside the one that serves: it looks and adds, never moves the file, and migrates it only alone."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StoreUnusable
from backend.store import Store, StoredAnswer
from backend.store.lock import is_served, take_lock
from tests.backend.store.given import opened


def test_answers_added_beside_a_server_are_its_own_too(tmp_path: Path) -> None:
    path = tmp_path / "prelabel.db"
    with opened(path) as serving, Store.beside(path, 1.0) as beside:
        beside.save_answers([StoredAnswer("a", "one"), StoredAnswer("b", "two")], 1.0)
        beside.save_answers([StoredAnswer("a", "another")], 2.0)
        assert serving.answers(["a", "b"]) == {"a": StoredAnswer("a", "one"), "b": StoredAnswer("b", "two")}
        assert serving.prune(100.0, 50.0) == 0
        assert beside.answer("a") is None


@pytest.mark.parametrize("content", [None, b""], ids=["no file", "a file just made"])
def test_where_there_is_no_store_one_is_made(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prelabel.db"
    if content is not None:
        path.write_bytes(content)
    with Store.beside(path, 1.0) as beside:
        beside.save_answers([StoredAnswer("a", "one")], 1.0)
    with opened(path) as serving:
        assert serving.answer("a") == StoredAnswer("a", "one")


def _damaged(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)


def _newer(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("released", sorted(Path(__file__).parent.glob("schema_*.sql"))[:-1], ids=lambda p: p.stem)
def test_an_older_file_is_left_to_its_server_and_brought_up_to_date_once_that_has_ended(
    tmp_path: Path, released: Path
) -> None:
    path = tmp_path / "prelabel.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(released.read_text(encoding="utf-8"))
    before = path.read_bytes()
    lock = take_lock(tmp_path)
    with pytest.raises(StoreUnusable, match=r"prelabel.db was written by an older prelabel. .* Stop that one"):
        Store.beside(path, 1.0)
    assert path.read_bytes() == before
    os.close(lock)
    with Store.beside(path, 1.0) as store:
        store.save_answers([StoredAnswer("a", "one")], 1.0)
        assert store.answer("a") == StoredAnswer("a", "one")
    os.close(take_lock(tmp_path))  # it was given back


@pytest.mark.parametrize("make", [_damaged, _newer], ids=["damaged", "newer"])
def test_a_file_that_only_a_server_may_touch_is_refused_and_left_as_it_is(tmp_path: Path, make: object) -> None:
    path = tmp_path / "prelabel.db"
    assert callable(make)
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable):
        Store.beside(path, 1.0)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["prelabel.db"]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EWOULDBLOCK, "is served by another prelabel. Stop that one"),
        (errno.ENOLCK, r"prelabel.lock cannot be locked \(No locks available\).* PRELABEL_DATA_DIR"),
        (errno.EOPNOTSUPP, r"prelabel.lock cannot be locked \(Operation not supported\)"),
    ],
)
def test_a_disk_without_locks_is_not_taken_for_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreUnusable, match=told):
        take_lock(tmp_path)
    if number == errno.EWOULDBLOCK:
        assert is_served(tmp_path)
    else:
        with pytest.raises(StoreUnusable, match="cannot be locked"):
            is_served(tmp_path)
