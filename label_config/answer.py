"""The answer to one picture: a value and a confidence per field, and its one-line JSON form.

`render_answer` is the only definition of what a model has to write; the grammar allows exactly such texts,
and `parse_answer` reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_config.schema import ChoicesField, Field, LabelSchema, TaxonomyField

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
        return paths if (field.max_usages or 1) > 1 else (paths[0] if paths else None)
    return value
