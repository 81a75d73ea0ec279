"""What the SOURCEs of a bulk run name: pictures, folders of them, and lists (`backend.bulk.lists`), one by one.

Folders are read one at a time, in order of names, files before subfolders. A file in a folder is a picture if it is
named like one or begins like one (shops name them `main.jpg!800x800`, or not at all); everything else is left out by
reason. Links are followed, and no folder is read twice however it is reached. Raises UsageError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from backend.bulk.addresses import is_url
from backend.bulk.items import Found
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import LIST_SUFFIXES, ListOptions, found_url, read_list
from backend.errors import UsageError
from backend.images.sniff import sniff
from backend.reasons import Reason

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
_RAW_SUFFIXES = frozenset({".arw", ".cr2", ".dng", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".sr2", ".srw"})
"""Of cameras' own files, which begin like a TIFF and hold no picture as anybody sees it."""
_UNREAD_PHOTOS = frozenset({"JPEG 2000", "JPEG XL", "JPEG XR"})
"""Names of `sniff` for what people take for ordinary photos; a PSD or an SVG is no picture here."""
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_HEAD_BYTES = 1_024
_OTHER_TABLES = frozenset(
    {".xls", ".xlsb", ".xlt", ".xltx", ".ods", ".fods", ".numbers", ".et", ".dbf", ".mdb", ".accdb"}
)


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
        if stat.S_ISREG(mode) and (suffix := Path(source).suffix.lower()) in _OTHER_TABLES:
            raise UsageError(f"SOURCE {source}: tables as {suffix} are not read. Open it and save it as .xlsx or .csv.")


def is_list(source: str) -> bool:
    """By its name: whether a file given as SOURCE is taken for a list of pictures."""
    return not is_url(source) and Path(source).suffix.lower() in LIST_SUFFIXES | _OTHER_TABLES


def find_pictures(sources: Sequence[str], lists: ListOptions, left_out: LeftOut) -> Iterator[Found]:
    """Every picture, as often as it is named. `lists`: how lists are read.

    Raises UsageError for a list that cannot be read; what else is no picture goes to `left_out`.
    """
    seen_folders: set[tuple[int, int]] = set()
    for source in sources:
        if is_url(source):
            yield found_url(source)
        elif os.path.isdir(source):
            yield from _in_folder(os.path.realpath(source), seen_folders, left_out)
        elif is_list(source):
            yield from read_list(Path(source), lists, left_out)
        else:
            yield Found(os.path.realpath(source), Path(source).stem, is_file=True)


def _in_folder(root: str, seen: set[tuple[int, int]], left_out: LeftOut) -> Iterator[Found]:
    waiting = [(root, "")]
    while waiting:
        path, relative = waiting.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                left_out.add("folder_twice", path)
                continue
            seen.add((status.st_dev, status.st_ino))
            files, folders = _entries(path, left_out)
        except OSError as error:
            left_out.add("folder_unreadable", f"{path} ({error.strerror})")
            continue
        for name, is_link in files:
            yield Found(_real(path, name, is_link), relative + _stem(name), is_file=True)
        waiting += [(_real(path, name, is_link), f"{relative}{name}/") for name, is_link in reversed(folders)]


def _stem(name: str) -> str:
    """Without `.jpg` and `.jpg!800x800`; of "v1.5 red", which has no suffix, the whole."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower().startswith(tuple(PICTURE_SUFFIXES)) else name


def _real(folder: str, name: str, is_link: bool) -> str:
    """`folder` is resolved already; asking the disk again for every file would take most of the time."""
    path = os.path.join(folder, name)
    return os.path.realpath(path) if is_link else path


def _entries(path: str, left_out: LeftOut) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The pictures and the folders in a folder, each with whether it is a link, by name. Raises OSError."""
    files: list[tuple[str, bool]] = []
    folders: list[tuple[str, bool]] = []
    others: list[tuple[str, Reason, str]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                others.append((entry.name, "hidden_file", ""))
            elif _is_folder(entry):
                folders.append((entry.name, entry.is_symlink()))
            elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES or (why := _no_picture(entry)) is None:
                files.append((entry.name, entry.is_symlink()))
            else:
                others.append((entry.name, *why))
    for name, reason, what in sorted(others):
        left_out.add(reason, os.path.join(path, name) + (f" ({what})" if what else ""))
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder, and if it is named like a picture, one that fails by name
        return False


def _no_picture(entry: os.DirEntry[str]) -> tuple[Reason, str] | None:
    """Why a file is left out that is not named like a picture, and what it is; None for a picture all the same."""
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return "special_file", ""
        with open(entry.path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return ("broken_link" if entry.is_symlink() else "file_unreadable"), str(error.strerror)
    found = sniff(head)
    if found.pillow_format == "TIFF" and os.path.splitext(entry.name)[1].lower() in _RAW_SUFFIXES:
        return "unread_format", "a camera's raw file"
    if found.pillow_format == "BMP" and int.from_bytes(head[14:18], "little") not in _BMP_HEADERS:
        return "not_a_picture", "text" if head.isascii() else "an unknown format"  # two letters are not much to go by
    if found.pillow_format is not None:
        return None
    if not head:
        return "empty_file", ""
    is_photo = found.name in _UNREAD_PHOTOS or found.name.startswith("camera raw")
    return ("unread_format" if is_photo else "not_a_picture"), found.name
