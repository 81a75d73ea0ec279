"""Answer <-> Label Studio result regions: predictions out, people's annotations in.

Out: plain values of the known types only, never an `html` key; labels as Label Studio stores them (alias); texts on
one line without hidden characters, cut to a limit. In: whatever Label Studio sends; regions and labels that the
schema does not know are passed over. Knows no HTTP. Nothing raises.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.prompt import Language
from label_config.review import Finding
from label_config.schema import (
    ChoicesField,
    Field,
    LabelSchema,
    NumberField,
    PathChoicesField,
    RatingField,
    ShortTextField,
    TaxonomyField,
    TextField,
)
from label_config.visible import visible_text

MAX_TEXT_CHARS = 8_000
MAX_REASON_CHARS = 1_000
_HUGE = 1e15
MAX_PATHS = 100
"""Of a taxonomy, in one region; each is looked for in the whole tree, and a person picks a few."""
MAX_BROKEN = 10
"""Regions of one control that are passed over: whoever annotates by API may send a hundred thousand."""


def prediction(
    schema: LabelSchema,
    answer: Answer,
    findings: Sequence[Finding],
    model_version: str,
    seed: str,
    *,
    language: Language = "zh",
) -> dict[str, Any]:
    """Return one Label Studio prediction. `score` is the smallest label confidence, absent if no field is a label."""
    result = answer_to_regions(schema, answer, findings, seed=seed, language=language)
    score = answer.score
    return {"model_version": model_version} | ({} if score is None else {"score": score}) | {"result": result}


def answer_to_regions(
    schema: LabelSchema, answer: Answer, findings: Sequence[Finding] = (), *, seed: str, language: Language = "zh"
) -> list[dict[str, Any]]:
    """Return a region for each field that has a value, and with `findings` the review controls' regions.

    The regions' ids follow from `seed` and the control's name, so that the same work done twice is the same result.
    `language` is that of the review reason.
    """
    regions = []
    for field in schema.fields:
        found = answer.fields.get(field.name)
        value = None if found is None else _region_value(field, shown_value(field, found.value))
        if found is None or value is None:
            continue
        region = _region(seed, field.name, field.to_name, _TYPES[type(field)], value)
        if found.confidence is not None:
            region["score"] = found.confidence
        regions.append(region)
    return regions + list(_review_regions(schema, findings, seed, language))


def shown_value(field: Field, value: FieldValue) -> FieldValue:
    """What people are shown of `value`: of a text, its visible characters on one line, cut to a limit; of a number,
    nothing if not every JSON reader takes it."""
    match field:
        case TextField() if isinstance(value, str):
            return visible_text(value, MAX_TEXT_CHARS) or None
        case NumberField() if not (isinstance(value, int | float) and _is_number(value)):
            return None
    return value


def region_id(seed: str, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogatepass")).hexdigest()[:10]


def _review_regions(
    schema: LabelSchema, findings: Sequence[Finding], seed: str, language: Language
) -> Iterator[dict[str, Any]]:
    controls = schema.review
    if controls is None or not findings:
        return
    if controls.flag is not None:
        value = {"choices": [controls.flag.stored]}
        yield _region(seed, controls.flag_name, controls.to_name, "choices", value)
    if controls.reason_name:
        reasons = dict.fromkeys(f.reason if language == "zh" else f.reason_en for f in findings)
        text = visible_text(("；" if language == "zh" else "; ").join(reasons), MAX_REASON_CHARS)
        yield _region(seed, controls.reason_name, controls.to_name, "textarea", {"text": [text]})


_TYPES: dict[type, str] = {
    TextField: "textarea",
    ShortTextField: "textarea",
    ChoicesField: "choices",
    PathChoicesField: "choices",
    TaxonomyField: "taxonomy",
    RatingField: "rating",
    NumberField: "number",
}


def _region(seed: str, name: str, to_name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": region_id(seed, name), "from_name": name, "to_name": to_name, "type": kind, "value": value}


def _region_value(field: Field, value: FieldValue) -> dict[str, Any] | None:
    """`value` as Label Studio stores it; None if there is nothing to store."""
    match field:
        case TextField() if isinstance(value, str):
            return {"text": [value]}
        case ChoicesField() if isinstance(value, tuple):
            stored = {choice.value: choice.stored for choice in field.choices}
            labels = [stored[label] for label in value if isinstance(label, str) and label in stored]
            return {"choices": labels} if labels else None
        case PathChoicesField() if isinstance(value, tuple):
            leaves = [field.label(path) for path in value if isinstance(path, tuple) and field.find(path)]
            return {"choices": leaves[:1]} if leaves else None
        case TaxonomyField() if isinstance(value, tuple):
            nodes = [field.find(path) for path in value if isinstance(path, tuple)]
            paths = [[node.stored for node in path] for path in nodes if path]
            return {"taxonomy": paths} if paths else None
        case RatingField() if isinstance(value, int):
            return {"rating": value}
        case NumberField() if isinstance(value, int | float):
            return {"number": value}
    return None


def regions_to_answer(schema: LabelSchema, regions: Sequence[Mapping[str, Any]]) -> Answer:
    """Return what `regions` (of an annotation or a prediction) say about the fields of `schema`.

    Aliases become values again. Regions of other controls, unknown labels and broken values are passed over; a field
    without a usable region is absent. The last region of a control counts. A region's `score` is its confidence.
    """
    by_name = {field.name: field for field in schema.fields}
    fields: dict[str, FieldAnswer] = {}
    num_broken = Counter[str]()
    for region, field, value in _of_fields(by_name, reversed(regions)):
        if field.name in fields or num_broken[field.name] == MAX_BROKEN:
            continue
        if (read := _field_value(field, value)) is None:
            num_broken[field.name] += 1
        else:
            fields[field.name] = FieldAnswer(read, read_score(region.get("score")))
    return Answer({name: fields[name] for name in by_name if name in fields})


def are_known(schema: LabelSchema, regions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `regions_to_answer` passes over nothing that stands in a field of `schema`: a label that was renamed or
    taken out of the label config since is none of its own, but no empty field either. Of more than MAX_BROKEN regions
    of one field that is not known."""
    by_name = {field.name: field for field in schema.fields if not isinstance(field, TextField)}
    num_looked_at = Counter[str]()
    for _, field, value in _of_fields(by_name, regions):
        num_looked_at[field.name] += 1
        if num_looked_at[field.name] > MAX_BROKEN:
            return False
        content, read = _content(field, value), _field_value(field, value)
        given = content if isinstance(content, list) else [] if content is None else [content]
        num_read = len(read) if isinstance(read, tuple) else int(read is not None)
        if len({repr(item) for item in given}) > num_read:
            return False
    return True


def _of_fields(
    by_name: Mapping[str, Field], regions: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Field, Mapping[str, Any]]]:
    """Regions of these fields, each with its field and its value."""
    for region in regions:
        name = region.get("from_name") if isinstance(region, Mapping) else None
        field = by_name.get(name) if isinstance(name, str) else None
        value = region.get("value") if field is not None else None
        if field is not None and isinstance(value, Mapping):
            yield region, field, value


def _content(field: Field, value: Mapping[str, Any]) -> Any:
    return value.get({"textarea": "text"}.get(_TYPES[type(field)], _TYPES[type(field)]))


def _field_value(field: Field, value: Mapping[str, Any]) -> FieldValue:
    content = _content(field, value)
    match field:
        case TextField():
            lines = [content] if isinstance(content, str) else _strings(content)
            return "\n".join(lines) or None
        case ChoicesField():
            labels = [content] if isinstance(content, str) else _strings(content)
            return tuple(dict.fromkeys(field.values[label] for label in labels if label in field.values)) or None
        case PathChoicesField():
            labels = [content] if isinstance(content, str) else _strings(content)
            if len(labels) > MAX_PATHS:
                return None
            leaves = [tuple(label.split(field.separator)) for label in labels]
            return tuple(dict.fromkeys(leaf for leaf in leaves if field.find(leaf))) or None
        case TaxonomyField():
            if not isinstance(content, list) or len(content) > MAX_PATHS:
                return None
            paths = [_strings(path) for path in content]
            found = [field.find(path, stored=True) or field.find(path) for path in paths]
            return tuple(dict.fromkeys(tuple(node.value for node in nodes) for nodes in found if nodes)) or None
        case RatingField():
            return content if type(content) is int and 1 <= content <= field.max_rating else None
        case NumberField():
            return content if isinstance(content, int | float) and _is_number(content) else None


def _is_number(value: float) -> bool:
    """Not NaN, not infinite, not a bool, and small enough for every JSON reader."""
    return type(value) is not bool and -_HUGE < value < _HUGE


def _strings(content: Any) -> list[str]:
    return [item for item in content if isinstance(item, str)] if isinstance(content, list) else []


def read_score(score: Any) -> float | None:
    """What Label Studio has as a score, which anybody may have imported, as a confidence; None if it is none."""
    return float(score) if isinstance(score, int | float) and _is_number(score) and 0 <= score <= 1 else None
