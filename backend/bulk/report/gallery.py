"""The pictures to look at first, each with its thumbnail, its description, its labels and why it needs review."""

from __future__ import annotations

from collections.abc import Sequence

from backend.bulk.report.reasons import Reason, ReasonReader
from backend.bulk.report.rows import Row
from backend.bulk.report.texts import ReportWords, percent
from backend.bulk.report.thumbnails import Thumbnails, data_address
from backend.bulk.report.visible import shown, shown_source
from backend.pages.markup import Markup, join, tag
from backend.pages.words import number
from label_config.schema import Field, LabelSchema, TextField

NUM_OPEN = 24
"""The others are one click away."""
MAX_FIELDS = 24
MAX_LABELS = 8
MAX_REASONS = 12
_CAPTION_CHARS = 240
_TEXT_CHARS = 120
_LABEL_CHARS = 80
_NAME_CHARS = 120
_REASON_CHARS = 160
_SOURCE_CHARS = 400


def gallery(rows: Sequence[Row], schema: LabelSchema, thumbnails: Thumbnails, words: ReportWords) -> Markup:
    read = ReasonReader(schema)
    shown_rows = [_picture(row, schema, read, thumbnails, words) for row in rows]
    first = tag("div", *shown_rows[:NUM_OPEN], class_="gallery")
    if len(rows) <= NUM_OPEN:
        return first
    summary = tag("summary", words("more_pictures", num=number(len(rows) - NUM_OPEN)), class_="button")
    return join(first, tag("details", summary, tag("div", *shown_rows[NUM_OPEN:], class_="gallery"), class_="more"))


def _picture(row: Row, schema: LabelSchema, read: ReasonReader, thumbnails: Thumbnails, words: ReportWords) -> Markup:
    name = shown(row.image_id, _NAME_CHARS) or shown_source(row.image, _NAME_CHARS)
    reasons = [read(text) for text in row.reasons[:MAX_REASONS]]
    score = [tag("span", percent(row.score), class_="score")] if row.score is not None else []
    head = tag("div", tag("b", name, title=shown_source(row.image, _SOURCE_CHARS)), *score, class_="head")
    texts = [field for field in schema.fields if isinstance(field, TextField)]
    rest = [field for field in schema.fields if not texts or field is not texts[0]]
    labels = [part for field in rest[:MAX_FIELDS] for part in _field(row, field, reasons, words)]
    told = tag("div", head, *([tag("dl", *labels)] if labels else []), class_="told")
    parts = [_frame(row, name, thumbnails, words), told]
    if texts and (caption := _text_of(row, texts[0], _CAPTION_CHARS)):
        parts.append(tag("p", caption))
    if reasons:
        said = (tag("li", shown(words.review_reason(reason), _REASON_CHARS)) for reason in reasons)
        parts.append(tag("ul", *said))
    return tag("article", *parts, class_="picture doubtful" if row.needs_review else "picture")


def _frame(row: Row, name: str, thumbnails: Thumbnails, words: ReportWords) -> Markup:
    address = data_address(thumbnails(row.image)) if row.image else None
    if address is None:
        return tag("div", tag("span", words("no_thumbnail")), class_="frame")
    return tag("div", tag("img", src=address, alt=name, decoding="async"), class_="frame")


def _field(row: Row, field: Field, reasons: Sequence[Reason], words: ReportWords) -> list[Markup]:
    title = tag("dt", shown(field.title or field.name, _LABEL_CHARS))
    if isinstance(field, TextField):
        return [title, tag("dd", text)] if (text := _text_of(row, field, _TEXT_CHARS)) else []
    values = row.values.get(field.name, ())
    labels = [shown(str(value), _LABEL_CHARS) for value in values[:MAX_LABELS]]
    if len(values) > MAX_LABELS:
        labels.append("…")
    share = row.confidence.get(field.name)
    sure = [tag("i", percent(share))] if share is not None else []
    separator = "、" if words.language == "zh" else ", "
    doubtful = any(reason.field == field.name for reason in reasons)
    told = separator.join(labels) or words("left_empty")
    return [title, tag("dd", told, " ", *sure, class_="doubtful" if doubtful else False)]


def _text_of(row: Row, field: TextField, max_chars: int) -> str:
    return shown(" ".join(str(value) for value in row.values.get(field.name, ())), max_chars)
