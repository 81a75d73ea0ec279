"""From a table to the cells that name its pictures: which separator is meant, and which column.

The separator of a CSV is the one under which a column of pictures is found. Raises OSError, and UsageError for a table
that cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from backend.bulk.addresses import is_url
from backend.bulk.left_out import LeftOut
from backend.bulk.tables import workbook
from backend.bulk.tables.columns import HEAD_ROWS, Column, Row, numbered_column, only_column, refuse, titled_column
from backend.bulk.tables.csv_text import GB18030, UTF_8, candidates, encodings
from backend.bulk.tables.rows import Table
from backend.bulk.tables.workbook import Workbook
from backend.errors import UsageError

_MAX_LOOKED_UP = 1_000


def picture_cells(path: Path, wanted: str, left_out: LeftOut) -> Iterator[tuple[str, str]]:
    """Where each row stands, and what its column for pictures says, maybe ""; rows without any text are no rows.

    `wanted`: title or number, from 1, of that column; "": the one that is titled so.
    """
    if path.suffix.lower() in workbook.SUFFIXES:
        table: Table = Workbook(path, left_out)
        column = _column_of(path, [Workbook(path, LeftOut())], wanted)
        chosen = (table, column[1]) if column else None
    else:
        chosen = _choose_encoding(path, wanted)
    if chosen is not None:
        yield from _cells(*chosen)


def is_there(path: Path, name: str) -> bool:
    """Whether the list at `path` names a file."""
    try:
        return os.path.exists(os.path.join(path.resolve().parent, name))
    except ValueError:
        return False


def _choose_encoding(path: Path, wanted: str) -> tuple[Table, Column] | None:
    """The first encoding that makes sense of the file, else UTF-8; None for a file without rows."""
    valid = encodings(path)
    refused: UsageError | None = None
    utf_8: tuple[Table, Column] | None = None
    for encoding in valid:
        try:
            found = _column_of(path, candidates(path, encoding), wanted)
            if (len(valid) == 1 and encoding != GB18030) or found is None or _makes_sense(path, *found):
                return found
            utf_8 = found if encoding == UTF_8 else utf_8
        except UsageError as error:
            refused = refused or error
    if utf_8 is None:
        raise refused or UsageError(f"{path} is not encoded as UTF-8. Save it again as CSV UTF-8.")
    return utf_8


def _column_of(path: Path, tables: Sequence[Table], wanted: str) -> tuple[Table, Column] | None:
    """The first of `tables`, which are ways to read one file, in which the column is found by its title, or, by its
    number, the one with the most columns. None for a file without rows."""
    heads: list[tuple[Table, list[Row]]] = []
    for table in tables:
        head: list[Row] = [row.cells for row in islice(table.rows(), HEAD_ROWS)]
        if not head:
            return None
        heads.append((table, head))
    widest, head = max(heads, key=lambda found: _width(found[1]))
    there = partial(is_there, path)
    if column := numbered_column(head, wanted, there):
        return widest, column
    for table, rows in heads:
        if column := titled_column(path, rows, wanted):
            return table, column
    if wanted or _width(head)[1] > 1:
        raise refuse(path, head, wanted)
    return heads[0][0], only_column(heads[0][1], there)


def _width(head: Sequence[Row]) -> tuple[bool, int]:
    """Whether all rows have the same number of columns, more than one, and the most cells with a text in a row."""
    widths = {len(row) for row in head}
    return len(widths) == 1 and widths != {1}, max(sum(map(bool, row)) for row in head)


def _makes_sense(path: Path, table: Table, column: Column) -> bool:
    """Whether the names that depend on the encoding are names of files here, or there are none such."""
    names = (name for _, name in _cells(table, column) if name and not (name.isascii() or is_url(name)))
    some = list(islice(names, _MAX_LOOKED_UP))
    return not some or any(is_there(path, name) for name in some)


def _cells(table: Table, column: Column) -> Iterator[tuple[str, str]]:
    for row in islice(table.rows(), column.num_titles, None):
        yield row.where, row.cells[column.index] if column.index < len(row.cells) else ""
