"""What Label Studio refuses is said in words a person can act on."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from backend.label_studio.refusals import explain


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (
            "Created annotations are incompatible with provided labeling schema, we found:\n"
            "8 with from_name=category, to_name=image, type=taxonomy\n"
            "1 with from_name=season, to_name=image, type=choices",
            "8 annotations use the field category (<taxonomy> of image); 1 annotation uses the field season (<choices> "
            "of image)",
        ),
        (
            'There are 31 annotation(s) created with tag "style", you can\'t remove it',
            "31 annotations use the field style",
        ),
        (
            "These labels still exist in annotations or drafts:\n春季 (3 annotations, 1 draft)\n"
            'Navy blue (1 annotation)\nPlease add labels to tag with name="season".',
            "the field season has the labels 春季 (3 annotations, 1 draft) Navy blue (1 annotation)",
        ),
    ],
    ids=["a field that is gone or of another kind", "a field that is gone", "labels that are gone"],
)
@pytest.mark.parametrize("place", ["label_config", "non_field_errors"])
def test_a_label_config_that_annotations_stand_against_is_told_with_what_to_do(
    said: str, what: str, place: str
) -> None:
    body = {"status_code": 400, "detail": "Validation error", "validation_errors": {place: [said]}, "version": "1.23.2"}
    error = explain("http://labels", 400, body)
    text = str(error)
    assert not error.retryable
    assert f"annotations use what the new one leaves out: {what}. Nothing was changed." in text
    assert "make a new project for the new label config" in text
    assert "from_name" not in text


def test_another_refusal_keeps_label_studios_own_words() -> None:
    body = {
        "detail": "Validation error",
        "validation_errors": {"label_config": ["It contains non-unique names"]},
    }
    assert "It contains non-unique names" in str(explain("http://labels", 400, body))


NESTED: Any = functools.reduce(lambda inner, _: [inner], range(900), "x")
ECHOES = {
    "a label of angle brackets": {"detail": "", "validation_errors": {"non_field_errors": ["<" * 2**22]}},
    "the same as the only word": {"detail": "<" * 2**22},
    "the same as a text": "<" * 2**22,
    "a hundred thousand errors": {"validation_errors": {"non_field_errors": ["<a"] * 100_000}},
    "nested": {"detail": NESTED},
    "nested errors": {"validation_errors": NESTED},
}


@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
def test_what_label_studio_repeats_of_a_hostile_label_is_cut_in_no_time(body: Any) -> None:
    """Each would take hours if the time grew with the square of the length, and nothing else would run meanwhile."""
    assert len(str(explain("http://labels", 400, body))) < 1_000
