"""The answer to one picture: a value and a confidence per field, and its one-line JSON form.

`render_answer` is the only definition of what a model has to write; the grammar allows exactly such texts,
and `parse_answer` reads them back. A text cut by the token limit gives the fields that are complete and what there is
of a description. `parse_answer` trusts no grammar: a label that the schema does not have is an error, not a value.
Knows no tokenizer. Raises MalformedAnswer, and ValueError if pieces and probabilities differ in number.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

from label_config.cut_json import members
from label_config.errors import MalformedAnswer
from label_config.schema import (
    ChoicesField,
    Field,
    LabelSchema,
    NumberField,
    RatingField,
    ShortTextField,
    TaxonomyField,
    TextField,
)

_SURROGATE = re.compile("[\ud800-\udfff]")

Paths = tuple[tuple[str, ...], ...]
FieldValue = str | int | float | tuple[str, ...] | Paths | None
"""Text: str. Choices: a tuple of `Choice.value`s (one, unless multiple). Taxonomy: a tuple of paths of
`TaxonomyNode.value`s. Rating: int. Number: int or float. None: the model left the field empty."""


@dataclass(frozen=True, slots=True)
class FieldAnswer:
    """`confidence` is 0..1 for labels and None for text, whose quality no probability describes."""

    value: FieldValue
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Field answers by field name. `truncated`: generation ended before the last field was complete."""

    fields: Mapping[str, FieldAnswer]
    truncated: bool = False

    @property
    def score(self) -> float | None:
        """The task score: the smallest field confidence (None if no field has one). Sorts tasks by doubt."""
        confidences = [f.confidence for f in self.fields.values() if f.confidence is not None]
        return min(confidences, default=None)


def render_answer(schema: LabelSchema, values: Mapping[str, FieldValue]) -> str:
    """Return `values` as the compact JSON line a model writes: keys in `schema.answer_order`, no spaces.

    A single choice is a string, a single-path taxonomy one list, several of either a list of them, nothing null.
    """
    document = {field.name: _json_value(field, values.get(field.name)) for field in schema.answer_order}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _json_value(field: Field, value: FieldValue) -> Any:
    if value is None:
        return None
    if isinstance(field, ChoicesField) and isinstance(value, tuple):
        return list(value) if field.multiple else (value[0] if value else None)
    if isinstance(field, TaxonomyField) and isinstance(value, tuple):
        paths = [list(path) for path in value]
        return paths if field.max_paths > 1 else (paths[0] if paths else None)
    return value


def parse_answer(
    schema: LabelSchema, pieces: Sequence[bytes], probabilities: Sequence[float], *, truncated: bool
) -> Answer:
    """Read an answer from token `pieces` (UTF-8; a token may end inside a character) and their `probabilities`.

    A label's confidence is the product over the tokens that overlap its value, each counted once; that of null is the
    probability of saying null. A number has no closing quote, so the token after it, which decides that no digit
    follows, is one of its own. The product speaks of the chosen tokens, each the most probable in its place: the same
    value in other tokens is not added, and where labels begin alike, the one so found need not be the most probable as
    a whole. `truncated`: generation was ended by a limit; the Answer is truncated only if a field was lost by it.
    Raises MalformedAnswer if no field can be read, or if the text is no answer to `schema`.
    """
    if len(pieces) != len(probabilities):
        raise ValueError(f"{len(pieces)} token pieces but {len(probabilities)} probabilities.")
    text = _decoded(b"".join(pieces), truncated)
    ends = list(accumulate(len(piece) for piece in pieces))
    by_name = {field.name: field for field in schema.fields}
    fields: dict[str, FieldAnswer] = {}
    complete = False
    for member in members(text, truncated):
        if member is None:
            complete = True
            break
        field = by_name.get(member.key)
        if field is None or field.name in fields:
            raise MalformedAnswer(f"The answer has {member.key[:40]!r} where no such field is expected.")
        if isinstance(field, TextField):
            if text_value := _checked_text(field, member.value):
                fields[field.name] = FieldAnswer(text_value)
            elif isinstance(field, ShortTextField) and member.closed:
                fields[field.name] = FieldAnswer(None)
        elif member.closed:
            stop = isinstance(member.value, int | float)  # the decision to write no further digit
            start, end = len(text[: member.start].encode()), len(text[: member.end].encode())
            confidence = _confidence(ends, probabilities, start, end + stop)
            fields[field.name] = FieldAnswer(_label_value(field, member.value), confidence)
    if not fields:
        raise MalformedAnswer("The generated text ends before the first field is complete.")
    return Answer(fields, truncated=not complete)


def _decoded(data: bytes, truncated: bool) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if truncated and error.end == len(data):
            return data[: error.start].decode()
        raise MalformedAnswer("The generated text is not UTF-8.") from None


def _confidence(ends: Sequence[int], probabilities: Sequence[float], start: int, end: int) -> float:
    """The product of the probabilities of the tokens that overlap bytes [start, end), kept within 0..1."""
    product = 1.0
    begin = 0
    for finish, probability in zip(ends, probabilities, strict=True):
        if begin < end and finish > start and finish > begin:
            product *= probability if math.isfinite(probability) else 0.0
        begin = finish
    return min(max(product, 0.0), 1.0)


def _checked_text(field: TextField, value: Any) -> str:
    """The text, "" for null. A lone surrogate (half of an escaped pair) is dropped: no UTF-8 can hold it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse(field, value)
    return _SURROGATE.sub("", value)


def _label_value(field: Field, value: Any) -> FieldValue:
    if value is None:
        return None
    match field:
        case ChoicesField():
            return _choices(field, value)
        case TaxonomyField():
            return _paths(field, value)
        case RatingField():
            if type(value) is int and 1 <= value <= field.max_rating:
                return value
        case NumberField():
            low = -math.inf if field.minimum is None else field.minimum
            high = math.inf if field.maximum is None else field.maximum
            if type(value) in (int, float) and low <= value <= high and abs(value) <= sys.float_info.max:
                number: float = value
                return number
    _refuse(field, value)


def _choices(field: ChoicesField, value: Any) -> tuple[str, ...]:
    chosen = value if field.multiple else [value]
    known = {choice.value for choice in field.choices}
    if not _is_list_of_text(chosen) or len(set(chosen)) != len(chosen) or not known.issuperset(chosen):
        _refuse(field, value)
    return tuple(chosen)


def _paths(field: TaxonomyField, value: Any) -> tuple[tuple[str, ...], ...]:
    limit = field.max_paths
    paths = value if limit > 1 else [value]
    if not isinstance(paths, list) or not 1 <= len(paths) <= limit or not all(map(_is_list_of_text, paths)):
        _refuse(field, value)
    found = tuple(map(tuple, paths))
    if len(set(found)) != len(found) or any(field.find(path) is None for path in found):
        _refuse(field, value)
    return found


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _refuse(field: Field, value: Any) -> NoReturn:
    shown = json.dumps(value, ensure_ascii=False)[:80]
    raise MalformedAnswer(f"The field {field.name!r} cannot be {shown}.")
