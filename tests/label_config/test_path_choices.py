"""A <Choices> whose labels are whole paths: a taxonomy for the model, one list for the people who label."""

from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from label_config.answer import Answer, FieldAnswer, render_answer
from label_config.errors import UnsupportedConfig
from label_config.grammar import answer_grammar
from label_config.parse import parse_label_config
from label_config.prompt import PromptOptions, build_instruction
from label_config.ready_made import ready_made, ready_made_names
from label_config.regions import answer_to_regions, regions_to_answer
from label_config.schema import PathChoicesField, TaxonomyField, TaxonomyNode
from tests.label_config.configs import CAPTION, choice, choices, view

PATHS = view(
    '<Choices name="category" toName="image" layout="select" pathSeparator=" / " required="true">',
    '<Choice value="服饰 / 女装 / 连衣裙" hint="一件式"/><Choice value="家居"/><Choice value="服饰 / 男装"/>',
    "</Choices>",
)
TREE = view(
    '<Taxonomy name="category" toName="image" leafsOnly="true" maxUsages="1" required="true">',
    choice("服饰", inner=choice("女装", inner='<Choice value="连衣裙" hint="一件式"/>') + choice("男装")),
    choice("家居"),
    "</Taxonomy>",
)


def test_the_model_is_asked_exactly_what_a_taxonomy_asks() -> None:
    paths, tree = parse_label_config(PATHS), parse_label_config(TREE)
    (field,) = paths.fields
    assert isinstance(field, PathChoicesField)
    assert isinstance(field, TaxonomyField)
    assert [node.value for node in field.roots] == ["服饰", "家居"]
    assert field.roots[0].children[0].children == (TaxonomyNode("连衣裙", hint="一件式"),)
    for language in ("zh", "en"):
        options = PromptOptions(language=language)
        assert build_instruction(paths, options) == build_instruction(tree, options)
    assert answer_grammar(paths, text_max_chars=9) == answer_grammar(tree, text_max_chars=9)
    values = {"category": (("服饰", "女装", "连衣裙"),)}
    assert render_answer(paths, values) == render_answer(tree, values) == '{"category":["服饰","女装","连衣裙"]}'
    assert paths.fingerprint != tree.fingerprint, "Label Studio stores them in two forms"


def test_label_studio_gets_one_label_and_gives_it_back() -> None:
    schema = parse_label_config(PATHS)
    answer = Answer({"category": FieldAnswer((("服饰", "女装", "连衣裙"),), 0.9)})
    [region] = answer_to_regions(schema, answer, seed="s")
    assert (region["type"], region["value"]) == ("choices", {"choices": ["服饰 / 女装 / 连衣裙"]})
    assert LabelInterface(PATHS).validate_prediction({"result": [region]}, return_errors=True) == []
    assert regions_to_answer(schema, [region]) == answer


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (["家居"], (("家居",),)),
        ("家居", (("家居",),)),
        (["家居", "服饰 / 男装"], (("家居",), ("服饰", "男装"))),
        (["服饰"], None),
        (["服饰/男装", "服饰 / 男装 / 鞋", "", 5], None),
    ],
    ids=["a leaf", "not in a list", "two, as no form gives them", "no leaf", "no labels"],
)
def test_what_a_person_submitted_is_read(stored: object, read: object) -> None:
    found = regions_to_answer(
        parse_label_config(PATHS), [{"from_name": "category", "value": {"choices": stored}}]
    ).fields.get("category")
    assert (found.value if found else None) == read


def test_an_answer_that_is_no_leaf_is_not_stored() -> None:
    schema = parse_label_config(PATHS)
    for path in (("服饰",), ("服饰", "沙发"), ()):
        assert answer_to_regions(schema, Answer({"category": FieldAnswer((path,), 0.9)}), seed="s") == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a / b", "a"], '"a" is a label, and other labels stand below it'),
        (["a", "a / b"], '"a" is a label, and other labels stand below it'),
        (["a / b", "a  / c"], 'label "a" twice'),
        (["a / "], '"a / " is no path of 1 to 50 labels'),
        (["a /  / b"], "is no path"),
        ([" / ".join("abcdef" * 10)], "is no path"),
    ],
    ids=["leaf above", "leaf above, first", "white space", "empty end", "empty middle", "too deep"],
)
def test_paths_that_make_no_tree_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(view(choices(*labels, attributes='pathSeparator=" / "')))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (choices("a / b", attributes='pathSeparator=" / " choice="multiple"'), "use a <Taxonomy> for several paths"),
        (
            f'<Choices name="style" toName="image" pathSeparator=" / ">{choice("a / b", alias="x")}</Choices>',
            "cannot have an alias",
        ),
    ],
    ids=["several", "alias"],
)
def test_what_cannot_be_a_list_of_paths_is_left_out(control: str, reason: str) -> None:
    schema = parse_label_config(view(CAPTION, control))
    assert [field.name for field in schema.fields] == ["caption"]
    assert reason in schema.warnings[0]


def test_labels_with_a_slash_are_labels_where_no_separator_is_given() -> None:
    field = parse_label_config(view(choices("棉 / 麻", "丝"))).field("style")
    assert not isinstance(field, TaxonomyField)


@pytest.mark.parametrize("name", ready_made_names())
def test_every_ready_made_category_is_replaced_by_one_choice_and_has_no_hidden_hotkey(name: str) -> None:
    xml = ready_made(name)
    field = parse_label_config(xml).field("category")
    assert isinstance(field, PathChoicesField)
    labels = [field.label([node.value for node in path]) for path in field.paths()]
    assert all(f'<Choice value="{label}" hotkey="–"/>' in xml.replace("&amp;", "&") for label in labels)
