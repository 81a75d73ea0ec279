"""A process that reads one workbook, path as its argument, and writes it as JSON lines: `{"row": 3, "cells": [...]}`.

The last line is `{"other_sheets": [...]}`, or `{"error": "..."}` in words that follow the path. It may end at any
moment for want of memory or time: the reader makes a table of all that lies between its outermost cells.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

_MEMORY_BYTES = 2 << 30
_CPU_S = 300
_MAX_CELL_CHARS = 32_767
"""Excel's own limit."""
_SAVE_AGAIN = "Open it in Excel and save it as .xlsx or .csv."


def main(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for document in _documents(path):
            print(json.dumps(document))
    except PasswordError:
        print(json.dumps({"error": f"is locked with a password. {_SAVE_AGAIN}"}))
    except (CalamineError, OSError, ValueError) as error:
        print(json.dumps({"error": f"cannot be read as a workbook ({str(error)[:200]}). {_SAVE_AGAIN}"}))


def _documents(path: str) -> Iterator[dict[str, Any]]:
    workbook = CalamineWorkbook.from_path(path)
    visible = [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.visible == SheetVisibleEnum.Visible and sheet.typ == SheetTypeEnum.WorkSheet
    ]
    if not visible:
        yield {"error": f"has no visible sheet. {_SAVE_AGAIN}"}
        return
    sheet = workbook.get_sheet_by_name(visible[0])
    first_column = [""] * (sheet.start[1] if sheet.start else 0)
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells = first_column + [_text(cell) for cell in row]
        if any(len(cell) > _MAX_CELL_CHARS for cell in cells):
            yield {"error": f"row {number} has a cell of more than {_MAX_CELL_CHARS:,} characters. {_SAVE_AGAIN}"}
            return
        if any(cells):
            yield {"row": number, "cells": cells}
    del sheet
    yield {"other_sheets": [name for name in visible[1:] if workbook.get_sheet_by_name(name).start is not None]}


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


if __name__ == "__main__":
    main(sys.argv[1])
