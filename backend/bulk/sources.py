"""What the SOURCEs of a bulk run name: pictures, folders of them, and lists (`backend.bulk.lists`), one by one.

Folders are read one at a time, in order of names, files before subfolders; hidden files and files that are no pictures
by their name are passed over, links are followed, and no folder is read twice however it is reached. Opens no picture.
Raises UsageError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend.bulk.items import Found
from backend.bulk.lists import LIST_SUFFIXES, found_url, is_url, read_list
from backend.errors import UsageError

PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
    }
)
MAX_NOTES = 20


@dataclass(slots=True)
class Notes:
    """What was met on the way. `lost`: pictures may be missing because of it; `harmless`: none is.

    `num_others`: files in folders that are no pictures by their name.
    """

    lost: list[str] = field(default_factory=list)
    harmless: list[str] = field(default_factory=list)
    num_others: int = 0

    def add(self, text: str, *, is_lost: bool) -> None:
        notes = self.lost if is_lost else self.harmless
        if len(notes) < MAX_NOTES:
            notes.append(text)
        elif len(notes) == MAX_NOTES:
            notes.append("and more like these")


def check_sources(sources: Sequence[str]) -> None:
    """Before anything is started. Raises UsageError for what is not there, or is no file, folder or address."""
    if not sources:
        raise UsageError("Name at least one SOURCE: a picture, a folder, a list of pictures, or a Label Studio export.")
    for source in sources:
        if is_url(source):
            continue
        try:
            mode = os.stat(source).st_mode
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no path"
            raise UsageError(f"SOURCE {source} cannot be read ({reason}).") from None
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise UsageError(f"SOURCE {source} is neither a file nor a folder.")


def is_list(source: str) -> bool:
    """By its name: whether a file given as SOURCE is read as a list of pictures."""
    return not is_url(source) and Path(source).suffix.lower() in LIST_SUFFIXES


def find_pictures(sources: Sequence[str], image_key: str, notes: Notes) -> Iterator[Found]:
    """Every picture, as often as it is named. `image_key`: where a task of an export has its picture.

    Raises UsageError for a list that cannot be read; what is wrong with single folders goes to `notes`.
    """
    seen_folders: set[tuple[int, int]] = set()
    for source in sources:
        if is_url(source):
            yield found_url(source)
        elif os.path.isdir(source):
            yield from _in_folder(os.path.realpath(source), seen_folders, notes)
        elif is_list(source):
            yield from read_list(Path(source), image_key)
        else:
            yield Found(os.path.realpath(source), Path(source).stem, is_file=True)


def _in_folder(root: str, seen: set[tuple[int, int]], notes: Notes) -> Iterator[Found]:
    waiting = [(root, "")]
    while waiting:
        path, relative = waiting.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                notes.add(f"{path} was read under another name already; it is passed over", is_lost=False)
                continue
            seen.add((status.st_dev, status.st_ino))
            files, folders = _entries(path, notes)
        except OSError as error:
            notes.add(f"the folder {path} cannot be read ({error.strerror})", is_lost=True)
            continue
        for name, is_link in files:
            yield Found(_real(path, name, is_link), relative + Path(name).stem, is_file=True)
        waiting += [(_real(path, name, is_link), f"{relative}{name}/") for name, is_link in reversed(folders)]


def _real(folder: str, name: str, is_link: bool) -> str:
    """`folder` is resolved already; asking the disk again for every file would take most of the time."""
    path = os.path.join(folder, name)
    return os.path.realpath(path) if is_link else path


def _entries(path: str, notes: Notes) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The pictures and the folders in a folder, each with whether it is a link, by name. Raises OSError."""
    files: list[tuple[str, bool]] = []
    folders: list[tuple[str, bool]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append((entry.name, entry.is_symlink()))
            elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES:
                files.append((entry.name, entry.is_symlink()))
            else:
                notes.num_others += 1
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder, and if it is named like a picture, one that fails by name
        return False
