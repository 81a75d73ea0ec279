"""The pictures that a CSV names: which column has them, and how the file is separated and encoded.

Read row by row, whatever its length. Commas, semicolons and tabs separate; the text is UTF-8, or what Chinese Excel
saves by default (GB18030, which GBK is a part of). Raises OSError, and UsageError naming the file and the line.
"""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from backend.bulk.addresses import is_url
from backend.errors import UsageError

KEYS = (
    "image", "path", "url", "file", "filename", "file_name", "picture", "image_path", "image_url", "file_path",
    "图片", "图片路径", "图片地址", "图片链接", "图片文件", "图片文件名", "图像", "路径", "文件路径", "文件名",
)  # fmt: skip
"""Titles of a column with pictures; the first of these that is there is taken."""
_UTF_8, _GB18030 = "utf-8-sig", "gb18030"
_DELIMITERS = ",;\t"
_CHUNK_BYTES = 1 << 20
_MAX_LOOKED_UP = 1_000


@dataclass(frozen=True, slots=True)
class _Layout:
    encoding: str
    delimiter: str
    column: int
    has_titles: bool


def picture_cells(path: Path) -> Iterator[tuple[int, str]]:
    """The number of the line and what its column for pictures says, maybe "", for every row that is not empty."""
    if (layout := _choose(path, _encodings(path))) is not None:
        yield from _cells(path, layout)


def _choose(path: Path, encodings: list[str]) -> _Layout | None:
    """The first encoding that makes sense of the file, else UTF-8; None for a file without rows."""
    if encodings == [_UTF_8]:
        return _layout(path, _UTF_8)
    refused: UsageError | None = None
    utf_8: _Layout | None = None
    for encoding in encodings:
        try:
            layout = _layout(path, encoding)
            if layout is None or _makes_sense(path, layout):
                return layout
            utf_8 = layout if encoding == _UTF_8 else utf_8
        except UsageError as error:
            refused = refused or error
    if utf_8 is None:
        raise refused or UsageError(_not_utf_8(path))
    return utf_8


def _encodings(path: Path) -> list[str]:
    """Those that every byte is valid in: of a few Chinese words both are. Only UTF-8 where they do not differ."""
    valid = []
    for encoding in (_UTF_8, _GB18030):
        decoder = codecs.getincrementaldecoder(encoding)()
        is_ascii = True
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    is_ascii &= decoder.decode(chunk).isascii()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        if is_ascii:
            return [encoding]
        valid.append(encoding)
    if not valid:
        raise UsageError(_not_utf_8(path))
    return valid


def _not_utf_8(path: Path) -> str:
    return f"{path} is not encoded as UTF-8. Save it again as CSV UTF-8 (in Excel: a type of file in Save As)."


def _layout(path: Path, encoding: str) -> _Layout | None:
    """Of its first row; None for a file without rows."""
    titles: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        first = next(_rows(path, encoding, delimiter), None)
        if first is None:
            return None
        titles[delimiter] = [cell.strip() for cell in first[1]]
    for delimiter, row in titles.items():
        names = [name.lower() for name in row]
        for key in KEYS:
            if key in names:
                return _Layout(encoding, delimiter, names.index(key), True)
    if any(sum(map(bool, row)) > 1 for row in titles.values()):
        raise UsageError(
            f"{path} has several columns, and its first row does not say which one has the pictures. Give that column "
            f"one of these titles: {', '.join(KEYS)}."
        )
    column, name = next((column, name) for column, name in enumerate(titles[","]) if name)
    is_picture = is_url(name) or os.path.splitext(name)[1] != "" or is_there(path, name)
    return _Layout(encoding, ",", column, not is_picture)


def _makes_sense(path: Path, layout: _Layout) -> bool:
    """Whether the names that depend on the encoding are names of files here, or there are none such."""
    names = (name for _, name in _cells(path, layout) if name and not (name.isascii() or is_url(name)))
    some = list(islice(names, _MAX_LOOKED_UP))
    return not some or any(is_there(path, name) for name in some)


def is_there(path: Path, name: str) -> bool:
    """Whether the list at `path` names a file."""
    return os.path.exists(os.path.join(path.resolve().parent, name))


def _cells(path: Path, layout: _Layout) -> Iterator[tuple[int, str]]:
    rows = _rows(path, layout.encoding, layout.delimiter)
    if layout.has_titles:
        next(rows, None)
    for number, row in rows:
        text = row[layout.column].strip() if layout.column < len(row) else ""
        yield number, text


def _rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Those in which something stands."""
    with path.open(encoding=encoding, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        try:
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield rows.line_num, row
        except csv.Error as error:
            raise UsageError(f"{path} line {rows.line_num} is no CSV ({error}).") from None
