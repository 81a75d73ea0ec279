"""Lists of pictures: text, tables, JSON lines, and Label Studio's JSON export. Read line by line, however long.

Paths in a list are relative to the list. Tasks of an export keep their ids and are fetched as the server fetches them.
A line that cannot be used is left out, by its number; a list that cannot be read as a whole raises UsageError. Knows no
folders.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import ijson

from backend.bulk.addresses import is_url
from backend.bulk.items import Found
from backend.bulk.json_depth import ShallowFile
from backend.bulk.left_out import LeftOut
from backend.bulk.tables import workbook
from backend.bulk.tables.cells import is_there, picture_cells
from backend.bulk.tables.columns import KEYS
from backend.bulk.tables.csv_text import utf_16
from backend.errors import UsageError
from backend.predict.task import TaskId
from backend.reasons import Reason
from label_config.task_value import described, shown

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 4_096
_FALLBACK_STEM = "image"
MAX_PATH_CHARS = 4_096
"""Linux opens no longer one, and what looks for links in one takes time as the square of its length."""
_EMBEDDED = ("=DISPIMG(", "=_xlfn.DISPIMG(", "DISPIMG(", "#VALUE!")
"""What a cell says that holds a picture, in WPS and in Excel."""
Row = tuple[str, Callable[[], Found]]
"""Where in the list it stands, and what reads it, which raises _Row."""


def found_url(url: str, task_id: TaskId | None = None) -> Found:
    """`url` may be any form that a task's picture may have."""
    if url[:5].lower() == "data:":  # it may have megabytes, and identifies itself as well by its digest
        image = f"data:sha256-{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return Found(image, _FALLBACK_STEM, is_file=False, task_id=task_id, inline=url)
    return Found(url, _stem(url), is_file=False, task_id=task_id)


def _stem(url: str) -> str:
    """The last part of the path without suffix; Label Studio's local files have theirs in the query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _FALLBACK_STEM
    path = parts.path
    if path.rstrip("/").endswith("/data/local-files"):
        path = parse_qs(parts.query).get("d", [""])[0]
    return PurePosixPath(unquote(path)).stem or parts.hostname or _FALLBACK_STEM


class _Row(Exception):
    """A line that cannot be used: its reason, and what is said of it."""

    def __init__(self, reason: Reason, said: str = "") -> None:
        super().__init__(said)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`image_key`: where a task of an export has its picture. `column`: title or number, from 1, of the column of a
    table that has them; "": the one that is titled so."""

    image_key: str
    column: str = ""


def read_list(path: Path, options: ListOptions, left_out: LeftOut) -> Iterator[Found]:
    """Every picture of a list. Raises UsageError."""
    try:
        for where, read in _READERS[path.suffix.lower()](path, options, left_out):
            try:
                yield read()
            except _Row as row:
                left_out.add(row.reason, f"{path} {where}" + (f" ({row})" if str(row) else ""))
    except OSError as error:
        raise UsageError(f"The list {path} cannot be read ({error.strerror}).") from None


def _text(path: Path, options: ListOptions, left_out: LeftOut) -> Iterator[Row]:
    lines = _text_lines(path)
    first = next(lines, b"").strip()
    if b"\t" in first and not is_there(path, os.fsdecode(first)):  # Excel's "Unicode text"
        lines.close()
        yield from _table(path, options, left_out)
        return
    for number, line in enumerate(chain([first], lines), 1):
        if name := line.strip():
            yield f"line {number}", partial(_text_line, path, name)


def _text_lines(path: Path) -> Generator[bytes]:
    with path.open("rb") as file:
        encoding = utf_16(file.read(_HEAD_BYTES))
        file.seek(0)
        if not encoding:
            yield file.readline().removeprefix(_BOM)
            yield from file
            return
    with path.open(encoding=encoding, errors="replace") as text:
        yield from (line.removeprefix("\ufeff").encode() for line in text)


def _text_line(path: Path, line: bytes) -> Found:
    return _found(path, _decoded(path, line))


def _decoded(path: Path, name: bytes) -> str:
    """UTF-8; or the name of a file as it is on the disk; or what a Chinese Windows saves by default."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        text = os.fsdecode(name)
    if is_there(path, text):
        return text
    try:
        return name.decode("gb18030")
    except UnicodeDecodeError:
        raise _Row("row_unusable", "not encoded as UTF-8") from None


def _table(path: Path, options: ListOptions, left_out: LeftOut) -> Iterator[Row]:
    for where, text in picture_cells(path, options.column, left_out):
        yield where, partial(_cell, path, text)


def _cell(path: Path, text: str) -> Found:
    if "\n" in text or "\r" in text:
        raise _Row("row_unusable", "a line break in the picture's name: a quotation mark is not closed")
    if text.startswith(_EMBEDDED):
        raise _Row("row_unusable", "the picture itself is in the cell; save it as a file and write its name there")
    return _found(path, text)


def _json_lines(path: Path, options: ListOptions, left_out: LeftOut) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip(b" \t\r\n" + _BOM):
                yield f"line {number}", partial(_json_line, path, line)


def _json_line(path: Path, line: bytes) -> Found:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise _Row("row_unusable", "no JSON") from None
    text = document
    if isinstance(document, dict):
        text = next((document[key] for key in KEYS if document.get(key) is not None), "")
        if text == "" and not any(key in document for key in KEYS):
            raise _Row("row_unusable", f"it needs one of the keys {', '.join(KEYS)}")
    if not isinstance(text, str):
        raise _Row("row_unusable", "its picture is no text")
    return _found(path, text.strip())


def _found(path: Path, text: str) -> Found:
    """Raises _Row."""
    if not text:
        raise _Row("row_without_picture")
    if is_url(text):
        return found_url(text)
    if text[:5].lower() == "data:":
        raise _Row("row_unusable", "a data: address; save it as a file, or put it into a Label Studio task")
    if "\0" in text or len(text) > MAX_PATH_CHARS:
        raise _Row("row_unusable", "no path: it holds a NUL or is longer than one may be")
    try:
        file = os.path.realpath(os.path.join(path.resolve().parent, text))
    except UnicodeEncodeError:
        raise _Row("row_unusable", "half of a surrogate pair") from None
    return Found(file, Path(text).stem or _FALLBACK_STEM, is_file=True)


def read_tasks(path: Path) -> Iterator[tuple[TaskId | None, Mapping[str, Any]]]:
    """Id and data of every task of Label Studio's JSON or JSON-MIN export. Raises UsageError and OSError."""
    for task in read_entries(path):
        task_id = task.get("id")
        is_id = isinstance(task_id, int | str) and not isinstance(task_id, bool) and task_id != ""
        yield task_id if is_id else None, task.get("data", task)


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Every task of an export as it stands there; its data is an object. Raises UsageError and OSError."""
    with path.open("rb") as file:
        _to_the_first_task(file, path)
        number = 0
        try:
            for number, task in enumerate(ijson.items(ShallowFile(file, path), "item", use_float=True), 1):
                if not isinstance(task, dict) or not isinstance(task.get("data", task), dict):
                    raise UsageError(f"{path}: entry {number} is no task of Label Studio.")
                yield task
        except (ijson.JSONError, UnicodeDecodeError):
            raise UsageError(f"{path} is no JSON: it breaks off or is wrong at entry {number + 1}.") from None


def _to_the_first_task(file: BinaryIO, path: Path) -> None:
    head = file.read(4_096)
    start = len(_BOM) if head.startswith(_BOM) else 0
    if head[start:].lstrip()[:1] != b"[":
        raise UsageError(f"{path} is no list of tasks. Give Label Studio's JSON export, or a text list as .txt.")
    file.seek(start)


def _export(path: Path, options: ListOptions, left_out: LeftOut) -> Iterator[Row]:
    for number, (task_id, data) in enumerate(read_tasks(path), 1):
        yield f"task {number}", partial(_task, data, options.image_key, task_id)


def _task(data: Mapping[str, Any], image_key: str, task_id: TaskId | None) -> Found:
    if (found := found_in_task(data, image_key, task_id)) is None:
        raise _Row("row_unusable", f'neither an id nor a picture under "{described(image_key)}"')
    return found


def found_in_task(data: Mapping[str, Any], image_key: str, task_id: TaskId | None) -> Found | None:
    """A task's picture; None for a task that has neither a picture nor an id to say so of."""
    url = shown(image_key, data)
    if url is not None and url.strip():
        return found_url(url.strip(), task_id)
    if task_id is None:
        return None
    return Found("", f"task-{task_id}", is_file=False, task_id=task_id)


_READERS: dict[str, Callable[[Path, ListOptions, LeftOut], Iterator[Row]]] = {
    ".txt": _text,
    ".csv": _table,
    ".tsv": _table,
    **dict.fromkeys(workbook.SUFFIXES, _table),
    ".jsonl": _json_lines,
    ".json": _export,
}
LIST_SUFFIXES = frozenset(_READERS)
__all__ = ["LIST_SUFFIXES", "ListOptions", "found_in_task", "found_url", "read_entries", "read_list", "read_tasks"]
