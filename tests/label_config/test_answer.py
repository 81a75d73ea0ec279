"""Tokens back to an answer: values, confidences, and what a cut leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from label_config.answer import Answer, FieldAnswer, FieldValue, parse_answer, render_answer
from label_config.errors import MalformedAnswer
from label_config.parse import parse_label_config
from tests.label_config.configs import CAPTION, EVERYTHING, choices, view

SCHEMA = parse_label_config(EVERYTHING)
VALUES: Mapping[str, FieldValue] = {
    "category": (("服饰", "女装", "连衣裙"),),
    "style": ("简约", "甜美"),
    "season": None,
    "quality": 4,
    "price": 12.5,
    "caption": '一件"红"\\裙。',
}
TEXT = render_answer(SCHEMA, VALUES)
STYLE = parse_label_config(view(choices("a", "b"), '<Rating name="stars" toName="image"/>'))


def _read(text: str, *, truncated: bool = False) -> Answer:
    pieces = [bytes([byte]) for byte in text.encode()]
    return parse_answer(SCHEMA, pieces, [1.0] * len(pieces), truncated=truncated)


def _values(answer: Answer) -> dict[str, FieldValue]:
    return {name: field.value for name, field in answer.fields.items()}


def test_what_is_rendered_is_read_back() -> None:
    answer = _read(TEXT)
    assert _values(answer) == VALUES
    assert not answer.truncated


def test_confidence_is_the_product_over_the_tokens_that_touch_the_value() -> None:
    pieces = [b'{"style":', b'"', b"a", b'","sta', b'rs"', b":3", b"}"]
    answer = parse_answer(STYLE, pieces, [0.1, 0.5, 0.5, 0.8, 0.1, 0.9, 0.3], truncated=False)
    assert answer.fields["style"] == FieldAnswer(("a",), 0.5 * 0.5 * 0.8)
    assert answer.fields["stars"] == FieldAnswer(3, 0.9 * 0.3)
    assert answer.score == 0.5 * 0.5 * 0.8


NUMBERS = {
    "a number before another field": (f'<Number name="a" toName="image"/>{CAPTION}', [b"1", b',"'], b'caption":"x"}'),
    "a number at the end": ('<Number name="a" toName="image"/>', [b"1", b"}"], b""),
    "a negative number": ('<Number name="a" toName="image"/>', [b"-1", b"}"], b""),
    "a number with a point": ('<Number name="a" toName="image"/>', [b"1.5", b"}"], b""),
    "a rating of ten stars": ('<Rating name="a" toName="image" maxRating="10"/>', [b"1", b"}"], b""),
}


@pytest.mark.parametrize(("controls", "pieces", "rest"), NUMBERS.values(), ids=NUMBERS.keys())
def test_a_number_is_as_certain_as_its_digits_and_its_end(controls: str, pieces: list[bytes], rest: bytes) -> None:
    schema = parse_label_config(view(controls))
    answer = parse_answer(schema, [b'{"a":', *pieces, rest], [1.0, 0.9, 0.5, 0.1], truncated=False)
    assert answer.fields["a"].confidence == 0.9 * 0.5


def test_one_token_over_two_values_counts_once_for_each() -> None:
    answer = parse_answer(STYLE, [b'{"style":"a","stars":3}'], [0.25], truncated=False)
    assert {field.confidence for field in answer.fields.values()} == {0.25}


def test_null_has_the_probability_of_saying_null() -> None:
    pieces = [b'{"style":', b"null", b',"stars":', b"nu", b"ll", b"}"]
    answer = parse_answer(STYLE, pieces, [1.0, 0.75, 1.0, 0.5, 0.5, 1.0], truncated=False)
    assert answer.fields == {"style": FieldAnswer(None, 0.75), "stars": FieldAnswer(None, 0.25)}


def test_a_text_has_no_confidence_and_does_not_lower_the_score() -> None:
    pieces = [TEXT[:-4].encode(), TEXT[-4:].encode()]
    answer = parse_answer(SCHEMA, pieces, [0.9, 0.1], truncated=False)
    assert answer.fields["caption"].confidence is None
    assert answer.score == 0.9


def test_a_piece_may_end_inside_a_character_and_empty_pieces_count_for_nothing() -> None:
    data = TEXT.encode()
    middle = data.index("连".encode()) + 1
    answer = parse_answer(SCHEMA, [b"", data[:middle], b"", data[middle:]], [0.0, 0.5, 0.0, 0.5], truncated=False)
    assert answer.fields["category"].confidence == 0.25


@pytest.mark.parametrize("probability", [math.nan, math.inf, -1.0, 2.0], ids=str)
def test_a_broken_probability_never_leaves_0_to_1(probability: float) -> None:
    answer = parse_answer(STYLE, [b'{"style":"a","stars":3}'], [probability], truncated=False)
    assert answer.score in (0.0, 1.0)


def test_pieces_and_probabilities_must_match() -> None:
    with pytest.raises(ValueError, match="2 token pieces but 1 probabilities"):
        parse_answer(STYLE, [b"{", b"}"], [1.0], truncated=False)


CUTS = {
    "inside the first path": ('{"category":["服饰"', None),
    "after the first value": ('{"category":["服饰","女装","连衣裙"]', ["category"]),
    "inside the next key": ('{"category":["服饰","女装","连衣裙"],"sty', ["category"]),
    "after the next key": ('{"category":["服饰","女装","连衣裙"],"style":', ["category"]),
    "inside null": (TEXT.split("ll")[0], ["category", "style"]),
    "inside the last number": (TEXT.split(".5")[0], ["category", "style", "season", "quality"]),
    "after a point": (TEXT.split("5,")[0], ["category", "style", "season", "quality"]),
    "at the quote of the text": (TEXT.split("一")[0], ["category", "style", "season", "quality", "price"]),
    "nothing": ("", None),
    "only the brace": ("{", None),
}


@pytest.mark.parametrize(("text", "names"), CUTS.values(), ids=CUTS.keys())
def test_a_cut_answer_keeps_the_complete_fields(text: str, names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(MalformedAnswer):
            _read(text, truncated=True)
        return
    answer = _read(text, truncated=True)
    assert answer.truncated
    assert _values(answer) == {name: VALUES[name] for name in names}


@pytest.mark.parametrize(
    ("end", "caption"),
    [("一件", "一件"), ('一件\\"红', '一件"红'), ("一件\\", "一件"), ("一件\\\\", "一件\\"), ("一件\\u4e", "一件"),
     ("一\\ud83d", "一"), ("一件。", "一件。")],
    ids=["plain", "escaped quote", "half an escape", "escaped backslash", "half a code", "half a pair", "sentence"],
)  # fmt: skip
def test_a_cut_text_is_kept_as_far_as_it_goes(end: str, caption: str) -> None:
    answer = _read(TEXT.split("一")[0] + end, truncated=True)
    assert answer.truncated
    assert answer.fields["caption"] == FieldAnswer(caption)


def test_a_cut_inside_a_character_drops_that_character() -> None:
    data = TEXT.encode()[: TEXT.encode().index("红".encode()) + 2]
    answer = parse_answer(SCHEMA, [data], [1.0], truncated=True)
    assert answer.fields["caption"].value == '一件"'


def test_a_limit_reached_with_the_last_token_cuts_nothing() -> None:
    assert _read(TEXT, truncated=True) == _read(TEXT)


MALFORMED = {
    "no JSON": "I see a dress.",
    "a list": "[]",
    "an empty object": "{}",
    "cut, though not by the limit": TEXT[:-1],
    "text after the end": TEXT + " ok",
    "unknown key": '{"colour":"red"}',
    "a key twice": '{"season":null,"season":null}',
    "unknown label": TEXT.replace("简约", "朋克"),
    "alias for value": TEXT.replace('"season":null', '"season":"summer"'),
    "label twice": TEXT.replace("甜美", "简约"),
    "list for one label": TEXT.replace('"season":null', '"season":["夏季"]'),
    "one label for a list": TEXT.replace('["简约","甜美"]', '"简约"'),
    "empty list": TEXT.replace('["简约","甜美"]', "[]"),
    "path that is none": TEXT.replace("服饰", "家居"),
    "inner node of a tree of leaves": TEXT.replace(',"连衣裙"', ""),
    "list of paths for one": TEXT.replace('["服饰","女装","连衣裙"]', '[["服饰","女装","连衣裙"]]'),
    "rating too high": TEXT.replace('"quality":4', '"quality":6'),
    "rating of truth": TEXT.replace('"quality":4', '"quality":true'),
    "rating with a point": TEXT.replace('"quality":4', '"quality":4.0'),
    "number too high": TEXT.replace("12.5", "1200"),
    "not a number": TEXT.replace("12.5", "NaN"),
    "infinite": TEXT.replace("12.5", "1e999"),
    "too many digits": TEXT.replace("12.5", "9" * 5_000),
    "more than a float holds": TEXT.replace("12.5", "9" * 400),
    "number for text": '{"caption":5}',
    "too deep": '{"caption":' + "[" * 100_000,
    "line break in a text": '{"caption":"a\nb"}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_answer_to_the_schema_is_refused(text: str) -> None:
    with pytest.raises(MalformedAnswer):
        _read(text)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    for truncated in (False, True):
        with pytest.raises(MalformedAnswer, match="not UTF-8"):
            parse_answer(SCHEMA, [b'{"caption":"\xff', b'x"}'], [1.0, 1.0], truncated=truncated)
