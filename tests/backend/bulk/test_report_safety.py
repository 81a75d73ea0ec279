"""Whatever a run's files hold, the report shows it as text, loads nothing, and leads nowhere."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.left_out import LeftOutGroup
from backend.pages.words import Language
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
from tests.backend.bulk.report_rig import LANGUAGES, SCHEMA, Seen, failure, jpeg, record, report

HOSTILE = "\" onmouseover='alert(1)' x=\"&lt;</title></script></style><img src=//evil.example onerror=alert(2)>\u202e"
SHOWN = HOSTILE.removesuffix("\u202e")
_NAMES = (
    "html head meta link title style body div header nav h1 h2 h3 h4 a span small dl dt dd section svg g rect "
    "figure figcaption table colgroup col thead tbody tr th td ul li i b p article img details summary footer"
)
ELEMENTS = set(_NAMES.split())


def hostile_report(folder: Path, language: Language) -> str:
    strange: dict[str, Any] = {"fields": {field.name: [HOSTILE, 3.5, HOSTILE] for field in SCHEMA.fields}}
    strange |= {"review_reasons": [HOSTILE, f"品类：{HOSTILE}"], "model_version": HOSTILE, "needs_review": True}
    return report(
        folder,
        [{**record(HOSTILE, image=f"/pictures/{HOSTILE}"), **strange}, record("\udce9\ud800", image="https://\udcff")],
        [failure(HOSTILE, HOSTILE, HOSTILE), failure("b", "", HOSTILE)],
        language=language,
        thumbnails=jpeg,
        output=HOSTILE,
        sources=(HOSTILE, "\udce9"),
        model_version=HOSTILE,
        left_out=(LeftOutGroup("row_unusable", 1, (HOSTILE,)),),
        state="stopped",
        num_total=None,
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_texts_are_shown_as_texts(tmp_path: Path, language: Language) -> None:
    page = hostile_report(tmp_path, language)
    seen = Seen(page)
    assert seen.elements <= ELEMENTS
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert seen.text.count(SHOWN) >= 8
    assert not re.search("[\ud800-\udfff\u202e]", page)


@pytest.mark.parametrize("kept", ["title", "no title"])
def test_hostile_names_of_fields_and_labels_are_shown_as_texts(tmp_path: Path, kept: str) -> None:
    choices = tuple(Choice(f"{HOSTILE}{number}") for number in range(3))
    nodes = (TaxonomyNode(HOSTILE, children=(TaxonomyNode(HOSTILE),)),)
    fields = (
        TextField("1" + HOSTILE, "image"),
        TextField("2" + HOSTILE, "image"),
        ChoicesField("3" + HOSTILE, "image", choices, multiple=True),
        TaxonomyField("4" + HOSTILE, "image", nodes),
        RatingField("5" + HOSTILE, "image"),
        NumberField("6" + HOSTILE, "image"),
    )
    if kept == "title":
        fields = tuple(replace(field, title=HOSTILE) for field in fields)
    values = {field.name: value for field, value in zip(fields, (None, HOSTILE, [], HOSTILE, 5, 7), strict=True)}
    made = {**record(), "fields": values, "confidence": dict.fromkeys(values, 0.5), "needs_review": True}
    made["review_reasons"] = [f"{HOSTILE}：缺少标签", f"3{HOSTILE} has no label", HOSTILE]
    page = report(tmp_path, [made], schema=LabelSchema(fields, "image", "image"))
    seen = Seen(page)
    assert seen.elements <= ELEMENTS
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert seen.text.count(SHOWN) >= 15
    assert "\u202e" not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_loaded_and_nothing_leads_out(tmp_path: Path, language: Language) -> None:
    seen = Seen(hostile_report(tmp_path, language))
    assert not seen.elements & {"script", "form", "iframe", "object", "base"}
    for tag, name, value in seen.attributes:
        if name in ("href", "src", "xlink:href", "action", "srcset"):
            assert value.startswith(("#", "data:image/jpeg;base64,")) or (tag, value) == ("link", "data:,")
    assert not re.search(r"@import|url\(|https?:", seen.style)


def test_the_policy_allows_this_style_and_pictures_inside_the_page_only(tmp_path: Path) -> None:
    seen = Seen(report(tmp_path, [record()]))
    (policy,) = [value for tag, name, value in seen.attributes if (tag, name) == ("meta", "content") if "src" in value]
    digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_an_address_is_shown_without_its_secrets(tmp_path: Path) -> None:
    secret = "https://user:pass@pictures.example/1.jpg?X-Amz-Signature=abcdef"
    page = report(tmp_path, [record(image=secret)], [{**failure("b"), "image": secret}], sources=(secret,))
    assert "pictures.example/1.jpg" in page
    assert "abcdef" not in page
    assert "pass@" not in page
