"""Every sentence the review rules write is recognised in both languages, so that none is lost when rules change."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import pytest

from backend.bulk.report.reasons import CODES, Reason, ReasonReader
from backend.bulk.report.words import GROUPS, REASONS, ReportWords
from label_config.answer import Answer
from label_config.review import FindingCode, ReviewOptions, Seen, review
from label_config.schema import ShortTextField
from tests.backend.bulk import report_rig
from tests.backend.bulk.report_rig import answer

BRAND = ShortTextField("brand", "image", title="品牌", max_chars=10)
SCHEMA = replace(report_rig.SCHEMA, fields=(*report_rig.SCHEMA.fields, BRAND))
TITLES = {field.name: field.title or field.name for field in SCHEMA.fields}
Language = Literal["zh", "en"]
STRIP = Seen(shape=20.0, scale=0.1)
"""How the picture of every case was seen that is about how it was seen."""
CASES: dict[str, tuple[Answer, Language, FindingCode]] = {
    "cut": (Answer(answer().fields, truncated=True), "zh", "truncated"),
    "a field that was lost": (Answer({"caption": answer().fields["caption"]}), "zh", "missing"),
    "a long strip": (answer(), "zh", "very_long"),
    "no text": (answer(caption=None), "zh", "missing"),
    "not sure": (answer(0.384), "zh", "low_confidence"),
    "says it cannot see": (answer(caption="图片看不清，但大概是一件短袖的上衣，适合夏季日常穿着，也适合出门。"), "zh",
                           "uncertain_words"),
    "says it is unclear": (answer(caption="The garment is unclear, but it may be a shirt."), "en", "uncertain_words"),
    "short": (answer(caption="短袖"), "zh", "too_short"),
    "English for Chinese": (answer(caption="A short-sleeved shirt on a black background."), "zh", "wrong_language"),
    "Chinese for English": (answer(), "en", "wrong_language"),
    "no room": (answer(brand="一二三四五六七八九十"), "zh", "cut_off"),
    "a loop": (answer(caption="很好看的衣服" * 12), "zh", "repetition"),
}  # fmt: skip


def test_every_rule_has_a_case() -> None:
    assert {code for *_, code in CASES.values()} == set(get_args(FindingCode))


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_of_the_review_rules_is_read_back_in_both_languages(case: str) -> None:
    found, language, code = CASES[case]
    findings = review(SCHEMA, found, ReviewOptions(language=language), STRIP if code == "very_long" else None)
    assert code in {finding.code for finding in findings}
    read = ReasonReader(SCHEMA)
    for finding in findings:
        reason = read(finding.reason)
        assert reason == read(finding.reason_en)
        assert reason.code in CODES
        assert reason.field == finding.field
        assert not reason.text


def test_what_was_measured_is_read_and_left_out_of_the_group() -> None:
    read = ReasonReader(SCHEMA)
    assert read("品类：置信度 38%，低于 50%") == Reason("low_confidence", "category", "38%", "50%")
    assert read("品类：置信度 38%，低于 50%").group == read("category has a confidence of 4%, below 50%").group
    assert read("图片描述：描述中出现“看不清”") == Reason("uncertain_words", "caption", "", "看不清")
    assert read("图片描述：描述只有 12 字，少于 30 字").group == Reason("too_short", "caption", "", "30")


@pytest.mark.parametrize(
    "text", ["", "品类：", "品类：缺少标签了", "其他：缺少标签", "looked odd at 12.5 s", "：缺少标签"]
)
def test_any_other_sentence_stays_what_it_is(text: str) -> None:
    assert ReasonReader(SCHEMA)(text) == Reason("", text=text)


def test_other_sentences_are_one_group_if_only_their_numbers_differ() -> None:
    read = ReasonReader(SCHEMA)
    assert read("looked odd at 12.5 s").group == read("looked odd at 3 s").group


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_reason_is_said_in_both_languages(language: Language) -> None:
    words = ReportWords(language, TITLES)
    assert set(REASONS) == set(GROUPS) == set(CODES)
    for code in CODES:
        reason = Reason(code, "category", "38%", "50%")
        assert words.review_reason(reason).startswith(("品类：", "品类: "))
        assert "38%" not in words.review_reason(reason.group, group=True)
    assert words.review_reason(Reason("truncated")) == REASONS["truncated"][language == "en"]
