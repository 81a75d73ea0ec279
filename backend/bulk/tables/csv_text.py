"""The ways in which a CSV may be encoded and separated (`cells` chooses), and its rows, one by one whatever its length.

The text is UTF-8, UTF-16 as Excel saves "Unicode text", or what Chinese Excel saves by default (GB18030, which GBK is a
part of). Commas, semicolons, tabs and bars separate, or what a first line `sep=;` says. Raises OSError, and UsageError
naming the file and the line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from backend.bulk.tables.rows import TableRow
from backend.errors import UsageError
from backend.images.sniff import sniff

UTF_8, GB18030 = "utf-8-sig", "gb18030"
DELIMITERS = ",;\t|"
MAX_LINE_CHARS = 1 << 20
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 4_096
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*\r?\n?', re.IGNORECASE)
_OLE = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class CsvText:
    """A file in one encoding, with one separator. `num_skipped`: lines before the table, such as `sep=;`."""

    path: Path
    encoding: str
    delimiter: str
    num_skipped: int = 0

    def rows(self) -> Iterator[TableRow]:
        with self.path.open(encoding=self.encoding, newline="") as file:
            lines = _lines(self.path, file)
            for _ in range(self.num_skipped):
                next(lines, None)
            rows = csv.reader(lines, delimiter=self.delimiter)
            first = self.num_skipped + 1
            try:
                for row in rows:
                    last = self.num_skipped + rows.line_num
                    cells = tuple(cell.strip() for cell in row)
                    if any(cells):
                        yield TableRow(f"line {first}" if first == last else f"lines {first} to {last}", cells)
                    first = last + 1
            except csv.Error as error:
                line = self.num_skipped + rows.line_num
                raise UsageError(f"{self.path} line {line} is no CSV ({error}).") from None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_CHARS):
        number += 1
        if len(line) == MAX_LINE_CHARS and line[-1] not in "\r\n":
            raise UsageError(f"{path} line {number} is no CSV: it has more than {MAX_LINE_CHARS:,} characters.")
        yield line


def candidates(path: Path, encoding: str) -> list[CsvText]:
    """The ways to separate it."""
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline(MAX_LINE_CHARS)
    if told := _SEP_LINE.fullmatch(first):
        return [CsvText(path, encoding, told[1], num_skipped=1)]
    return [CsvText(path, encoding, delimiter) for delimiter in DELIMITERS]


def encodings(path: Path) -> list[str]:
    """Those that every byte is valid in: of a few Chinese words both are. Only UTF-8 where they do not differ."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _refuse_other_formats(path, head)
    if encoding := utf_16(head):
        if _is_valid(path, encoding) is None:
            raise UsageError(_not_utf_8(path))
        return [encoding]
    valid = []
    for encoding in (UTF_8, GB18030):
        is_ascii = _is_valid(path, encoding)
        if is_ascii:
            return [encoding]
        if is_ascii is not None:
            valid.append(encoding)
    if not valid:
        raise UsageError(_not_utf_8(path))
    return valid


def utf_16(head: bytes) -> str:
    """The encoding of a text that begins so, "" if it is none of UTF-16: with its mark, or every other byte a zero."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 < len(head) or not head:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_valid(path: Path, encoding: str) -> bool | None:
    """None: some byte is not. Else whether all of it is ASCII."""
    decoder = codecs.getincrementaldecoder(encoding)()
    is_ascii = True
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                is_ascii &= decoder.decode(chunk).isascii()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    return is_ascii


def _refuse_other_formats(path: Path, head: bytes) -> None:
    """Files that are called .csv and are something else."""
    if head.startswith(_OLE):
        raise UsageError(f"{path} is an old Excel file under another name. Open it and save it as .xlsx or .csv.")
    name = sniff(head).name
    if name == "ZIP":
        raise UsageError(f"{path} is an Excel workbook under another name, or an archive. If it is one, name it .xlsx.")
    if name in ("HTML", "XML"):
        raise UsageError(f"{path} is {name}, not CSV. Open it in Excel and save it as .xlsx or .csv.")


def _not_utf_8(path: Path) -> str:
    return f"{path} is not encoded as UTF-8. Save it again as CSV UTF-8 (in Excel: a type of file in Save As)."
