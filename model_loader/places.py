"""Folders as they may be found: not made yet, not ours to look into, a link to a disk that is not mounted."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

NO_HOME = "this user has no home folder"
_UNNAMED_VOLUME = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")
"""Where Docker and Podman keep what `run` was given no name for."""


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


def ends_with_container(folder: Path, root: Path = Path("/")) -> bool:
    """Whether `folder` is on a container's own layer, or on a volume without a name: the next container made of the
    same image has neither. Of `root` the list of mounts is read."""
    try:
        lines = (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    place = expanded(folder).absolute()
    mounts = {words[4]: (words[3], words[words.index("-") + 1]) for line in lines if "-" in (words := line.split())}
    point = next((str(above) for above in (place, *place.parents) if str(above) in mounts), "")
    inside, kind = mounts.get(point, ("", ""))
    return (point == "/" and kind == "overlay") or _UNNAMED_VOLUME.search(inside) is not None


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
