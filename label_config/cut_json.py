"""The members of a JSON object, with their places in the text, even if the text ends in the middle.

Knows nothing of answers or schemas. Raises MalformedAnswer where the text is no JSON object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from label_config.errors import MalformedAnswer

_SPACE = re.compile(r"[ \t\n\r]*")
_REST_OF_NUMBER = re.compile(r"[0-9.eE+-]*\Z")
_CUT_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")


@dataclass(frozen=True, slots=True)
class Member:
    """One key and value; characters `start` to `end` are the value. `closed`: nothing of it can be missing."""

    key: str
    value: Any
    start: int
    end: int
    closed: bool = True


def members(text: str, truncated: bool) -> Iterator[Member | None]:
    """The members of the JSON object `text`, then None; without that None if the text is cut."""
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        _refuse_text(position)
    position = _skip(text, position + 1)
    if text[position : position + 1] == "}":
        yield None
        return
    while True:
        try:
            member = _member(text, position)
        except (ValueError, RecursionError):
            if not truncated:
                _refuse_text(position)
            if cut := _cut_member(text, position):
                yield cut
            return
        position = _skip(text, member.end)
        mark = text[position : position + 1]
        is_number = isinstance(member.value, int | float) and not isinstance(member.value, bool)
        if truncated and is_number and _REST_OF_NUMBER.match(text, position):
            return  # its digits may have gone on
        if truncated and mark == "":
            yield member
            return
        yield member
        if mark == "}":
            if _skip(text, position + 1) != len(text):
                raise MalformedAnswer("There is text after the end of the answer.")
            yield None
            return
        if mark != ",":
            _refuse_text(position)
        position = _skip(text, position + 1)


def _member(text: str, position: int) -> Member:
    key, position = _key(text, position)
    value, end = _DECODER.raw_decode(text, position)
    return Member(key, value, position, end)


def _key(text: str, position: int) -> tuple[str, int]:
    key, position = _DECODER.raw_decode(text, position)
    position = _skip(text, position)
    if not isinstance(key, str) or text[position : position + 1] != ":":
        raise ValueError("no key")
    return key, _skip(text, position + 1)


def _cut_member(text: str, position: int) -> Member | None:
    """The member at `position` if it is a string that never closes: what there is of it."""
    try:
        key, start = _key(text, position)
        if text[start : start + 1] != '"':
            return None
        content = _CUT_ESCAPE.sub(r"\1", text[start + 1 :])
        value = json.loads(f'"{content}"', strict=False)
    except (ValueError, RecursionError):
        return None
    return Member(key, value, start, len(text), closed=False)


def _refuse_text(position: int) -> NoReturn:
    raise MalformedAnswer(f"The generated text is not an answer: unexpected text at character {position}.")


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
