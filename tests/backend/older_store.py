"""A data folder as prelabel 0.1.0 left it ten minutes ago: tests/backend/store/written_by_0_1_0.sql says what it holds.

`prediction_0_1_0` is what that version made of a stored answer for one task.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from backend.store.serving import FILE_NAME

WRITTEN = Path(__file__).parent / "store" / "written_by_0_1_0.sql"
WRITTEN_VERSION = "garments-nf4-1ab634735db5"
VERSION = "garments-nf4-6e80311027f9"
"""What the model version is now. ANSWER_CODE has risen since, and answers of another version are not used: so the file
is read as though its answers were of this version. Write the present one here when it changes again."""
AGO_S = 600.0
_TIMES = {
    "answer": ("saved_at",),
    "project": ("first_accepted_at", "last_accepted_at", "last_finished_at"),
    "recipe": ("saved_at",),
    "work": ("reply_until", "check_at", "told_at", "finished_at", "updated_at"),
}


def _written() -> str:
    return WRITTEN.read_text(encoding="utf-8").replace(WRITTEN_VERSION, VERSION)


def older_store(data_dir: Path) -> None:
    """Its times are moved to ten minutes ago: what is older than 30 days is forgotten."""
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection, connection:
        connection.executescript(_written())
        [(last,)] = connection.execute("SELECT max(updated_at) FROM work")
        for table, columns in _TIMES.items():
            for column in columns:
                move = f"UPDATE {table} SET {column} = {column} + ? WHERE {column} > 0"
                connection.execute(move, [time.time() - AGO_S - last])


def contents_0_1_0() -> dict[int, str]:
    """By task, what 0.1.0 stored as its answer."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_written())
        query = "SELECT task_id, content FROM work w JOIN answer a ON a.id = w.answer_id"
        return dict(connection.execute(query).fetchall())


def prediction_0_1_0(content: str, task_id: int) -> dict[str, Any]:
    document = json.loads(content)
    seed = f"{task_id}:{document['model_version']}"
    for name in ("needs_review", "findings", "no_region", "truncated"):
        document.pop(name, None)
    document["result"] = [
        {"id": hashlib.sha256(f"{seed}\0{region['from_name']}".encode()).hexdigest()[:10], **region}
        for region in document["result"]
    ]
    made: dict[str, Any] = document
    return made
