"""Records, failures and a summary as a run leaves them; the report of them, and what a reader of its HTML sees."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from backend.bulk.left_out import LeftOutGroup
from backend.bulk.report import Thumbnails, write_report
from backend.bulk.summary import Summary
from backend.pages.words import Language
from backend.predict.record import make_record
from label_config.answer import Answer, FieldAnswer
from label_config.review import review
from label_config.schema import (
    Choice,
    ChoicesField,
    LabelSchema,
    NumberField,
    RatingField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)

LANGUAGES: tuple[Language, ...] = get_args(Language)
SCHEMA = LabelSchema(
    fields=(
        TextField("caption", "image", title="图片描述"),
        TaxonomyField(
            "category",
            "image",
            (TaxonomyNode("服饰", children=(TaxonomyNode("外套"), TaxonomyNode("T恤"))), TaxonomyNode("箱包")),
            title="品类",
        ),
        ChoicesField("season", "image", tuple(map(Choice, ("夏季", "秋冬", "四季"))), multiple=True, title="季节"),
        RatingField("quality", "image", 5, title="画质"),
        NumberField("price", "image", title="价格"),
    ),
    image_name="image",
    image_key="image",
)
SUMMARY = Summary(
    output="out.jsonl",
    sources=("/pictures",),
    model_version="garments-nf4",
    label_config=SCHEMA.fingerprint,
    language="zh",
    num_total=3,
    num_done=3,
    seconds=12.5,
    load_s=2.0,
    price_per_minute=0.06,
    finished_at=1_800_000_000.0,
)
UNREADABLE = LeftOutGroup("folder_unreadable", 1, ("/a (Permission denied)",))
CAPTION = "一件短袖T恤单独展示在纯黑背景上，整体为浅色调，表面纯色，版型修身利落，圆领短袖的剪裁简单大方。"


def answer(confidence: float = 0.9, **values: Any) -> Answer:
    """Every field filled; `values` replaces some of them."""
    filled = {
        "caption": CAPTION,
        "category": (("服饰", "T恤"),),
        "season": ("夏季",),
        "quality": 4,
        "price": 129,
        **values,
    }
    return Answer(
        {name: FieldAnswer(value, None if name == "caption" else confidence) for name, value in filled.items()}
    )


def record(image_id: str = "a", confidence: float = 0.9, image: str = "", **values: Any) -> dict[str, Any]:
    found = answer(confidence, **values)
    findings = review(SCHEMA, found)
    made = make_record(SCHEMA, found, findings, image_id=image_id, model_version="garments-nf4")
    return {**made, "image": image or f"/pictures/{image_id}.jpg"}


def failure(image_id: str, reason: str = "image_corrupt", message: str = "It is damaged.") -> dict[str, Any]:
    return {"image_id": image_id, "image": f"/pictures/{image_id}.jpg", "reason": reason, "message": message}


def lines(path: Path, documents: Iterable[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)
    return path


def report(
    folder: Path,
    records: Iterable[Mapping[str, Any]] = (),
    failures: Iterable[Mapping[str, Any]] = (),
    *,
    schema: LabelSchema = SCHEMA,
    language: Language = "zh",
    thumbnails: Thumbnails | None = None,
    **summary: Any,
) -> str:
    """The page that `write_report` writes."""
    write_report(
        lines(folder / "out.jsonl", records),
        lines(folder / "out.failed.jsonl", failures),
        folder / "report.html",
        schema=schema,
        summary=replace(SUMMARY, **summary),
        language=language,
        thumbnails=thumbnails,
    )
    return (folder / "report.html").read_text(encoding="utf-8")


class Seen(HTMLParser):
    """Element names, attributes, and the text of a page without its style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.style = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.elements.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._open == "style":
            self.style += data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def jpeg(image: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()
