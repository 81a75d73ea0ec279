"""The record of one annotated picture: a flat JSON object for files, databases and spreadsheets.

Begins as the seed article writes it, `{"image_id": ..., "caption": ..., "tags": [...]}`, then the labelled fields,
confidences and review reasons. Pure; nothing raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from label_config.answer import Answer, FieldValue
from label_config.prompt import Language
from label_config.regions import shown_value
from label_config.review import Finding
from label_config.schema import ChoicesField, Field, LabelSchema, TaxonomyField

PATH_SEPARATOR = " / "


def make_record(
    schema: LabelSchema,
    answer: Answer,
    findings: Sequence[Finding],
    *,
    image_id: str,
    model_version: str,
    language: Language = "zh",
) -> dict[str, Any]:
    """Return the record. `caption` is the first description; `tags` are all choices and the ends of taxonomy paths.

    `language` is that of the review reasons.
    """
    found = {field.name: answer.fields[field.name] for field in schema.fields if field.name in answer.fields}
    values = {field.name: shown_value(field, found[field.name].value) for field in schema.fields if field.name in found}
    confidences = {name: round(f.confidence, 4) for name, f in found.items() if f.confidence is not None}
    return {
        "image_id": image_id,
        "caption": values.get(schema.caption.name) if schema.caption else None,
        "tags": [tag for field in schema.fields for tag in _tags(field, values.get(field.name))],
        "fields": {field.name: _plain(field, values.get(field.name)) for field in schema.fields},
        "confidence": confidences,
        "score": None if answer.score is None else round(answer.score, 4),
        "needs_review": bool(findings),
        "review_reasons": [f.reason if language == "zh" else f.reason_en for f in findings],
        "model_version": model_version,
    }


def _tags(field: Field, value: FieldValue) -> list[str]:
    match field, value:
        case ChoicesField(), tuple():
            return [str(choice) for choice in value]
        case TaxonomyField(), tuple():
            return [str(path[-1]) for path in value if isinstance(path, tuple)]
    return []


def _plain(field: Field, value: FieldValue) -> Any:
    """A single choice as a string, a single path as one string; several as lists."""
    match field, value:
        case ChoicesField(multiple=False), (single,):
            return single
        case TaxonomyField(), tuple():
            paths = [PATH_SEPARATOR.join(path) for path in value if isinstance(path, tuple)]
            return paths[0] if len(paths) == 1 and field.max_paths == 1 else paths
        case _, tuple():
            return list(value)
    return value
