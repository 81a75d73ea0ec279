"""The records as a Parquet file, for pandas, DuckDB, Spark: typed columns, lists as lists.

Needs the optional extra `parquet`; `require_pyarrow` says so before a run begins. Imports pyarrow only when called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from backend.bulk.exports.records import Column, columns, holds_list, shown_records
from backend.bulk.files import plain_text, replaced
from backend.errors import UsageError
from label_config.schema import LabelSchema, NumberField, RatingField

ROWS_AT_ONCE = 5_000


def require_pyarrow() -> None:
    """Raises UsageError with the command to type if it is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError(
            "--parquet needs pyarrow, the extra `parquet`: in the clone, uv pip install -c constraints.txt '.[parquet]'"
        ) from None


def write_parquet(records: Path, out: Path, schema: LabelSchema, *, audited: bool = False) -> int:
    """`audited`: some records are withheld. Returns the number of rows. Raises OSError and UsageError."""
    require_pyarrow()
    import pyarrow
    import pyarrow.parquet

    chosen = columns(schema, audited=audited)
    table_schema = pyarrow.schema([(column.title, _type(column)) for column in chosen])
    num_rows = 0
    with replaced(out) as file, pyarrow.parquet.ParquetWriter(file, table_schema, compression="zstd") as writer:
        for rows in _batches(shown_records(records, schema)):
            data = {column.title: [_cell(column, row) for row in rows] for column in chosen}
            writer.write_table(pyarrow.table(data, schema=table_schema))
            num_rows += len(rows)
    return num_rows


def _batches(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(records)
    while rows := list(islice(iterator, ROWS_AT_ONCE)):
        yield rows


def _type(column: Column) -> Any:
    import pyarrow

    if holds_list(column):
        return pyarrow.list_(pyarrow.string())
    if column.is_confidence or column.title == "score" or isinstance(column.field, NumberField):
        return pyarrow.float64()
    if isinstance(column.field, RatingField):
        return pyarrow.int64()
    return (
        pyarrow.bool_() if column.field is None and column.title in ("needs_review", "withheld") else pyarrow.string()
    )


def _cell(column: Column, record: dict[str, Any]) -> Any:
    value = column.of(record)
    if holds_list(column):
        return [plain_text(str(item)) for item in value or ()]
    if isinstance(value, str) or (value is not None and column.title == "task_id"):
        return plain_text(str(value))
    return None if value == [] else value
