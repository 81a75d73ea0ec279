"""Which characters a generated text may hold: those a person can see.

Control characters, zero-width characters and direction overrides can hide or reorder text in front of an annotator,
so the grammar does not let the model write them and `visible_text` drops them. Labels are the project's own words
and are never changed by this. Nothing raises.
"""

from __future__ import annotations

import re

# First and last code point: C0, DEL and C1; soft hyphen; Arabic letter mark; Mongolian vowel separator; zero-width
# and direction marks; line and paragraph separators with the overrides after them; isolates and invisible operators;
# surrogates; non-characters and the byte order mark; annotation marks; tag characters, and the last planes' ends.
HIDDEN_RANGES: tuple[tuple[int, int], ...] = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200F), (0x2028, 0x202E),
    (0x2060, 0x206F), (0xFDD0, 0xFDEF), (0xFEFF, 0xFEFF), (0xFFF0, 0xFFFB), (0xFFFE, 0xFFFF), (0xE0000, 0x10FFFF),
)  # fmt: skip

_HIDDEN = re.compile("[\ud800-\udfff" + "".join(f"{chr(low)}-{chr(high)}" for low, high in HIDDEN_RANGES) + "]")
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")


def visible_text(text: str, max_chars: int) -> str:
    """`text` on one line, without hidden characters and outer white space, cut to `max_chars` characters."""
    return _HIDDEN.sub("", _LINE_BREAKS.sub(" ", text)).strip()[:max_chars].rstrip()
