"""Does the label config have a record's labels, and are they right? For records of a run and for free output."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backend.predict.record import PATH_SEPARATOR
from label_config.schema import ChoicesField, Field, LabelSchema, TaxonomyField
from training.rules import LABELS, Labels

FIELDS = ("category", "style", "season", "scene")
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares of `num` records, 0..1. A field that is missing is not right. `invalid` counts records by their reason."""

    num: int
    invalid: dict[str, int]
    accuracy: dict[str, float]

    @property
    def invalid_share(self) -> float:
        return sum(self.invalid.values()) / self.num


def parse_free(text: str) -> Values | None:
    """The JSON object in what a model has written; None if there is none."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        values = json.loads(found.group()) if found else None
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def invalid_reason(schema: LabelSchema, values: Values | None) -> str | None:
    """Why a record cannot be used; None if it can."""
    if values is None:
        return "cannot be parsed"
    reasons = (_field_reason(field, values.get(field.name)) for field in schema.fields)
    return next((reason for reason in reasons if reason), None)


def quality(schema: LabelSchema, records: Sequence[Values | None], classes: Sequence[int]) -> Quality:
    """`records` and the classes of their pictures, one after the other; None is a record that cannot be parsed."""
    invalid = Counter(reason for values in records if (reason := invalid_reason(schema, values)))
    right: Counter[str] = Counter()
    for values, number in zip(records, classes, strict=True):
        right.update(field for field in FIELDS if values and is_right(field, values.get(field), LABELS["zh"][number]))
    return Quality(len(records), dict(invalid), {field: right[field] / len(records) for field in FIELDS})


def is_right(field: str, value: Any, labels: Labels) -> bool:
    if field == "category":
        return _path(value) == labels.category
    return bool(_single(value) == getattr(labels, field))


def _field_reason(field: Field, value: Any) -> str | None:
    if value in (None, "", []):
        return "a field is missing" if field.required else None
    match field:
        case ChoicesField(multiple=True):
            chosen = value if isinstance(value, list) else [value]
            return None if {*map(str, chosen)} <= {c.value for c in field.choices} else "a label that is not there"
        case ChoicesField():
            return None if _single(value) in {c.value for c in field.choices} else "a label that is not there"
        case TaxonomyField():
            return None if _path(value) in _legal_paths(field) else "a path that does not exist"
    return None


@lru_cache
def _legal_paths(field: TaxonomyField) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(node.value for node in path) for path in field.paths())


def _single(value: Any) -> str:
    """A list of one is taken for that one: the mildest reading."""
    if isinstance(value, list):
        return str(value[0]) if len(value) == 1 else ""
    return str(value)


def _path(value: Any) -> tuple[str, ...]:
    """A list of names, a list with one such list in it, or one text with slashes or angles between the names."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, list):
        return tuple(map(str, value))
    between = re.escape(PATH_SEPARATOR) if PATH_SEPARATOR in str(value) else "[/>]"
    return tuple(part.strip() for part in re.split(between, str(value)))
