"""The rules that send an answer to a person."""

from __future__ import annotations

import pytest

from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.parse import parse_label_config
from label_config.review import ReviewOptions, Seen, review
from label_config.schema import LabelSchema
from tests.label_config.configs import CAPTION, EVERYTHING, choices, view

SCHEMA = parse_label_config(EVERYTHING)
GOOD_ZH = "一条红色雪纺连衣裙，V领短袖，腰部系带，裙摆飘逸，背景为浅灰色摄影棚，整体氛围清新优雅。"
GOOD_EN = "A red chiffon dress with a V-neck and short sleeves, photographed on a light grey background."
ENGLISH = ReviewOptions(language="en")


def _schema(*extra: str) -> LabelSchema:
    return parse_label_config(view(CAPTION, *extra))


def _codes(text: FieldValue, options: ReviewOptions | None = None) -> list[str]:
    return [f.code for f in review(_schema(), Answer({"caption": FieldAnswer(text)}), options)]


@pytest.mark.parametrize(
    ("shape", "scale", "marked"),
    [
        pytest.param(19.5, 0.12, True, id="long screenshot"),
        pytest.param(19.5, 0.25, False, id="long, seen at a quarter"),
        pytest.param(10, 1.2, False, id="long and small"),
        pytest.param(3.01, 0.2, True, id="just very long"),
        pytest.param(3, 0.1, False, id="panorama 3:1"),
        pytest.param(4 / 3, 0.05, False, id="camera"),
    ],
)
def test_a_very_long_picture_seen_too_small_is_marked(shape: float, scale: float, marked: bool) -> None:
    findings = review(_schema(), Answer({"caption": FieldAnswer(GOOD_ZH)}), None, Seen(shape, scale))
    assert [(f.code, f.field, f.reason) for f in findings] == [("very_long", "", "图片过长，细节可能看不清")] * marked


def test_a_good_answer_has_no_finding() -> None:
    assert _codes(GOOD_ZH) == []
    assert _codes(GOOD_EN, ENGLISH) == []


@pytest.mark.parametrize("words", ["看不清", "无法判断", "不确定", "模糊"])
def test_words_of_doubt_are_found_in_chinese(words: str) -> None:
    findings = review(_schema(), Answer({"caption": FieldAnswer(GOOD_ZH + f"材质{words}。")}))
    assert [f.code for f in findings] == ["uncertain_words"]
    assert findings[0].reason == f"caption：描述中出现“{words}”"


@pytest.mark.parametrize(
    "words", ["unclear", "Cannot tell", "can't determine", "not sure", "blurry", "cannot determine"]
)
def test_words_of_doubt_are_found_in_english(words: str) -> None:
    assert _codes(f"{GOOD_EN} The material is: {words}.", ENGLISH) == ["uncertain_words"]


@pytest.mark.parametrize(
    ("text", "options"),
    [(GOOD_ZH + "背景模糊。", None), (GOOD_EN + " Blurry background.", ENGLISH), (GOOD_EN + " Nuclear red.", ENGLISH)],
    ids=["blurred background", "blurred background in English", "part of a word"],
)
def test_words_that_only_look_like_doubt_are_not_found(text: str, options: ReviewOptions | None) -> None:
    assert _codes(text, options) == []


def test_a_short_description_is_found() -> None:
    assert _codes("红色连衣裙，清新优雅，背景简洁大方美观") == ["too_short"]
    assert _codes(GOOD_ZH, ReviewOptions(min_text_chars=200)) == ["too_short"]
    assert _codes(GOOD_ZH[:30]) == []
    assert _codes(GOOD_ZH[:29]) == ["too_short"]


@pytest.mark.parametrize("value", [None, "", "   "], ids=["null", "empty", "blank"])
def test_a_missing_description_is_found(value: str | None) -> None:
    assert _codes(value) == ["missing"]


def test_a_description_that_was_cut_away_is_found() -> None:
    findings = review(_schema(), Answer({}, truncated=True))
    assert [(f.code, f.field) for f in findings] == [("truncated", ""), ("missing", "caption")]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (GOOD_EN, None),
        ("这是 " + GOOD_EN, None),
        (GOOD_EN + " 红色", ENGLISH),
        (GOOD_ZH, ENGLISH),
    ],
    ids=["English for Chinese", "mostly English for Chinese", "some Chinese for English", "Chinese for English"],
)
def test_the_wrong_language_is_found(text: str, options: ReviewOptions | None) -> None:
    assert _codes(text, options) == ["wrong_language"]


def test_foreign_brand_names_are_no_wrong_language() -> None:
    assert _codes(GOOD_ZH + "品牌为 Nike Air Max。") == []
    assert _codes(GOOD_EN + " Café, naïve, ¥100.", ENGLISH) == []


@pytest.mark.parametrize(
    "text",
    [
        GOOD_ZH[:30] + "红色" * 40,
        GOOD_ZH[:30] + "啊" * 40,
        GOOD_ZH[:30] + "裙摆飘逸动人，腰部系带，" * 10,
        "整体氛围清新优雅，红色短袖连衣裙，整体氛围清新优雅，腰部有系带，整体氛围清新优雅。",
    ],
    ids=["word", "letter", "two clauses", "clause three times"],
)
def test_an_endless_loop_is_found(text: str) -> None:
    assert _codes(text) == ["repetition"]


def test_ellipses_and_rules_are_no_loop() -> None:
    assert _codes(GOOD_ZH + "…" * 20 + "-" * 20) == []


def test_a_long_text_is_checked_in_bounded_time() -> None:
    assert "too_short" not in _codes("ab" * 3 + "".join(chr(0x4E00 + n % 5_000) for n in range(1_000_000)))


@pytest.mark.parametrize(
    ("confidence", "threshold", "found"),
    [(0.49, 0.5, True), (0.5, 0.5, False), (0.9, 0.95, True), (0.0, 0.0, False)],
    ids=["below", "at", "below a stricter one", "none wanted"],
)
def test_a_label_below_the_threshold_is_found(confidence: float, threshold: float, found: bool) -> None:
    schema = parse_label_config(view('<Header value="风格"/>', choices("a", "b")))
    findings = review(
        schema, Answer({"style": FieldAnswer(("a",), confidence)}), ReviewOptions(min_confidence=threshold)
    )
    assert [f.code for f in findings] == (["low_confidence"] if found else [])
    assert not found or findings[0].reason.startswith(f"风格：置信度 {confidence:.0%}，低于 {threshold:.0%}")


def test_a_missing_label_is_found_unless_leaving_it_empty_is_allowed() -> None:
    optional, required = (_schema(choices("a", attributes=f'required="{flag}"')) for flag in ("false", "true"))
    caption = FieldAnswer(GOOD_ZH)
    empty = Answer({"caption": caption, "style": FieldAnswer(None, 0.9)})
    assert review(optional, empty) == ()
    assert [(f.code, f.field) for f in review(required, empty)] == [("missing", "style")]
    assert [(f.code, f.field) for f in review(optional, Answer({"caption": caption}))] == [("missing", "style")]


def test_reasons_are_given_in_both_languages_and_in_the_order_of_the_fields() -> None:
    answer = Answer({"caption": FieldAnswer("红裙"), "style": FieldAnswer(("简约",), 0.1)}, truncated=True)
    findings = review(SCHEMA, answer)
    fields = [f.field for f in findings]
    assert fields == ["", "caption", "category", "style", "season", "quality", "price"]
    assert all(f.reason and f.reason_en.isascii() for f in findings)
