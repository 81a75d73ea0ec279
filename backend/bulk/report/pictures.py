"""The pictures to look at first, each with its thumbnail, its description, its labels and why it needs review.

A thumbnail is a local file -> JPEG bytes -> a `data:` address. Files are read as everywhere else: size and pixels
checked before anything is decoded. Nothing is fetched from a network. Nothing here raises; what gives no picture gives
None. Every text from outside is as it is to be shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from backend.bulk.report.reasons import Reason, ReasonReader
from backend.bulk.report.rows import Row
from backend.bulk.report.words import ReportWords
from backend.errors import ImageError
from backend.images.apart import Decoders
from backend.images.files import read_file
from backend.images.policy import Limits
from backend.pages.outside import shown, shown_source
from label_config.schema import Field, LabelSchema, TextField

MAX_FIELDS = 24
MAX_LABELS = 8
MAX_REASONS = 12
_CAPTION_CHARS = 240
_TEXT_CHARS = 120
_LABEL_CHARS = 80
_NAME_CHARS = 120
_REASON_CHARS = 160
_SOURCE_CHARS = 400

THUMBNAIL_PX = 176
"""The longer side. Shown smaller, so that it is sharp on a dense screen."""
MAX_THUMBNAIL_BYTES = 60_000
_QUALITY = 82
_LIMITS = Limits(picture_max_pixels=16 * THUMBNAIL_PX**2, seen_pixels=THUMBNAIL_PX**2)
_JPEG = b"\xff\xd8\xff"

Thumbnails = Callable[[str], bytes | None]
"""The `image` of a record -> JPEG bytes, or None. Raises nothing."""


@dataclass(frozen=True, slots=True)
class FieldSaid:
    """`confidence` is 0..1, None of a text. `is_doubtful`: a reason for review is about it."""

    title: str
    said: str
    confidence: float | None = None
    is_text: bool = False
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """`thumbnail` is a `data:` address."""

    name: str
    source: str
    thumbnail: str | None
    score: float | None
    needs_review: bool
    fields: Sequence[FieldSaid]
    caption: str
    reasons: Sequence[str]


def picture(row: Row, schema: LabelSchema, thumbnails: Thumbnails, words: ReportWords) -> Picture:
    """The first description is the caption, the other fields are listed."""
    read = ReasonReader(schema)
    reasons = [read(text) for text in row.reasons[:MAX_REASONS]]
    caption = schema.caption
    rest = [field for field in schema.fields if field is not caption]
    return Picture(
        name=shown(row.image_id, _NAME_CHARS) or shown_source(row.image, _NAME_CHARS),
        source=shown_source(row.image, _SOURCE_CHARS),
        thumbnail=data_address(thumbnails(row.image)) if row.image else None,
        score=row.score,
        needs_review=row.needs_review,
        fields=[said for field in rest[:MAX_FIELDS] for said in _said(row, field, reasons, words)],
        caption=_text(row, caption, _CAPTION_CHARS) if caption else "",
        reasons=[shown(words.review_reason(reason), _REASON_CHARS) for reason in reasons],
    )


def _said(row: Row, field: Field, reasons: Sequence[Reason], words: ReportWords) -> Iterator[FieldSaid]:
    """Nothing of a text that was left empty."""
    title = shown(field.title or field.name, _LABEL_CHARS)
    if isinstance(field, TextField):
        if text := _text(row, field, _TEXT_CHARS):
            yield FieldSaid(title, text, is_text=True)
        return
    values = row.values.get(field.name, ())
    labels = [shown(str(value), _LABEL_CHARS) for value in values[:MAX_LABELS]]
    if len(values) > MAX_LABELS:
        labels.append("…")
    said = words.listed(labels) or words("left_empty")
    is_doubtful = any(reason.field == field.name for reason in reasons)
    yield FieldSaid(title, said, row.confidence.get(field.name), is_doubtful=is_doubtful)


def _text(row: Row, field: TextField, max_chars: int) -> str:
    return shown(" ".join(str(value) for value in row.values.get(field.name, ())), max_chars)


def local_thumbnail(image: str) -> bytes | None:
    """Of a local file; None for an address, and for a file that is gone or no picture."""
    if not image.startswith("/"):
        return None
    try:
        with closing(Decoders(_LIMITS)) as decoders:
            picture = decoders.decode(read_file(Path(image), _LIMITS.max_bytes)).picture
    except (ImageError, TimeoutError):
        return None
    small = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def data_address(jpeg: bytes | None) -> str | None:
    """None for anything but a JPEG of at most `MAX_THUMBNAIL_BYTES`."""
    if jpeg is None or not jpeg.startswith(_JPEG) or len(jpeg) > MAX_THUMBNAIL_BYTES:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
