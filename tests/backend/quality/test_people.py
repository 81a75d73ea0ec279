"""What the annotations of one task say together: who agrees with whom, and what is no label of the label config."""

from __future__ import annotations

from typing import Any

import pytest

from backend.quality.people import Known, Labelled, labelled
from label_config.answer import Answer
from label_config.parse import parse_label_config

SCHEMA = parse_label_config(
    '<View><Image name="image" value="$image"/>'
    '<Choices name="style" toName="image" choice="multiple"><Choice value="a"/><Choice value="b" alias="B"/></Choices>'
    '<Taxonomy name="kind" toName="image"><Choice value="top"><Choice value="coat"/></Choice></Taxonomy>'
    '<Rating name="stars" toName="image" maxRating="5"/><Number name="price" toName="image"/>'
    '<TextArea name="caption" toName="image"/></View>'
)
KNOWN = Known("1", Answer({}), "v1")


def said(*labels: str, **more: Any) -> dict[str, Any]:
    return {"result": [{"from_name": "style", "value": {"choices": list(labels)}}], **more}


def at(second: int, person: Any) -> dict[str, Any]:
    return {"updated_at": f"2026-11-30T10:00:{second:02}Z", "completed_by": person}


@pytest.mark.parametrize(
    ("annotations", "agrees"),
    [
        ([said("a", **at(1, 1))], None),
        ([said("a", **at(1, 1)), said("a", **at(2, 2))], True),
        ([said("a", "B", **at(1, 1)), said("B", "a", **at(2, 2))], True),
        ([said("a", **at(1, 1)), said("B", **at(2, 2))], False),
        ([said("a", **at(1, 1)), said("B", **at(2, 1))], None),
        ([said("a", **at(1, {"id": 1})), said("B", **at(2, {"id": 2})), said("a", **at(3, {"id": 2}))], True),
    ],
    ids=["one", "two", "in another order", "two unlike", "one person twice", "by what each said last"],
)
def test_people_agree_if_each_gives_the_same_labels_at_last(annotations: list[Any], agrees: bool | None) -> None:
    found = labelled(KNOWN, annotations, SCHEMA)
    assert isinstance(found, Labelled)
    assert found.agrees is agrees


@pytest.mark.parametrize(
    ("name", "value", "is_known"),
    [
        ("style", {"choices": ["a", "B"]}, True),
        ("style", {"choices": ["b", "B"]}, False),
        ("style", {"choices": []}, True),
        ("style", {"choices": ["a", "gone"]}, False),
        ("style", {"choices": "gone"}, False),
        ("kind", {"taxonomy": [["top"], ["top", "coat"]]}, True),
        ("kind", {"taxonomy": [["top", "gone"]]}, False),
        ("stars", {"rating": 5}, True),
        ("stars", {"rating": 6}, False),
        ("price", {"number": 0}, True),
        ("caption", {"text": [""]}, True),
        ("another control", {"choices": ["x"]}, True),
    ],
)
def test_what_the_label_config_does_not_have_is_not_taken_for_an_empty_field(
    name: str, value: dict[str, Any], is_known: bool
) -> None:
    found = labelled(KNOWN, [{"result": [{"from_name": name, "value": value}]}], SCHEMA)
    assert (found != "unreadable") is is_known
