"""A condition under which Label Studio loses a value is named, and rewritten so that it is kept."""

from __future__ import annotations

import pytest

from label_config.answer import Answer, FieldAnswer
from label_config.conditions import without_hidden
from label_config.lint import rewritten
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from tests.label_config.configs import choice, choices, view

TREE = (
    '<Taxonomy name="kind" toName="image" leafsOnly="true" maxUsages="2">'
    + choice("服饰", inner=choice("鞋") + choice("衣服"))
    + "</Taxonomy>"
)
ON_SHOES = 'visibleWhen="choice-selected" whenTagName="kind" whenChoiceValue="鞋"'
CONTROLS = {
    "choices": choices("高", "平", name="x", attributes=ON_SHOES),
    "rating": f'<Rating name="x" toName="image" {ON_SHOES}/>',
    "text": f'<TextArea name="x" toName="image" {ON_SHOES}/>',
    "another spelling": f'<number NAME="x" TONAME="image" {ON_SHOES.replace("whenTagName", "WHENTAGNAME")}/>',
}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_a_condition_on_a_label_of_a_tree_is_named_and_moved_to_a_view(control: str) -> None:
    xml = view(TREE, control.replace("NAME=", "name=").replace("TOname=", "toName="))
    [trap] = parse_label_config(xml).traps
    assert "is gone after Submit" in trap
    better = rewritten(xml)
    assert better is not None
    schema = parse_label_config(better)
    assert schema.traps == ()
    assert rewritten(better) is None
    answer = Answer({"kind": FieldAnswer((("服饰", "鞋"),)), "x": FieldAnswer(None)})
    assert "x" in without_hidden(schema, answer).fields
    assert "x" not in without_hidden(parse_label_config(xml), answer).fields


@pytest.mark.parametrize("value", ["服饰", "服饰 / 鞋", "鞋,包"])
def test_a_condition_that_names_no_leaf_is_named(value: str) -> None:
    around = f'<View visibleWhen="choice-selected" whenTagName="kind" whenChoiceValue="{value}">'
    [trap] = parse_label_config(view(TREE, around, choices("a", "b", name="x"), "</View>")).traps
    assert "is no last label of a path" in trap


UNNAMED = {
    "choices": choices("a", "b", name="x", attributes='visibleWhen="choice-selected" whenChoiceValue="鞋"'),
    "two labels": choices("a", "b", name="x", attributes='visibleWhen="choice-selected" whenChoiceValue="鞋,包"'),
    "a rating": '<Rating name="x" toName="image" visibleWhen="choice-selected" whenChoiceValue="鞋"/>',
    "a text": '<TextArea name="x" toName="image" VISIBLEWHEN="Choice-Selected" whenchoicevalue="鞋"/>',
    "not visibleWhen": '<Rating name="x" toName="image" whenChoiceValue="鞋"/>',
    "not visibleWhen, but whenTagName": '<Rating name="x" toName="image" whenTagName="kind" whenChoiceValue="鞋"/>',
    "its own label, too": choices("鞋", "b", name="x", attributes='visibleWhen="choice-selected" whenChoiceValue="鞋"'),
}


@pytest.mark.parametrize("control", UNNAMED.values(), ids=UNNAMED)
@pytest.mark.parametrize("kind", [choices("鞋", "包", name="kind"), TREE.replace("衣服", "包")], ids=["list", "tree"])
def test_a_condition_that_names_no_control_gets_the_one_that_has_the_label(control: str, kind: str) -> None:
    xml = view(kind, control)
    [trap] = parse_label_config(xml).traps
    assert 'write whenTagName="kind" there (prelabel doctor' in trap
    better = rewritten(xml)
    assert better is not None
    schema = parse_label_config(better)
    assert schema.traps == ()
    assert rewritten(better) is None
    shoe = ("鞋",) if '<Choices name="kind"' in kind else (("服饰", "鞋"),)
    answer = Answer({"kind": FieldAnswer(shoe), "x": FieldAnswer(None)})
    assert "x" in without_hidden(schema, answer).fields
    assert "x" not in without_hidden(schema, Answer({**answer.fields, "kind": FieldAnswer(None)})).fields


KIND = choices("鞋", "包", name="kind")


@pytest.mark.parametrize(
    ("others", "value", "why"),
    [
        ([KIND, choices("鞋", "帽", name="more")], "鞋", "kind and more have such labels"),
        ([KIND, choices("袜", "帽", name="more")], "鞋,帽", "kind and more have such labels"),
        ([KIND], "鞋,帽", "no other control has all of these labels"),
        ([KIND], "帽", "no other control has all of these labels"),
    ],
)
def test_where_more_than_one_can_be_meant_it_is_left_and_why_is_said(others: list[str], value: str, why: str) -> None:
    control = choices("a", "b", name="x", attributes=f'visibleWhen="choice-selected" whenChoiceValue="{value}"')
    xml = view(*others, control)
    [trap] = parse_label_config(xml).traps
    assert trap.endswith(f"say with whenTagName in which <Choices>; {why}")
    assert rewritten(xml) is None


@pytest.mark.parametrize("tag", ["View", "Choices"])
def test_a_condition_on_a_label_that_its_list_does_not_have_is_named(tag: str) -> None:
    when = 'visibleWhen="choice-selected" whenTagName="kind" whenChoiceValue="鞋,靴"'
    control = choices("a", "b", name="x", attributes=when if tag == "Choices" else "")
    control = control if tag == "Choices" else f"<View {when}>{control}</View>"
    xml = view(choices("鞋", "包", name="kind"), control)
    [trap] = parse_label_config(xml).traps
    assert 'names "靴", which is no label of <Choices name="kind">' in trap
    assert rewritten(xml) is None


@pytest.mark.parametrize(
    "control",
    [
        f"<View {ON_SHOES}>{choices('a', 'b', name='x')}</View>",
        choices("a", "b", name="x", attributes='visibleWhen="choice-selected" whenTagName="kind"'),
        choices("a", "b", name="x", attributes='visibleWhen="choice-unselected" whenTagName="kind"'),
        choices("a", "b", name="x"),
    ],
    ids=["around it", "any label", "unselected", "no condition"],
)
def test_what_label_studio_keeps_is_not_mentioned(control: str) -> None:
    xml = view(TREE, control)
    assert parse_label_config(xml).traps == ()
    assert rewritten(xml) is None


@pytest.mark.parametrize("name", ready_made_names())
def test_the_ready_made_configs_stay_as_they_are(name: str) -> None:
    assert rewritten(ready_made(name)) is None
