"""What every kind of table is read as: rows of texts with their places. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TableRow:
    """`where` is "line 3", "lines 3 to 7" or "row 3". At least one cell has a text in it; none has blanks around it."""

    where: str
    cells: tuple[str, ...]


class Table(Protocol):
    """Can be read any number of times, and is never held whole."""

    def rows(self) -> Iterator[TableRow]:
        """Raises OSError and UsageError."""
        ...
