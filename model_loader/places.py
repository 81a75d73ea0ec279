"""Folders as they may be found: not made yet, not ours to look into, a link to a disk that is not mounted."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

NO_HOME = "this user has no home folder"


def expanded(path: str | Path) -> Path:
    """With `~` made out as libraries do: where there is no home folder it stays as it is. pathlib raises there."""
    return Path(os.path.expanduser(path))


def nearest(folder: Path) -> Path:
    """`folder`, or where it is still to be made, the one above it that is there.

    By os.path, which says that nothing is there where one must not look; pathlib raises.
    """
    place = expanded(folder).absolute()
    return next(candidate for candidate in (place, *place.parents) if os.path.exists(candidate))


def free_bytes(folder: Path) -> int:
    """Of the disk that `folder` is on. Raises OSError."""
    return shutil.disk_usage(nearest(folder)).free


def is_empty(folder: Path) -> bool:
    """Whether it is a folder with nothing of a person's: a disk that was just made has lost+found."""
    try:
        return {entry.name for entry in os.scandir(folder)} <= {"lost+found"}
    except OSError:
        return False


def why_unwritable(folder: Path) -> str:
    """Why nothing can be put into `folder`, or into the one it is to be made in; "" where it can. Leaves nothing."""
    place = expanded(folder)
    if place.parts[:1] == ("~",):
        return NO_HOME
    place = place.absolute()
    if place.is_symlink() and not os.path.exists(place):
        return f"it is a link to {os.readlink(place)}, which is not there"
    try:
        with tempfile.TemporaryFile(dir=nearest(place)) as probe:
            probe.write(b"1")
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""
