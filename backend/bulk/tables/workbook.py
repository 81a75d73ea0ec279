"""The rows of an Excel workbook's first visible sheet, read in a process of its own (`workbook_process`).

A small file can ask a reader for any amount of memory, so the reader has a limit, and what it dies of is an error here.
Raises UsageError.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.bulk.left_out import LeftOut
from backend.bulk.tables.rows import TableRow
from backend.environment import for_readers
from backend.errors import UsageError

SUFFIXES = (".xlsx", ".xlsm")
_MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Workbook:
    """Sheets that are not read are told to `left_out`, once for each time the rows are read to the end."""

    path: Path
    left_out: LeftOut

    def rows(self) -> Iterator[TableRow]:
        command = [sys.executable, "-m", "backend.bulk.tables.workbook_process", str(self.path.absolute())]
        with subprocess.Popen(  # noqa: S603 - ours, and the path is an argument of its own
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=_ROOT, env=for_readers(os.environ)
        ) as process:
            assert process.stdout is not None
            try:
                other_sheets: list[str] = []
                while line := process.stdout.readline(_MAX_LINE_BYTES):
                    said = self._read(line)
                    if "error" in said:
                        raise UsageError(f"{self.path} {said['error']}")
                    if "row" in said:
                        yield TableRow(f"row {said['row']}", tuple(said["cells"]))
                    other_sheets += said.get("other_sheets", ())
                if process.wait() != 0:
                    raise UsageError(self._too_large())
                for name in other_sheets:
                    self.left_out.add("other_sheet", f'{self.path} sheet "{name}"')
            finally:
                process.kill()

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:  # cut off: the reader was ended within it, or the row is longer than any of Excel's
            raise UsageError(self._too_large()) from None
        return said

    def _too_large(self) -> str:
        return (
            f"{self.path} needs more memory or time than a workbook may (2 GiB, 5 minutes), or is damaged. "
            "Save its sheet as .csv."
        )


_ROOT = Path(__file__).parents[3]
