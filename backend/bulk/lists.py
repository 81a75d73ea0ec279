"""Lists of pictures: text, CSV, JSON lines, and Label Studio's JSON export. Read line by line, whatever their length.

Paths in a list are relative to the list. Tasks of an export keep their ids and are fetched as the server fetches them.
Knows no folders. Raises UsageError naming the file and the line: a list with an error is refused, not half done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import ijson

from backend.bulk.csv_lists import KEYS, is_there, is_url, picture_cells
from backend.bulk.items import Found
from backend.errors import UsageError
from backend.predict.task import TaskId
from label_config.task_value import described, shown

_BOM = b"\xef\xbb\xbf"
_FALLBACK_STEM = "image"


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


def read_list(path: Path, image_key: str) -> Iterator[Found]:
    """Every picture of a list. Raises UsageError."""
    try:
        yield from _READERS[path.suffix.lower()](path, image_key)
    except OSError as error:
        raise UsageError(f"The list {path} cannot be read ({error.strerror}).") from None


def _text(path: Path, image_key: str) -> Iterator[Found]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if name := line.removeprefix(_BOM).strip():
                yield _found(path, f"line {number}", _decoded(path, number, name))


def _decoded(path: Path, number: int, name: bytes) -> str:
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
        raise UsageError(f"{path} line {number} is not encoded as UTF-8. Save the list again as UTF-8.") from None


def _csv(path: Path, image_key: str) -> Iterator[Found]:
    for number, text in picture_cells(path):
        yield _found(path, f"line {number}", text)


def _json_lines(path: Path, image_key: str) -> Iterator[Found]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip(b" \t\r\n" + _BOM):
                continue
            try:
                document = json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError(f"{path} line {number} is no JSON.") from None
            text = document
            if isinstance(document, dict):
                text = next((document[key] for key in KEYS if isinstance(document.get(key), str)), None)
            if not isinstance(text, str) or not text.strip():
                raise UsageError(f"{path} line {number} names no picture: it needs one of the keys {', '.join(KEYS)}.")
            yield _found(path, f"line {number}", text.strip())


def _found(path: Path, where: str, text: str) -> Found:
    if is_url(text):
        return found_url(text)
    if text[:5].lower() == "data:":
        raise UsageError(f"{path} {where} is a data: address. Save it as a file, or put it into a Label Studio task.")
    file = os.path.realpath(os.path.join(path.resolve().parent, text.replace("\0", "")))
    return Found(file, Path(text).stem or _FALLBACK_STEM, is_file=True)


def read_tasks(path: Path) -> Iterator[tuple[TaskId | None, Mapping[str, Any]]]:
    """Id and data of every task of Label Studio's JSON or JSON-MIN export. Raises UsageError and OSError."""
    with path.open("rb") as file:
        _to_the_first_task(file, path)
        number = 0
        try:
            for number, task in enumerate(ijson.items(file, "item", use_float=True), 1):
                data = task.get("data", task) if isinstance(task, dict) else None
                if not isinstance(data, dict):
                    raise UsageError(f"{path}: entry {number} is no task of Label Studio.")
                task_id = task.get("id")
                is_id = isinstance(task_id, int | str) and not isinstance(task_id, bool) and task_id != ""
                yield task_id if is_id else None, data
        except (ijson.JSONError, UnicodeDecodeError):
            raise UsageError(f"{path} is no JSON: it breaks off or is wrong after {number} tasks.") from None


def _to_the_first_task(file: BinaryIO, path: Path) -> None:
    head = file.read(4_096)
    start = len(_BOM) if head.startswith(_BOM) else 0
    if head[start:].lstrip()[:1] != b"[":
        raise UsageError(f"{path} is no list of tasks. Give Label Studio's JSON export, or a text list as .txt.")
    file.seek(start)


def _export(path: Path, image_key: str) -> Iterator[Found]:
    for number, (task_id, data) in enumerate(read_tasks(path), 1):
        yield found_in_task(data, image_key, task_id, f"{path}: task {number}")


def found_in_task(data: Mapping[str, Any], image_key: str, task_id: TaskId | None, where: str = "a task") -> Found:
    """A task's picture. Raises UsageError for a task that has neither a picture nor an id to say so of."""
    url = shown(image_key, data)
    if url is not None and url.strip():
        return found_url(url.strip(), task_id)
    if task_id is None:
        raise UsageError(f'{where} has neither an id nor a picture under "{described(image_key)}".')
    return Found("", f"task-{task_id}", is_file=False, task_id=task_id)


_READERS: dict[str, Callable[[Path, str], Iterator[Found]]] = {
    ".txt": _text,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".json": _export,
}
LIST_SUFFIXES = frozenset(_READERS)
__all__ = ["LIST_SUFFIXES", "found_in_task", "found_url", "is_url", "read_list", "read_tasks"]
