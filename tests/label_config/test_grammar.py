"""The grammar admits what `render_answer` writes of a legal answer, and nothing else."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from llguidance import LLMatcher

from label_config.answer import FieldValue, render_answer
from label_config.errors import UnsupportedConfig
from label_config.grammar import answer_grammar, text_slices
from label_config.parse import parse_label_config
from label_config.schema import LabelSchema
from tests.label_config.byte_model import TOKENIZER, admits, matcher
from tests.label_config.configs import CAPTION, EVERYTHING, choice, choices, view

LEGAL: dict[str, FieldValue] = {
    "caption": "一件红色连衣裙。",
    "category": (("服饰", "女装", "连衣裙"),),
    "style": ("简约", "甜美"),
    "season": ("夏季",),
    "quality": 4,
    "price": 12.5,
}


@cache
def _everything() -> tuple[LabelSchema, str]:
    schema = parse_label_config(EVERYTHING)
    return schema, answer_grammar(schema, text_max_chars=20)


@cache
def _of(xml: str, text_max_chars: int = 20) -> tuple[LabelSchema, str]:
    schema = parse_label_config(xml)
    return schema, answer_grammar(schema, text_max_chars=text_max_chars)


def test_the_answer_is_one_compact_line_with_labels_first() -> None:
    schema, grammar = _everything()
    text = render_answer(schema, LEGAL)
    assert text == (
        '{"category":["服饰","女装","连衣裙"],"style":["简约","甜美"],"season":"夏季","quality":4,"price":12.5,'
        '"caption":"一件红色连衣裙。"}'
    )
    assert admits(grammar, text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("category", (("家居", "沙发"),)),
        ("style", ("复古",)),
        ("style", ("简约", "复古", "甜美")),
        ("season", None),
        ("quality", None),
        ("quality", 1),
        ("price", 0),
        ("price", 99.5),
        ("caption", "字" * 20),
        ("caption", '"' * 20),
        ("caption", "\\"),
        ("caption", "a  b / <img src=x onerror=alert(1)>"[:20]),
        ("caption", "=cmd|'/C calc'!A0"),
        ("caption", "😀🈶é ع"),
    ],
)
def test_a_legal_value_is_admitted(field: str, value: FieldValue) -> None:
    schema, grammar = _everything()
    assert admits(grammar, render_answer(schema, {**LEGAL, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("category", None),
        ("category", (("服饰", "女装"),)),
        ("category", (("服饰",),)),
        ("category", (("服饰", "沙发"),)),
        ("category", (("连衣裙",),)),
        ("category", (("home", "sofa"),)),
        ("style", None),
        ("style", ()),
        ("style", ("简约", "简约")),
        ("style", ("甜美", "简约")),
        ("style", ("朋克",)),
        ("season", ("summer",)),
        ("season", ("夏",)),
        ("quality", 0),
        ("quality", 6),
        ("quality", 4.5),
        ("price", 100),
        ("price", 0.25),
        ("price", -0.5),
        ("caption", None),
        ("caption", ""),
        ("caption", " 字"),
        ("caption", "字" * 21),
        ("caption", "a\nb"),
        ("caption", "a\tb"),
        ("caption", "a\x7fb"),
        ("caption", "a\x85b"),
        ("caption", "a\u200bb"),
        ("caption", "a\u202eb"),
        ("caption", "a\u2066b"),
        ("caption", "a\u2028b"),
        ("caption", "\ufeffa"),
        ("caption", "a\U000e0041"),
    ],
)
def test_an_illegal_value_is_not_admitted(field: str, value: FieldValue) -> None:
    schema, grammar = _everything()
    assert not admits(grammar, render_answer(schema, {**LEGAL, field: value}))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(":", ": ", 1),
        lambda text: text + " ",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:-1],
        lambda text: text.replace("一", r"\u4e00"),
        lambda text: text.replace("。", r"\/"),
        lambda text: text.replace("4", "4.0"),
        lambda text: "```json\n" + text,
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), ensure_ascii=False, separators=(",", ":")),
    ],
    ids=["space", "space after", "line after", "space before", "cut", "escaped letter", "escaped slash", "float",
         "fenced", "other order"],
)  # fmt: skip
def test_the_text_has_one_form(change: Any) -> None:
    schema, grammar = _everything()
    assert not admits(grammar, change(render_answer(schema, LEGAL)))


def test_after_the_answer_only_the_end_is_allowed() -> None:
    schema, grammar = _everything()
    made = matcher(grammar)
    assert made.consume_tokens(list(render_answer(schema, LEGAL).encode()))
    assert int.from_bytes(made.compute_bitmask(), "little") == 1 << 256


def test_keys_and_labels_are_literals_whatever_they_hold() -> None:
    awkward = [
        '"',
        "\\",
        "a\nb",
        ".*",
        "[a-z]",
        "%json",
        "/x/",
        "{}",
        "$",
        "😀",
        "\x7f",
        "<|im_end>",
        "null",
        "\\u0041",
    ]
    xml = view(choices(*awkward, name='na"me\\ [x]'.replace('"', "&quot;")))
    schema, grammar = _of(xml)
    for label in awkward:
        assert admits(grammar, render_answer(schema, {schema.fields[0].name: (label,)}))
    assert not admits(grammar, render_answer(schema, {schema.fields[0].name: ("xx",)}))


_TREE = choice("A", inner=choice("A1") + choice("A2", inner=choice("A2x"))) + choice("B")


@pytest.mark.parametrize(
    ("attributes", "legal", "illegal"),
    [
        (
            "",
            [(("A",),), (("A", "A2"),), (("A", "A2", "A2x"),), (("B",),)],
            [(("A2",),), (("A", "B"),), (("B", "A1"),)],
        ),
        ('leafsOnly="true"', [(("A", "A1"),), (("B",),)], [(("A",),), (("A", "A2"),)]),
        (
            'maxUsages="2" leafsOnly="true"',
            [(("A", "A1"),), (("A", "A1"), ("B",)), (("A", "A1"), ("A", "A2", "A2x"))],
            [
                (("B",), ("A", "A1")),
                (("B",), ("B",)),
                (("A", "A1"), ("A", "A2", "A2x"), ("B",)),
                (("A",), ("B",)),
                (),
            ],
        ),
    ],
    ids=["every node", "leaves only", "two paths"],
)
def test_a_taxonomy_answer_is_a_path_of_the_tree(attributes: str, legal: list[Any], illegal: list[Any]) -> None:
    schema, grammar = _of(view(f'<Taxonomy name="t" toName="image" {attributes}>{_TREE}</Taxonomy>'))
    for value in [*legal, None]:
        assert admits(grammar, render_answer(schema, {"t": value})), value
    for value in illegal:
        assert not admits(grammar, json.dumps({"t": value}, separators=(",", ":"))), value
        assert not value or not admits(grammar, render_answer(schema, {"t": value})), value


def test_the_shorter_of_two_text_limits_counts() -> None:
    xml = view(CAPTION, '<TextArea name="short" toName="image" maxLength="3"/>')
    schema, grammar = _of(xml, 5)
    assert admits(grammar, render_answer(schema, {"caption": "五五五五五", "short": "三三三"}))
    assert not admits(grammar, render_answer(schema, {"caption": "五五五五五", "short": "四四四四"}))
    assert not admits(grammar, render_answer(schema, {"caption": "六六六六六六", "short": "三"}))


def test_the_slices_speed_masks_up_and_change_none() -> None:
    schema, grammar = _everything()
    plain = LLMatcher(TOKENIZER.with_slices([]), grammar)
    sliced = LLMatcher(TOKENIZER.with_slices(text_slices()), grammar)
    for byte in render_answer(schema, LEGAL).encode():
        assert sliced.compute_bitmask() == plain.compute_bitmask()
        assert sliced.consume_token(byte)
        assert plain.consume_token(byte)
    assert not sliced.is_error()


@pytest.mark.parametrize("limit", [0, -1, 8_001], ids=str)
def test_a_text_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(UnsupportedConfig, match="text limit"):
        answer_grammar(parse_label_config(view(CAPTION)), text_max_chars=limit)


def _big_tree() -> str:
    return "".join(
        choice(
            f"一级{a}",
            inner="".join(
                choice(f"二级{a}-{b}", inner="".join(choice(f"三级{a}-{b}-{c}") for c in range(10))) for b in range(20)
            ),
        )
        for a in range(50)
    )


LABELS = [f"标签-{number:05d}" for number in range(10_000)]
BIG: dict[str, tuple[str, FieldValue, int]] = {
    "10,000 choices": (choices(*LABELS), (LABELS[7_777],), 300_000),
    "10,000 choices, several": (choices(*LABELS, attributes='choice="multiple"'), tuple(LABELS[::3_000]), 1_300_000),
    "10,000 leaves": (
        f'<Taxonomy name="style" toName="image" leafsOnly="true">{_big_tree()}</Taxonomy>',
        (("一级49", "二级49-19", "三级49-19-9"),),
        500_000,
    ),
    "10,000 leaves, five paths": (
        f'<Taxonomy name="style" toName="image" leafsOnly="true" maxUsages="5">{_big_tree()}</Taxonomy>',
        (("一级0", "二级0-0", "三级0-0-0"), ("一级0", "二级0-1", "三级0-1-1"), ("一级49", "二级49-19", "三级49-19-9")),
        1_800_000,
    ),
}


@pytest.mark.parametrize(("control", "value", "max_chars"), BIG.values(), ids=BIG.keys())
def test_the_grammar_of_ten_thousand_labels_stays_small(control: str, value: FieldValue, max_chars: int) -> None:
    schema, grammar = _of(view(control))
    assert len(grammar) < max_chars
    text = render_answer(schema, {"style": value})
    made = matcher(grammar)
    for byte in text.encode():
        mask = int.from_bytes(made.compute_bitmask(), "little")
        assert mask >> byte & 1
        assert made.consume_token(byte), made.get_error()[:300]
    assert made.is_accepting()


def test_a_grammar_that_would_be_too_large_is_refused() -> None:
    prefix = "很长的标签" * 20
    xml = view(
        *(
            choices(*(f"{prefix}{n}" for n in range(800)), name=f"c{k}", attributes='choice="multiple"')
            for k in range(3)
        )
    )
    schema = parse_label_config(xml)
    many = LabelSchema(schema.fields * 20, "image", "image")
    with pytest.raises(UnsupportedConfig, match="Shorten the label lists"):
        answer_grammar(many, text_max_chars=10)
