"""A `connect` for Store's options, through which tests ask and set what only SQLite knows of its connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

STEPS = 100
"""SQLite tells of its work in such portions."""


class Connections:
    """`steps`: those of SQLite's own virtual machine. They say how much a call does, on any machine the same."""

    def __init__(self) -> None:
        self.steps = 0
        self._made: list[sqlite3.Connection] = []

    def __call__(self, *args: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(*args, **options)
        connection.set_progress_handler(self._count, STEPS)
        self._made.append(connection)
        return connection

    def _count(self) -> int:
        self.steps += STEPS
        return 0

    def pragma(self, text: str) -> list[object]:
        """What each open connection says to it."""
        said = []
        for connection in self._made:
            with suppress(sqlite3.ProgrammingError):  # closed
                said.append(connection.execute(f"PRAGMA {text}").fetchone()[0])
        return said

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """As if no further page fitted onto the disk."""
        [num_pages] = set(self.pragma("page_count"))
        self.pragma(f"max_page_count = {num_pages}")
        yield
        self.pragma("max_page_count = 1000000")
