"""Review reasons as records hold them (sentences in Chinese or English), read back into what can be counted and said
in the language of the report: which field, which rule, and the figures in it.

The opposite of `label_config.review`; a test runs every rule through both. A sentence no rule writes stays a text.
Nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from label_config.schema import LabelSchema

# The groups are `found` and `rule` of a Reason.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern))
    for code, pattern in (
        ("truncated", "生成被截断，答案不完整|the answer was cut by the token limit"),
        ("very_long", "图片过长，细节可能看不清|The picture is very long: details may not be seen"),
        ("missing_label", "缺少标签|has no label"),
        ("missing_text", "缺少描述|缺少内容|has no text"),
        ("low_confidence", r"置信度 (\d+%)，低于 (\d+%)"),
        ("low_confidence", r"has a confidence of (\d+%), below (\d+%)"),
        ("uncertain_words", "(?:描述|内容)中出现()“(.{1,40})”"),
        ("uncertain_words", 'says ()"(.{1,40})"'),
        ("too_short", r"描述只有 (\d+) 字，少于 (\d+) 字"),
        ("too_short", r"has (\d+) characters, fewer than (\d+)"),
        ("cut_off", r"写满了() (\d+) 字，可能不完整"),
        ("cut_off", r"fills all its() (\d+) characters and may be cut off"),
        ("not_chinese", "描述不是中文|is not in Chinese"),
        ("not_english", "描述含有中文|contains Chinese"),
        ("repetition", "(?:描述)?内容重复|repeats itself"),
    )
)
CODES = tuple(dict.fromkeys(code for code, _ in _RULES))
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Reason:
    """`field` is a field's name, "" for the whole answer. `found` is what this picture had (a share, a length), `rule`
    what the rule has (a limit, a word). `text` is the sentence itself, of a reason without a `code` only."""

    code: str
    field: str = ""
    found: str = ""
    rule: str = ""
    text: str = ""

    @property
    def group(self) -> Reason:
        """What it has in common with the same reason of other pictures."""
        return replace(self, found="", text=_NUMBER.sub("#", self.text))


class ReasonReader:
    """Knows how a reason names each field of `schema`: by its title in Chinese, by its name in English."""

    def __init__(self, schema: LabelSchema) -> None:
        titled = [(f"{field.title or field.name}：", field.name) for field in schema.fields]
        named = [(f"{field.name} ", field.name) for field in schema.fields]
        self._beginnings = titled + named

    def __call__(self, text: str) -> Reason:
        for beginning, name in self._beginnings:
            if text.startswith(beginning) and (reason := _read(text.removeprefix(beginning), name)):
                return reason
        return _read(text, "") or Reason("", text=text)


def _read(text: str, field: str) -> Reason | None:
    for code, pattern in _RULES:
        if match := pattern.fullmatch(text):
            return Reason(code, field, *match.groups())
    return None
