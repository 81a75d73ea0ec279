"""A spreadsheet of the records: CSV as Excel opens it, in UTF-8 with its mark, and nothing that it would calculate.

Excel, and what imitates it, takes a cell that begins like a formula for one, quoted or not, and some pass over blanks
and invisible characters before it: such a text gets an apostrophe before it, so that a file name or a caption cannot
run a program on the reader's machine. So does what follows a separator or a line break inside a text, because a reader
that expects another separator than ours begins a new cell there; and text that Excel would change as a number: a bar
code such as 0012345678905 that is a picture's name.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from backend.bulk.exports.records import columns, shown_records
from backend.bulk.files import plain_text, replaced
from label_config.schema import LabelSchema
from label_config.visible import HIDDEN_RANGES

LIST_SEPARATOR = "; "
_NUMBER_CHANGED = re.compile(r"0[0-9]+|[0-9]{12,}|[0-9.]+[eE][0-9]+")
_SEPARATORS = r";|\t\n\r\u2028\u2029"
_EMPTY = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
"""Letters and marks that nothing is drawn for: fillers of Korean and Khmer, variation selectors, Braille of no dots."""
_PASSED_OVER = rf"\s\"{_EMPTY}" + "".join(f"{chr(low)}-{chr(high)}" for low, high in HIDDEN_RANGES)
_SIGNS = r"=+\-@＝＋－＠﹦﹢﹣﹫"
"""Full-width and small ones too: a Chinese or Japanese Excel reads them as the others."""
_BEGIN = rf"(?:^|(?<=[{_SEPARATORS}]))"
_LIKE_A_FORMULA = rf"(?=(?:(?![{_SEPARATORS}])[{_PASSED_OVER}])*[{_SIGNS}])"
_FORMULA = re.compile(rf"{_BEGIN}{_LIKE_A_FORMULA}|^(?=[\t\r\n])")
_COVERED = re.compile(rf"{_BEGIN}'{_LIKE_A_FORMULA}|^'(?=[\t\r\n])")


def write_csv(records: Path, out: Path, schema: LabelSchema, *, audited: bool = False) -> int:
    """`audited`: some records are withheld. Returns the number of rows. Raises OSError and UsageError."""
    chosen = columns(schema, audited=audited)
    num_rows = 0
    with replaced(out) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow([_cell(column.title) for column in chosen])
        for record in shown_records(records, schema):
            writer.writerow([_cell(column.of(record)) for column in chosen])
            num_rows += 1
        text.detach()
    return num_rows


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return value
    text = plain_text(LIST_SEPARATOR.join(map(str, value)) if isinstance(value, list) else str(value))
    return f"'{text}" if _NUMBER_CHANGED.fullmatch(text) else _FORMULA.sub("'", text)


def uncovered(cell: str) -> str:
    """What a cell held before it was kept from being calculated."""
    return cell[1:] if cell[:1] == "'" and _NUMBER_CHANGED.fullmatch(cell[1:]) else _COVERED.sub("", cell)
