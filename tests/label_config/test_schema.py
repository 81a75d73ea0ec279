"""Schemas as values: fingerprint, order, paths, travel between processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from label_config.parse import parse_label_config
from label_config.schema import TaxonomyField, TaxonomyNode
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
