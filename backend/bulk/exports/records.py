"""The records of OUT.jsonl, what columns a table of them has, and the answers they came from. See the package."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.bulk.files import json_line, replaced
from backend.bulk.lines import read_lines
from backend.errors import UsageError
from backend.predict.record import PATH_SEPARATOR
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.review import Finding
from label_config.schema import ChoicesField, Field, LabelSchema, NumberField, RatingField, TaxonomyField, TextField

_BEFORE = ("image_id", "caption", "tags")
_AFTER = ("score", "needs_review", "review_reasons", "model_version", "image", "task_id")
_WITHHELD = "withheld"
"""A column where any record is: it says why such a row is empty."""


def read_records(records: Path, schema: LabelSchema) -> Iterator[dict[str, Any]]:
    """Raises OSError, and UsageError for a record that is none, or with fields or labels that the schema does not
    have."""
    if not records.exists():
        return
    names = [field.name for field in schema.fields]
    for record in read_lines(records):
        if not _is_record(record):
            shown = json.dumps(record.get("image_id"))[:80]
            raise UsageError(
                f"{records}: the record {shown} is not as prelabel writes one. Annotate anew with --overwrite."
            )
        if list(record["fields"]) != names:
            raise UsageError(
                f"{records}: the record {record.get('image_id')} has other fields than the label config. "
                "Give the --label-config that it was made with."
            )
        for field in schema.fields:
            if not is_allowed(field, plain := record["fields"][field.name]):
                shown = json.dumps(plain, ensure_ascii=False)[:80]
                raise UsageError(
                    f"{records}: the record {record.get('image_id')} has {shown} as {field.name}, which the label "
                    "config does not allow. Give the --label-config that it was made with, or annotate anew with "
                    "--overwrite."
                )
        yield record


def _is_record(record: Mapping[str, Any]) -> bool:
    """Whether all that is read of it is of the kind that `make_record` and a run give; values are looked at later."""
    sure, task_id = record.get("confidence"), record.get("task_id", 0)
    return (
        all(isinstance(record.get(name), str) for name in ("image_id", "image", "model_version"))
        and isinstance(record.get("caption"), str | None)
        and all(_are_texts(record.get(name)) for name in ("tags", "review_reasons"))
        and isinstance(record.get("fields"), dict)
        and isinstance(sure, dict)
        and all(_is_share(confidence) for confidence in sure.values())
        and (record.get("score") is None or _is_share(record["score"]))
        and isinstance(record.get("needs_review"), bool)
        and isinstance(record.get(_WITHHELD, False), bool)
        and isinstance(task_id, int | str)
        and not isinstance(task_id, bool)
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_share(value: object) -> bool:
    return _is_number(value, 0, 1)


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_of(record: dict[str, Any], schema: LabelSchema) -> bool:
    """Whether `schema` may have asked for this record."""
    fields = record.get("fields")
    if not isinstance(fields, dict) or list(fields) != [field.name for field in schema.fields]:
        return False
    return all(is_allowed(field, fields[field.name]) for field in schema.fields)


def check_records(records: Path, schema: LabelSchema) -> bool:
    """Whether any is withheld. Raises what `read_records` raises, for any of them."""
    return bool([None for record in read_records(records, schema) if is_withheld(record)])


def is_withheld(record: Mapping[str, Any]) -> bool:
    """Whether it is for the blind audit, so that nobody who labels may see the answer."""
    return bool(record.get(_WITHHELD))


def shown_records(records: Path, schema: LabelSchema) -> Iterator[dict[str, Any]]:
    """As `read_records`; one that is withheld says which picture it is about, and nothing else."""
    for record in read_records(records, schema):
        if is_withheld(record):
            kept = {key: record[key] for key in ("image_id", "image", "task_id", _WITHHELD) if key in record}
            record = {**kept, "fields": {}, "confidence": {}}
        yield record


def write_review_only(records: Path, out: Path) -> int:
    """The records that need review, in their order, without those withheld. Returns how many. Raises OSError."""
    num_records = 0
    with replaced(out) as file:
        for record in read_lines(records) if records.exists() else ():
            if record.get("needs_review") and not is_withheld(record):
                file.write(json_line(record))
                num_records += 1
    return num_records


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `field` and `is_confidence` say which labelled field it is of; None: it is the record's."""

    title: str
    field: Field | None = None
    is_confidence: bool = False

    def of(self, record: dict[str, Any]) -> Any:
        if self.title == _WITHHELD and self.field is None:
            return is_withheld(record)
        if self.field is None:
            return record.get(self.title)
        return record["confidence" if self.is_confidence else "fields"].get(self.field.name)


def columns(schema: LabelSchema, *, audited: bool = False) -> tuple[Column, ...]:
    """The record's own, with the fields between; the first description is the record's `caption` already. `audited`:
    some records are withheld.

    A field whose name is taken is called `field.<name>`.
    """
    taken = {*_BEFORE, *_AFTER, _WITHHELD}
    fields = []
    for field in schema.fields:
        if field != schema.caption:
            fields.append(Column(f"field.{field.name}" if field.name in taken else field.name, field))
    confidences = [
        Column(f"confidence.{field.name}", field, is_confidence=True)
        for field in schema.fields
        if not isinstance(field, TextField)
    ]
    return (
        *map(Column, _BEFORE),
        *fields,
        *confidences,
        *map(Column, _AFTER),
        *([Column(_WITHHELD)] if audited else ()),
    )


def holds_list(column: Column) -> bool:
    """Whether it has several values a record."""
    match column.field:
        case None:
            return column.title in ("tags", "review_reasons")
        case _ if column.is_confidence:
            return False
        case ChoicesField() as field:
            return field.multiple
        case TaxonomyField() as field:
            return field.max_paths > 1
    return False


def answer_in(record: Mapping[str, Any], schema: LabelSchema) -> tuple[Answer, tuple[Finding, ...]]:
    """What `backend.predict.record.make_record` was given, but for rounding. A finding has its text only."""
    fields: dict[str, FieldAnswer] = {}
    for field in schema.fields:
        value = plain_value(field, record["fields"].get(field.name))
        fields[field.name] = FieldAnswer(value, record["confidence"].get(field.name))
    reasons: Sequence[str] = record["review_reasons"] if record["needs_review"] else ()
    return Answer(fields), tuple(Finding("missing", "", reason, reason) for reason in reasons)


def plain_value(field: Field, plain: Any) -> FieldValue:
    """A field's value from the form that a record has it in; the inverse of what `backend.predict.record` does."""
    match field:
        case _ if plain is None:
            return None
        case ChoicesField():
            return tuple(plain) if isinstance(plain, list) else (plain,)
        case TaxonomyField():
            paths = plain if isinstance(plain, list) else [plain]
            return tuple(_path(field, path) for path in paths)
    value: FieldValue = plain
    return value


def is_allowed(field: Field, plain: Any) -> bool:
    """Whether an answer under this label config could have had the value. A review rule may have left it out."""
    several = plain if isinstance(plain, list) else [plain]
    match field:
        case _ if plain is None:
            return True
        case TextField():
            return isinstance(plain, str)
        case ChoicesField():
            known = [choice.value for choice in field.choices]
            return _is_of_number(plain, several=field.multiple) and all(label in known for label in several)
        case TaxonomyField():
            if len(several) > field.max_paths or not _is_of_number(plain, several=field.max_paths > 1):
                return False
            return _are_texts(several) and all(field.find(_path(field, path)) is not None for path in several)
        case RatingField():
            return isinstance(plain, int) and _is_number(plain, 1, field.max_rating)
        case NumberField():
            low = -sys.float_info.max if field.minimum is None else field.minimum
            high = sys.float_info.max if field.maximum is None else field.maximum
            return _is_number(plain, low, high)


def _is_of_number(plain: Any, *, several: bool) -> bool:
    """Several labels stand in a list, one alone; none in either."""
    return isinstance(plain, list) == several or plain == []


def _path(field: TaxonomyField, joined: str) -> tuple[str, ...]:
    """The path that is written so; a label may hold the separator itself."""
    simple = tuple(joined.split(PATH_SEPARATOR))
    if field.find(simple) is not None or not re.search(re.escape(PATH_SEPARATOR), joined):
        return simple
    for nodes in field.paths():
        values = tuple(node.value for node in nodes)
        if PATH_SEPARATOR.join(values) == joined:
            return values
    return simple
