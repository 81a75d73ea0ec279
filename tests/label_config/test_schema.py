"""Schemas as values: fingerprint, order, paths, travel between processes."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from label_config.parse import parse_label_config
from label_config.schema import ChoicesField, TaxonomyField, TaxonomyNode
from tests.label_config.configs import CAPTION, EVERYTHING, choices, view

SCHEMA = parse_label_config(EVERYTHING)


def test_a_schema_is_a_value() -> None:
    again = pickle.loads(pickle.dumps(SCHEMA))
    assert again == SCHEMA
    assert hash(again) == hash(SCHEMA)
    assert again.fingerprint == SCHEMA.fingerprint


def test_a_schema_is_packed_once_and_read_once_however_often_it_is_sent() -> None:
    """Of 11,000 labels that takes longer than an answer, and every request brings one."""
    many = replace(SCHEMA, image_key="many")
    sent = [pickle.dumps((number, many)) for number in range(3)]
    read = [pickle.loads(message)[1] for message in sent]
    assert all(again == many for again in read)
    assert len({id(again) for again in read}) == 1
    assert pickle.loads(pickle.dumps(read[0])) == many
    assert pickle.loads(pickle.dumps(replace(read[0], image_key="other"))).image_key == "other"


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = f"from label_config.parse import parse_label_config\nprint(parse_label_config({EVERYTHING!r}).fingerprint)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == SCHEMA.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        view(CAPTION, choices("a", "b")),
        view(CAPTION, choices("b", "a", "c")),
        view(CAPTION, choices("a", "b", "c", name="other")),
        view(CAPTION, choices("a", "b", "c", attributes='choice="multiple"')),
        view(CAPTION, choices("a", "b", "c", attributes='required="true"')),
        view(CAPTION, choices("a", "b", "c")).replace("$image", "$photo"),
        view(CAPTION, choices("a", "b", "c"), '<TextArea name="review_reason" toName="image"/>'),
    ],
    ids=["label gone", "order", "name", "several", "required", "data key", "review"],
)
def test_what_changes_an_answer_changes_the_fingerprint(other: str) -> None:
    schema = parse_label_config(view(CAPTION, choices("a", "b", "c")))
    assert parse_label_config(other).fingerprint != schema.fingerprint


def test_texts_come_after_labels_in_the_answer() -> None:
    names = [field.name for field in SCHEMA.answer_order]
    assert names == ["category", "style", "season", "quality", "price", "caption"]
    assert SCHEMA.field("price").name == "price"
    with pytest.raises(KeyError):
        SCHEMA.field("colour")


def test_a_path_is_found_by_what_is_shown_or_by_what_is_stored() -> None:
    leaf = TaxonomyNode("b", alias="B")
    root = TaxonomyNode("a", alias="A", children=(leaf,))
    field = TaxonomyField("t", "image", (root,), leaves_only=True)
    assert field.find(("a", "b")) == field.find(("A", "B"), stored=True) == (root, leaf)
    assert field.find(("a",)) is field.find(("A", "B")) is field.find(()) is field.find(("a", "b", "c")) is None


def tree(*labels: str, of: tuple[TaxonomyNode, ...] = ()) -> tuple[TaxonomyNode, ...]:
    """Nodes of these labels, `value` or `value=alias`, with `of` in each."""
    return tuple(TaxonomyNode(label.partition("=")[0], label.partition("=")[2], children=of) for label in labels)


SAME = tree("c", "d=x")
TREES = {
    "one list in two places": tree("a", "b", of=SAME),
    "the same labels on every level": tree("a", "b", of=tree("a", "b", of=tree("a", "b"))),
    "a label twice": tree("a", "a=x", "b=a"),
    "an alias that is another's label": tree("a=b", "b=c", "c=a", of=tree("a=b", "b=a")),
    "no label at all": (),
}


@pytest.mark.parametrize("roots", TREES.values(), ids=TREES)
@pytest.mark.parametrize("leaves_only", [True, False])
@pytest.mark.parametrize("stored", [True, False])
def test_the_first_node_of_a_label_is_the_one_that_a_path_goes_on_from(
    roots: tuple[TaxonomyNode, ...], leaves_only: bool, stored: bool
) -> None:
    field = TaxonomyField("t", "image", roots, leaves_only)

    def looked_for(path: tuple[str, ...]) -> list[TaxonomyNode] | None:
        nodes: list[TaxonomyNode] = []
        children = roots
        for label in path:
            fitting = [node for node in children if (node.stored if stored else node.value) == label]
            if not fitting:
                return None
            nodes, children = [*nodes, fitting[0]], fitting[0].children
        return nodes if nodes and not (leaves_only and children) else None

    for length in range(4):
        for path in itertools.product("abcdx", repeat=length):
            found = field.find(path, stored=stored)
            assert (None if found is None else list(found)) == looked_for(path)


def test_what_is_looked_up_in_a_schema_is_no_part_of_it() -> None:
    looked_at, other = (parse_label_config(EVERYTHING) for _ in range(2))
    for field in looked_at.fields:
        if isinstance(field, TaxonomyField):
            assert field.find(["no such label"]) is None
        if isinstance(field, ChoicesField):
            assert field.values
    assert (looked_at, hash(looked_at)) == (other, hash(other))
    assert pickle.dumps(looked_at.fields) == pickle.dumps(other.fields)
    assert [repr(field) for field in looked_at.fields] == [repr(field) for field in other.fields]
