"""The database a new Label Studio begins with, made once for each installation.

Label Studio's first start builds its tables in some 400 steps, half a minute of a CPU; with a copy of such a database
it takes seconds. The one copied lies in the environment Label Studio is installed in and has no user, token or project
in it (the key that signs sessions is not in the database at all). It belongs to exactly the packages that are
installed there. Whatever is wrong with it: it is made again, or Label Studio builds its own as it always did.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from backend.commands.demo.background_process import ProcessFailed

log = logging.getLogger(__name__)

Build = Callable[[Path], Path]
"""Has Label Studio build its tables somewhere in the folder given; returns the file. Raises ProcessFailed."""


def place_empty_database(program: Path, build: Build, target: Path) -> None:
    """Put a database without a user at `target`, unless there is a file, or nowhere to keep one for `program`."""
    kept = kept_for(program)
    if target.exists() or kept is None:
        return
    keep_empty_database(kept, build)
    if is_empty_database(kept):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _copy(kept, target)


def keep_empty_database(kept: Path, build: Build) -> None:
    """Make it at `kept`, if there is none that is good and it can be kept."""
    if is_empty_database(kept) or not os.access(kept.parent, os.W_OK):
        return
    try:
        with tempfile.TemporaryDirectory(prefix="label-studio-database-") as folder:
            built = build(Path(folder))
            if is_empty_database(built):
                _copy(built, kept)
        for older in set(kept.parent.glob("empty-*.sqlite3")) - {kept}:
            older.unlink(missing_ok=True)
    except (OSError, ProcessFailed) as error:
        log.warning("no empty database is kept in %s: %s", kept.parent, error)


def kept_for(program: Path) -> Path | None:
    """Where the database for this `label-studio` program is kept; None where it is not of a virtual environment."""
    venv = program.resolve().parent.parent
    packages = sorted(path.name for path in venv.glob("lib/python*/site-packages/*.dist-info"))
    if not packages or not (venv / "pyvenv.cfg").exists():
        return None
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()
    return venv / f"empty-{digest[:16]}.sqlite3"


def is_empty_database(path: Path) -> bool:
    """Whether it is whole, has Label Studio's tables, and nobody in it."""
    if not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            [checked] = database.execute("PRAGMA integrity_check").fetchone()
            [steps] = database.execute("SELECT count(*) FROM django_migrations").fetchone()
            [users] = database.execute("SELECT count(*) FROM htx_user").fetchone()
    except sqlite3.Error:
        return False
    return bool(checked == "ok" and steps > 0 and users == 0)


def _copy(source: Path, target: Path) -> None:
    """As a whole, or not at all; readable by this user only."""
    descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file, source.open("rb") as content:
            shutil.copyfileobj(content, file)
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
