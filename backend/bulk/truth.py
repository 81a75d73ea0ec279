"""The right answers to pictures of a bulk run, as people gave them: Label Studio's JSON export, or a corrected table.

Each is brought to the record it is about, by the task's id and address where the run read them from an export, else by
`image_id`, which `--csv` and `--label-studio-tasks` write. What cannot be used is counted by reason, never guessed.
Raises UsageError and OSError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.bulk.exports.csv import LIST_SEPARATOR, uncovered
from backend.bulk.exports.records import (
    Column,
    answer_in,
    columns,
    holds_list,
    is_allowed,
    is_withheld,
    plain_value,
    read_records,
)
from backend.bulk.items import digest, identity_of
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import found_in_task, read_entries
from backend.bulk.tables import workbook
from backend.bulk.tables.csv_text import candidates, encodings
from backend.bulk.tables.rows import Table
from backend.bulk.tables.workbook import Workbook
from backend.errors import UsageError
from backend.quality.people import Account, Known, Labelled, labelled, usable
from label_config.answer import Answer, FieldAnswer
from label_config.schema import LabelSchema, TextField


class Records:
    """The records that a truth is about, in memory: about 1 KB each."""

    def __init__(self, path: Path, schema: LabelSchema) -> None:
        self._by_key: dict[bytes, Known] = {}
        self._images: dict[str, str] = {}
        self._withheld: set[str] = set()
        self.num = 0
        for record in read_records(path, schema):
            known = Known(str(record["image_id"]), answer_in(record, schema)[0], str(record["model_version"]))
            if is_withheld(record):
                self._withheld.add(known.name)
            self._by_key[_own_key(known.name)] = known
            self._by_key[identity_of(record)] = known
            self._images[known.name] = str(record.get("image") or "")
            self.num += 1

    def of(self, key: bytes) -> Known | None:
        return self._by_key.get(key)

    def in_order(self) -> Iterator[Known]:
        """Each once, as they stand in the file: as they were answered."""
        seen: set[str] = set()
        for known in self._by_key.values():
            if known.name not in seen:
                seen.add(known.name)
                yield known

    def is_withheld(self, known: Known) -> bool:
        """Whether its row in a table was written empty, for the blind audit."""
        return known.name in self._withheld

    def may_be_blind(self, known: Known) -> bool:
        """Whether it can have been chosen by chance: where there was a blind audit, that chose."""
        return not self._withheld or known.name in self._withheld

    def image_of(self, name: str) -> str:
        """The file or address of the picture that people find as `name`; "" if the record does not tell."""
        return self._images.get(name, "")


def _own_key(image_id: str) -> bytes:
    return digest(f"id\n{image_id}")


def read_truth(
    path: Path, records: Records, schema: LabelSchema, account: Account, *, blind: bool = False
) -> Iterator[Labelled]:
    """Each record that the truth is about, once; the first entry of several counts.

    `blind`: whoever filled the table did not see the answers. An export says so itself, annotation by annotation; of it
    `blind` says that what was labelled so was chosen by chance, where the run's own blind audit chose others.
    """
    if path.suffix.lower() == ".json":
        entries = _of_export(path, records, schema, account, blind)
    elif path.suffix.lower() in (".csv", *workbook.SUFFIXES):
        entries = _of_table(path, records, schema, account, blind)
    else:
        raise UsageError(
            f"--truth {path}: give Label Studio's JSON export (.json), or a corrected table (.csv, .xlsx)."
        )
    seen: set[str] = set()
    for found in entries:
        if found.name in seen:
            account.add("twice", found.name)
            continue
        seen.add(found.name)
        yield found


# -- Label Studio's export ---------------------------------------------------------------------------------------------


def _of_export(path: Path, records: Records, schema: LabelSchema, account: Account, blind: bool) -> Iterator[Labelled]:
    for number, entry in enumerate(read_entries(path), 1):
        if "annotations" not in entry:
            raise UsageError(f"{path}: entry {number} has no annotations. Export the project as JSON, not as JSON-MIN.")
        data, task_id = entry.get("data"), entry.get("id")
        name = f"task {task_id}"
        people = usable(entry["annotations"] if isinstance(entry["annotations"], list) else [])
        if isinstance(people, str):
            account.add(people, name)
        elif (known := _record_of(records, data, task_id, schema)) is None:
            account.add("no_record", name)
        elif isinstance(said := labelled(known, people, schema, was_chosen=records.is_withheld(known)), str):
            account.add(said, name)
        elif not (said.saw_answer or blind or records.may_be_blind(known)):
            account.add("not_chosen", name)
        else:
            yield said


def _record_of(records: Records, data: Any, task_id: Any, schema: LabelSchema) -> Known | None:
    if not isinstance(data, Mapping):
        return None
    is_id = isinstance(task_id, int | str) and not isinstance(task_id, bool)
    found = found_in_task(data, schema.image_key, task_id if is_id else None)
    if found is not None and (known := records.of(found.identity)) is not None:
        return known
    image_id = data.get("image_id")
    return records.of(_own_key(image_id)) if isinstance(image_id, str) else None


# -- a corrected table -------------------------------------------------------------------------------------------------


def _of_table(path: Path, records: Records, schema: LabelSchema, account: Account, blind: bool) -> Iterator[Labelled]:
    table, titles = _table(path)
    known_columns = [(titles.index(c.title), c) for c in columns(schema) if _is_value(c, schema) and c.title in titles]
    names = {_field_of(column, schema) for _, column in known_columns}
    if missing := [found.name for found in schema.fields if found.name not in names]:
        raise UsageError(f"--truth {path} has no column for {', '.join(missing)}; the titles are those of --csv.")
    place = titles.index("image_id")
    rows = iter(table.rows())
    next(rows)
    for row in rows:
        cells = (*row.cells, *([""] * (len(titles) - len(row.cells))))
        known = records.of(_own_key(uncovered(cells[place])))
        if known is None:
            account.add("no_record", row.where)
        elif (truth := _answer(cells, known_columns, schema)) is None:
            account.add("unreadable", row.where)
        elif (is_blind := blind or records.is_withheld(known)) and not any(
            found.value is not None for found in truth.fields.values()
        ):
            account.add("not_labelled", row.where)  # where nobody was shown an answer, nobody took one out
        else:
            yield Labelled(known.name, known.answer, truth, known.model_version, saw_answer=not is_blind)


def _table(path: Path) -> tuple[Table, list[str]]:
    """The way to read it in which there is a column `image_id`."""
    is_book = path.suffix.lower() in workbook.SUFFIXES
    ways: list[Table] = (
        [Workbook(path, LeftOut())] if is_book else [c for e in encodings(path) for c in candidates(path, e)]
    )
    for table in ways:
        first = next(iter(table.rows()), None)
        if first is not None and "image_id" in first.cells:
            return table, list(first.cells)
    raise UsageError(
        f'--truth {path} has no column "image_id". Correct the table that --csv wrote, and keep its titles.'
    )


def _is_value(column: Column, schema: LabelSchema) -> bool:
    is_caption = schema.caption is not None and column.title == "caption" and column.field is None
    return is_caption or (column.field is not None and not column.is_confidence)


def _field_of(column: Column, schema: LabelSchema) -> str:
    if column.field is not None:
        return column.field.name
    assert schema.caption is not None
    return schema.caption.name


def _answer(cells: Sequence[str], found: Sequence[tuple[int, Column]], schema: LabelSchema) -> Answer | None:
    """None if a cell holds what the label config does not allow."""
    fields: dict[str, FieldAnswer] = {}
    for place, column in found:
        of = schema.field(_field_of(column, schema))
        text = uncovered(cells[place])
        plain: Any = [part.strip() for part in text.split(LIST_SEPARATOR.strip())] if holds_list(column) else text
        if not text:
            plain = None
        elif not isinstance(of, TextField) and not holds_list(column):
            plain = _number_or_text(of, text)
        if not is_allowed(of, plain):
            return None
        fields[of.name] = FieldAnswer(plain_value(of, plain))
    return Answer(fields)


def _number_or_text(of: Any, text: str) -> Any:
    from label_config.schema import NumberField, RatingField

    if not isinstance(of, NumberField | RatingField):
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
