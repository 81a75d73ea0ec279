"""What the answer itself hides is not filled, not in the score, and not missing."""

from __future__ import annotations

from typing import Any

import pytest

from label_config.answer import Answer, FieldAnswer
from label_config.conditions import without_hidden
from label_config.parse import parse_label_config
from label_config.review import review
from tests.label_config.configs import choice, choices, view

KIND = choices("鞋", "包", "衣服", name="kind")
ALIASED = f'<Choices name="kind" toName="image">{choice("鞋", "shoe")}{choice("衣服", "dress")}</Choices>'
TREE = (
    '<Taxonomy name="kind" toName="image" leafsOnly="true">'
    + choice("服饰", inner=choice("鞋") + choice("衣服"))
    + "</Taxonomy>"
)
PATHS = choices("服饰 / 鞋", "服饰 / 衣服", name="kind", attributes='pathSeparator=" / "')


def heel(attributes: str, around: str = "") -> str:
    return f"<View {around}>{choices('高', '平', name='heel', attributes=attributes)}</View>"


WHEN = 'visibleWhen="choice-selected" whenTagName="kind"'
UNLESS = 'visibleWhen="choice-unselected" whenTagName="kind"'
CASES: dict[str, tuple[str, str, Any, bool]] = {
    "its choice": (KIND, heel(f'{WHEN} whenChoiceValue="鞋"'), ("鞋",), True),
    "another choice": (KIND, heel(f'{WHEN} whenChoiceValue="鞋"'), ("衣服",), False),
    "one of a list": (KIND, heel(f'{WHEN} whenChoiceValue="鞋,包"'), ("包",), True),
    "none of a list": (KIND, heel(f'{WHEN} whenChoiceValue="鞋,包"'), ("衣服",), False),
    "any choice": (KIND, heel(WHEN), ("包",), True),
    "no choice": (KIND, heel(WHEN), None, False),
    "around it": (KIND, heel("", f'{WHEN} whenChoiceValue="鞋"'), ("衣服",), False),
    "around it, true": (KIND, heel("", f'{WHEN} whenChoiceValue="鞋"'), ("鞋",), True),
    "unselected": (KIND, heel(f'{UNLESS} whenChoiceValue="鞋"'), ("鞋",), False),
    "unselected, true": (KIND, heel(f'{UNLESS} whenChoiceValue="鞋"'), ("包",), True),
    "unselected around it": (KIND, heel("", f'{UNLESS} whenChoiceValue="鞋"'), ("鞋",), False),
    "by alias": (ALIASED, heel(f'{WHEN} whenChoiceValue="shoe"'), ("鞋",), True),
    "a leaf, around it": (TREE, heel("", f'{WHEN} whenChoiceValue="鞋"'), (("服饰", "鞋"),), True),
    "another leaf": (TREE, heel("", f'{WHEN} whenChoiceValue="鞋"'), (("服饰", "衣服"),), False),
    "a parent label": (TREE, heel("", f'{WHEN} whenChoiceValue="服饰"'), (("服饰", "鞋"),), False),
    "a leaf, on itself: lost at Submit": (TREE, heel(f'{WHEN} whenChoiceValue="鞋"'), (("服饰", "鞋"),), False),
    "any leaf, on itself": (TREE, heel(WHEN), (("服饰", "鞋"),), True),
    "a whole path": (PATHS, heel(f'{WHEN} whenChoiceValue="服饰 / 鞋"'), (("服饰", "鞋"),), True),
    "another whole path": (PATHS, heel(f'{WHEN} whenChoiceValue="服饰 / 鞋"'), (("服饰", "衣服"),), False),
    "a tag that is not there": (
        KIND,
        heel('visibleWhen="choice-selected" whenTagName="gone" whenChoiceValue="鞋"'),
        ("鞋",),
        False,
    ),
    "no tag": (KIND, heel('visibleWhen="choice-selected" whenChoiceValue="鞋"'), ("衣服",), False),
    "both must hold": (
        KIND,
        heel(f'{UNLESS} whenChoiceValue="包"', f'{WHEN} whenChoiceValue="鞋,衣服"'),
        ("包",),
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_value_is_kept_only_where_its_condition_holds(case: str) -> None:
    parent, child, value, kept = CASES[case]
    schema = parse_label_config(view(parent, child))
    answer = Answer({"kind": FieldAnswer(value, 0.9), "heel": FieldAnswer(("高",), 0.2)})
    shown = without_hidden(schema, answer)
    assert ("heel" in shown.fields) == kept
    assert shown.score == (0.2 if kept else 0.9)
    assert ("heel" in {finding.field for finding in review(schema, shown)}) == kept
    assert without_hidden(schema, shown) == shown


def test_what_hangs_on_a_hidden_control_is_hidden_as_well() -> None:
    third = choices("细", "粗", name="third", attributes='visibleWhen="choice-selected" whenTagName="heel"')
    schema = parse_label_config(view(KIND, heel(f'{WHEN} whenChoiceValue="鞋"'), third))
    answer = Answer({name: FieldAnswer((value,), 0.9) for name, value in (("heel", "高"), ("third", "细"))})
    for kind, names in (("鞋", {"kind", "heel", "third"}), ("包", {"kind"})):
        whole = Answer({"kind": FieldAnswer((kind,), 0.9), **answer.fields})
        assert set(without_hidden(schema, whole).fields) == names


def test_controls_that_hang_on_each_other_end() -> None:
    one = choices("a", "b", name="one", attributes='visibleWhen="choice-selected" whenTagName="two"')
    two = choices("a", "b", name="two", attributes='visibleWhen="choice-selected" whenTagName="one"')
    schema = parse_label_config(view(KIND, one, two))
    answer = Answer({name: FieldAnswer(("a",), 0.9) for name in ("one", "two")})
    assert set(without_hidden(schema, answer).fields) == {"one", "two"}


def test_a_config_without_conditions_keeps_its_fingerprint() -> None:
    schema = parse_label_config(view(KIND))
    assert schema.conditions == ()
    assert (
        parse_label_config(view(KIND, heel(WHEN))).fingerprint != parse_label_config(view(KIND, heel(""))).fingerprint
    )
