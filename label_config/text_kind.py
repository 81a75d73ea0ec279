"""Is a `<TextArea>` a description of the picture, or a short text: a brand, a model number, what is printed on it.

It is a description where its name, its title, or in their absence its placeholder or hint says so, or where nothing
says what it is. A `maxLength` that no description fits in makes it short, whatever it is called. Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MIN_DESCRIPTION_CHARS = 60  # below this a text cannot say what a description is asked for

_DESCRIPTION = re.compile(
    r"caption|descri(?:be|ption|bing)|(?:^|[^a-z])desc(?:$|[^a-z])|summar(?:y|ise|ize)|描述|说明|說明|文案|介绍|介紹|概述|看图写话|キャプション"
)
_GENERIC = re.compile(
    r"(?:.{1,2}|text ?(?:area|field|box)?|free ?text|txt|output|result|value|response|input|control|field"
    r"|文本|文字|内容)[ \d]*",
)


def is_description(name: str, title: str, others: Iterable[str], max_chars: int | None) -> bool:
    """`title` is the control's own (not that of a section above), `others` its placeholder and hint."""
    if max_chars is not None and max_chars < MIN_DESCRIPTION_CHARS:
        return False
    if says_description(title) or says_description(name):
        return True
    if not _GENERIC.fullmatch(re.sub(r"[\W_]+", " ", name.casefold()).strip()) or title:
        return False
    said = [text for text in others if text]
    return any(map(says_description, said)) if said else True


def says_description(text: str) -> bool:
    """Whether a name or a title is that of a description."""
    return bool(_DESCRIPTION.search(re.sub("[_-]+", " ", text.casefold())))
