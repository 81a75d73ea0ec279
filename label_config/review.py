"""Rules that say why a person must look at an answer.

They use the answer: what the description says, what is missing, how sure the model was of each label; and how much of
the picture the model saw. Knows no picture and no model. Nothing raises. Reasons are Chinese for annotators, and
English beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from label_config.answer import Answer
from label_config.conditions import shown_fields
from label_config.prompt import Language
from label_config.schema import Field, LabelSchema, ShortTextField, TextField

FindingCode = Literal[
    "uncertain_words",
    "too_short",
    "cut_off",
    "wrong_language",
    "repetition",
    "missing",
    "low_confidence",
    "truncated",
    "very_long",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to look. `field` is the field's name, "" for the answer as a whole."""

    code: FindingCode
    field: str
    reason: str
    reason_en: str


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """`min_confidence` and `min_language_share` are 0..1; `min_text_chars` counts characters in any language.

    `thresholds`: of single fields, by name, in the place of `min_confidence`."""

    language: Language = "zh"
    min_confidence: float = 0.5
    min_text_chars: int = 30
    min_language_share: float = 0.5
    thresholds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """How the model saw the picture. `shape`: longer side / shorter side. `scale`: pixels it saw of each pixel of the
    file, along the longer side."""

    shape: float = 1.0
    scale: float = 1.0


VERY_LONG = 3.0
"""Longer side / shorter side; of longer pictures the model sees a narrow strip, in which details are soon lost."""
MIN_SCALE = 0.25
"""A very long picture of which the model sees fewer pixels than a quarter along the longer side is marked."""

# "背景模糊" and "blurry background" describe a style of photo, not doubt.
_UNCERTAIN = {
    "zh": re.compile(
        r"看不清|看不出|无法判断|无法确定|无法辨认|难以判断|不确定|(?<!背景)(?<!背景略微)(?<!背景略显)模糊"
    ),
    "en": re.compile(
        r"\b(?:unclear|(?:cannot|can not|can't|unable to) (?:tell|determine|see|identify)|not sure|uncertain"
        r"|(?:blurry|blurred)(?! background))\b",
        re.IGNORECASE,
    ),
}
_CJK = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_MAX_CHECKED_CHARS = 4_000
# 2-40 characters, the first a letter or digit, four times in a row; a loop of a model is far longer.
_LOOP = re.compile(r"(?=[^\W_])(.{2,40}?)\1{3}", re.DOTALL)
_CLAUSE_END = re.compile(r"[，。！？；,.!?;\n]+")
_MIN_CLAUSE_CHARS = 6
_MAX_SAME_CLAUSES = 2


def has_chinese(text: str) -> bool:
    return _CJK.search(text) is not None


def review(
    schema: LabelSchema, answer: Answer, options: ReviewOptions | None = None, seen: Seen | None = None
) -> tuple[Finding, ...]:
    """Return what a person should look at: of the whole first, then in the order of the fields; empty if nothing."""
    options = options or ReviewOptions()
    findings: list[Finding] = []
    if answer.truncated:
        findings.append(Finding("truncated", "", "生成被截断，答案不完整", "the answer was cut by the token limit"))
    if seen is not None and seen.shape > VERY_LONG and seen.scale < MIN_SCALE:
        findings.append(
            Finding("very_long", "", "图片过长，细节可能看不清", "The picture is very long: details may not be seen")
        )
    shown = shown_fields(schema, {name: found.value for name, found in answer.fields.items()})
    for field in schema.fields:
        if field.name not in shown:
            continue
        if isinstance(field, TextField):
            findings += _text_findings(field, answer, options)
        else:
            findings += _label_findings(field, answer, options)
    return tuple(findings)


def _label_findings(field: Field, answer: Answer, options: ReviewOptions) -> Iterator[Finding]:
    found = answer.fields.get(field.name)
    threshold = dict(options.thresholds).get(field.name, options.min_confidence)
    if found is None or (found.value is None and field.required):
        yield _finding("missing", field, "缺少标签", "has no label")
    elif found.confidence is not None and found.confidence < threshold:
        share, limit = f"{found.confidence:.0%}", f"{threshold:.0%}"
        yield _finding(
            "low_confidence", field, f"置信度 {share}，低于 {limit}", f"has a confidence of {share}, below {limit}"
        )


def _text_findings(field: TextField, answer: Answer, options: ReviewOptions) -> Iterator[Finding]:
    """A brand may be short, foreign, and absent where it is not required."""
    is_short = isinstance(field, ShortTextField)
    what = "内容" if is_short else "描述"
    found = answer.fields.get(field.name)
    text = found.value if found is not None else None
    if not isinstance(text, str) or not text.strip():
        if field.required or not is_short:
            yield _finding("missing", field, f"缺少{what}", "has no text")
        return
    yield from _cut_off(field, text)
    text = text.strip()[:_MAX_CHECKED_CHARS]
    if doubt := _UNCERTAIN[options.language].search(text):
        yield _finding("uncertain_words", field, f"{what}中出现“{doubt[0]}”", f'says "{doubt[0]}"')
    if not is_short:
        yield from _description_findings(field, text, options)
    if _repeats(text):
        yield _finding("repetition", field, "内容重复" if is_short else "描述内容重复", "repeats itself")


def _description_findings(field: TextField, text: str, options: ReviewOptions) -> Iterator[Finding]:
    low = min(options.min_text_chars, (field.max_chars or _MAX_CHECKED_CHARS) // 2)
    if len(text) < low:
        yield _finding(
            "too_short",
            field,
            f"描述只有 {len(text)} 字，少于 {low} 字",
            f"has {len(text)} characters, fewer than {low}",
        )
    if _is_wrong_language(text, options):
        wanted = {"zh": ("不是中文", "is not in Chinese"), "en": ("含有中文", "contains Chinese")}[options.language]
        yield _finding("wrong_language", field, f"描述{wanted[0]}", wanted[1])


def _cut_off(field: TextField, text: str) -> Iterator[Finding]:
    """A text that ends where the control's limit is may have been cut there."""
    limit = field.limit if isinstance(field, ShortTextField) else field.max_chars
    if limit is not None and len(text) >= limit:
        yield _finding(
            "cut_off", field, f"写满了 {limit} 字，可能不完整", f"fills all its {limit} characters and may be cut off"
        )


def _finding(code: FindingCode, field: Field, reason: str, reason_en: str) -> Finding:
    title = field.title or field.name
    return Finding(code, field.name, f"{title}：{reason}", f"{field.name} {reason_en}")


def _is_wrong_language(text: str, options: ReviewOptions) -> bool:
    if options.language == "en":
        return has_chinese(text)
    num_cjk = len(_CJK.findall(text))
    num_letters = sum(map(str.isalpha, text))
    return num_letters > 0 and num_cjk / num_letters < options.min_language_share


def _repeats(text: str) -> bool:
    if _LOOP.search(text):
        return True
    clauses = [clause.strip() for clause in _CLAUSE_END.split(text)]
    long_clauses = [clause for clause in clauses if len(clause) >= _MIN_CLAUSE_CHARS]
    return any(long_clauses.count(clause) > _MAX_SAME_CLAUSES for clause in set(long_clauses))
