"""The empty database that new Label Studios begin with: made once, and again when there is anything wrong with it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.commands.demo.background_process import ProcessFailed
from backend.commands.demo.empty_database import kept_for, place_empty_database


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """In an environment of its own, as far as that matters here."""
    venv = tmp_path / "venv"
    (venv / "lib/python3.11/site-packages/label_studio-1.23.2.dist-info").mkdir(parents=True)
    (venv / "lib/python3.11/site-packages/django-5.2.dist-info").mkdir()
    (venv / "pyvenv.cfg").touch()
    (venv / "bin").mkdir()
    made = venv / "bin" / "label-studio"
    made.touch()
    return made


class Builder:
    """Builds as Label Studio does, in a moment, and counts how often."""

    def __init__(self, users: int = 0) -> None:
        self.num = 0
        self._users = users

    def __call__(self, folder: Path) -> Path:
        self.num += 1
        made = folder / "built.sqlite3"
        with contextlib.closing(sqlite3.connect(made)) as database, database:
            database.execute("CREATE TABLE django_migrations (name TEXT)")
            database.execute("CREATE TABLE htx_user (name TEXT)")
            database.execute("INSERT INTO django_migrations VALUES ('0001_initial')")
            database.executemany("INSERT INTO htx_user VALUES (?)", [("somebody",)] * self._users)
        return made


def kept(program: Path) -> Path:
    found = kept_for(program)
    assert found is not None
    return found


def steps(path: Path) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT name FROM django_migrations").fetchall()


def test_it_is_built_once_and_copied_for_every_new_label_studio(program: Path, tmp_path: Path) -> None:
    build = Builder()
    for name in ("first", "second"):
        target = tmp_path / name / "label_studio.sqlite3"
        place_empty_database(program, build, target)
        assert steps(target) == [("0001_initial",)]
        assert target.stat().st_mode & 0o077 == 0
    assert build.num == 1


def test_a_database_that_is_in_use_is_left_alone(program: Path, tmp_path: Path) -> None:
    target = tmp_path / "label_studio.sqlite3"
    target.write_text("somebody's work")
    place_empty_database(program, Builder(), target)
    assert target.read_text() == "somebody's work"


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def overwrite(path: Path) -> None:
    path.write_text("no database")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def use(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO htx_user VALUES ('somebody')")


@pytest.mark.parametrize("spoil", [cut_off, overwrite, empty, use, Path.unlink])
def test_one_that_is_broken_or_has_a_user_is_made_again(
    spoil: Callable[[Path], None], program: Path, tmp_path: Path
) -> None:
    build = Builder()
    place_empty_database(program, build, tmp_path / "first")
    spoil(kept(program))
    place_empty_database(program, build, tmp_path / "second")
    assert build.num == 2
    assert steps(tmp_path / "second") == [("0001_initial",)]


def test_other_packages_have_another_one_and_the_older_goes(program: Path, tmp_path: Path) -> None:
    build = Builder()
    place_empty_database(program, build, tmp_path / "first")
    older = kept(program)
    packages = program.parent.parent / "lib/python3.11/site-packages"
    (packages / "django-5.2.dist-info").rename(packages / "django-5.3.dist-info")
    place_empty_database(program, build, tmp_path / "second")
    assert build.num == 2
    assert kept(program).exists()
    assert not older.exists()


def refuse(folder: Path) -> Path:
    raise ProcessFailed("Label Studio ended with exit code 1.")


def build_nothing(folder: Path) -> Path:
    return folder / "nothing"


@pytest.mark.parametrize("build", [refuse, build_nothing, Builder(users=1)])
def test_where_none_can_be_made_label_studio_builds_its_own(
    build: Callable[[Path], Path], program: Path, tmp_path: Path
) -> None:
    place_empty_database(program, build, tmp_path / "label_studio.sqlite3")
    assert not (tmp_path / "label_studio.sqlite3").exists()
    assert not kept(program).exists()


def test_a_program_outside_an_environment_has_none(tmp_path: Path) -> None:
    build = Builder()
    place_empty_database(tmp_path / "label-studio", build, tmp_path / "label_studio.sqlite3")
    assert build.num == 0
    assert not (tmp_path / "label_studio.sqlite3").exists()
