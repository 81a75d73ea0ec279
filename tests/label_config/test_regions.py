"""Answers to Label Studio regions and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from label_studio_sdk.label_interface import LabelInterface

from label_config.answer import Answer, FieldAnswer
from label_config.parse import parse_label_config
from label_config.regions import MAX_BROKEN, MAX_PATHS, answer_to_regions, are_known, prediction, regions_to_answer
from label_config.review import Finding
from tests.label_config.configs import CAPTION, EVERYTHING, view

SCHEMA = parse_label_config(EVERYTHING)
ANSWER = Answer(
    {
        "category": FieldAnswer((("家居", "沙发"),), 0.9),
        "style": FieldAnswer(("简约", "甜美"), 0.8),
        "season": FieldAnswer(("夏季",), 0.7),
        "quality": FieldAnswer(4, 0.6),
        "price": FieldAnswer(12.5, 0.95),
        "caption": FieldAnswer("一张灰色沙发。"),
    }
)
FINDINGS = (
    Finding("low_confidence", "season", "季节：置信度 40%", "season has a low confidence"),
    Finding("too_short", "caption", "描述过短", "caption is short"),
    Finding("too_short", "caption", "描述过短", "caption is short"),
)


def _by_name(regions: list[dict[str, Any]]) -> dict[str, Any]:
    return {region["from_name"]: region for region in regions}


def test_a_prediction_has_a_region_for_each_value_with_its_confidence() -> None:
    made = prediction(SCHEMA, ANSWER, (), "model-v1", "task 7")
    assert (made["model_version"], made["score"]) == ("model-v1", 0.6)
    regions = _by_name(made["result"])
    assert {name: (r["type"], r["value"], r.get("score")) for name, r in regions.items()} == {
        "caption": ("textarea", {"text": ["一张灰色沙发。"]}, None),
        "category": ("taxonomy", {"taxonomy": [["home", "sofa"]]}, 0.9),
        "style": ("choices", {"choices": ["简约", "甜美"]}, 0.8),
        "season": ("choices", {"choices": ["summer"]}, 0.7),
        "quality": ("rating", {"rating": 4}, 0.6),
        "price": ("number", {"number": 12.5}, 0.95),
    }
    assert {region["to_name"] for region in regions.values()} == {"image"}
    assert LabelInterface(EVERYTHING).validate_prediction(made, return_errors=True) == []


def test_findings_fill_the_review_controls_and_nothing_else() -> None:
    made = prediction(SCHEMA, ANSWER, FINDINGS, "v1", "s")
    regions = _by_name(made["result"])
    assert regions["needs_review"]["value"] == {"choices": ["review"]}
    assert regions["review_reason"]["value"] == {"text": ["季节：置信度 40%；描述过短"]}
    assert LabelInterface(EVERYTHING).validate_prediction(made, return_errors=True) == []
    english = _by_name(answer_to_regions(SCHEMA, ANSWER, FINDINGS, seed="s", language="en"))
    assert english["review_reason"]["value"] == {"text": ["season has a low confidence; caption is short"]}
    assert "needs_review" not in _by_name(answer_to_regions(SCHEMA, ANSWER, seed="s"))


def test_findings_without_review_controls_change_nothing() -> None:
    schema = parse_label_config(view(CAPTION))
    assert answer_to_regions(schema, ANSWER, FINDINGS, seed="s") == answer_to_regions(schema, ANSWER, seed="s")


def test_ids_follow_from_the_seed_and_differ_within_a_prediction() -> None:
    first, again, other = (answer_to_regions(SCHEMA, ANSWER, FINDINGS, seed=seed) for seed in ("a", "a", "b"))
    assert first == again
    ids = [region["id"] for region in first + other]
    assert len(set(ids)) == len(ids)
    assert all(len(region_id) == 10 for region_id in ids)


def test_an_empty_field_has_no_region_and_an_unlabelled_answer_no_score() -> None:
    answer = Answer({"caption": FieldAnswer("  \u200b "), "season": FieldAnswer(None, 0.4)})
    assert answer_to_regions(SCHEMA, answer, seed="s") == []
    assert "score" not in prediction(SCHEMA, Answer({"caption": FieldAnswer("a")}), (), "v", "s")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("=cmd|'/C calc'!A0", "=cmd|'/C calc'!A0"),
        ("a\x00b\x1b[31mc\x7f\x9fd", "ab[31mcd"),
        ("\u202egnp.exe\u202c\u200b\ufeff", "gnp.exe"),
        ("line\r\n\u2028line", "line line"),
        ("\ud800a", "a"),
        ("字" * 9_000, "字" * 8_000),
    ],
    ids=["markup", "formula", "control characters", "hidden characters", "lines", "surrogate", "too long"],
)
def test_a_text_is_stored_plain_and_visible(text: str, stored: str) -> None:
    regions = answer_to_regions(SCHEMA, Answer({"caption": FieldAnswer(text)}), seed="s")
    assert regions[0]["value"] == {"text": [stored]}
    assert "html" not in json.dumps(regions)


def test_what_the_schema_does_not_know_is_never_stored() -> None:
    answer = Answer(
        {
            "style": FieldAnswer(("朋克",), 0.9),
            "category": FieldAnswer((("服饰", "沙发"),), 0.9),
            "price": FieldAnswer(float("nan"), 0.9),
            "other": FieldAnswer("x"),
        }
    )
    assert answer_to_regions(SCHEMA, answer, seed="s") == []


def test_regions_read_back_are_the_answer() -> None:
    regions = prediction(SCHEMA, ANSWER, FINDINGS, "v1", "s")["result"]
    assert regions_to_answer(SCHEMA, regions) == ANSWER


def test_annotations_are_read_without_scores_and_with_values_for_aliases() -> None:
    annotation = [
        {"id": "1", "from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["夏季"]}},
        {"from_name": "category", "type": "taxonomy", "value": {"taxonomy": [["服饰", "女装", "半身裙"]]}},
        {"from_name": "caption", "type": "textarea", "value": {"text": ["第一行", "第二行"]}},
        {"from_name": "price", "type": "number", "value": {"number": 3}},
    ]
    assert regions_to_answer(SCHEMA, annotation).fields == {
        "season": FieldAnswer(("夏季",)),
        "category": FieldAnswer((("服饰", "女装", "半身裙"),)),
        "caption": FieldAnswer("第一行\n第二行"),
        "price": FieldAnswer(3),
    }


@pytest.mark.parametrize(
    "region",
    [
        {"from_name": "box", "type": "rectanglelabels", "value": {"x": 1}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"from_name": ["style"], "value": {"choices": ["简约"]}},
        {"from_name": "style", "value": None},
        {"from_name": "style", "value": {"choices": ["朋克", 5, None]}},
        {"from_name": "style", "value": {"choices": {"简约": 1}}},
        {"from_name": "category", "value": {"taxonomy": [["服饰", "沙发"], "服饰", [], [5]]}},
        {"from_name": "quality", "value": {"rating": 9}},
        {"from_name": "quality", "value": {"rating": True}},
        {"from_name": "price", "value": {"number": float("nan")}},
        {"from_name": "price", "value": {"number": 10**400}},
        {"from_name": "caption", "value": {"text": []}},
        "style",
    ],
    ids=str,
)
def test_a_region_that_says_nothing_about_the_fields_is_passed_over(region: Any) -> None:
    assert regions_to_answer(SCHEMA, [region]).fields == {}


LABELS = [f"l{number}" for number in range(3_000)]
MANY = parse_label_config(
    view(
        CAPTION,
        f"""<Choices name="c" toName="image">{"".join(f'<Choice value="{label}"/>' for label in LABELS)}</Choices>""",
        f"""<Taxonomy name="t" toName="image">{"".join(f'<Choice value="{label}"/>' for label in LABELS)}</Taxonomy>""",
    )
)
GOOD = [
    {"from_name": "c", "value": {"choices": ["l1"]}},
    {"from_name": "t", "value": {"taxonomy": [["l2"]]}},
]
READ = {"c": FieldAnswer(("l1",)), "t": FieldAnswer((("l2",),))}


@pytest.mark.parametrize("num_broken", [0, 1, MAX_BROKEN - 1, MAX_BROKEN, 100_000])
def test_the_last_regions_of_a_control_are_looked_at_and_not_all_that_somebody_sends(num_broken: int) -> None:
    broken = [{"from_name": "c", "value": {"choices": ["x"]}}, {"from_name": "t", "value": {"taxonomy": [["x"]]}}]
    found = regions_to_answer(MANY, [*GOOD, *broken * num_broken])
    assert found.fields == (READ if num_broken < MAX_BROKEN else {})
    assert regions_to_answer(MANY, [*broken * num_broken, *GOOD]).fields == READ


@pytest.mark.parametrize(("num", "known"), [(1, True), (MAX_BROKEN, True), (MAX_BROKEN + 1, False), (100_000, False)])
@pytest.mark.parametrize("region", GOOD, ids=lambda region: region["from_name"])
def test_of_more_regions_of_a_control_than_a_form_has_nobody_knows_what_was_meant(
    region: dict[str, Any], num: int, *, known: bool
) -> None:
    """Each costs as much as the control has labels."""
    assert are_known(MANY, [region] * num) is known


def test_more_paths_than_anybody_picks_are_none() -> None:
    for num, read in ((MAX_PATHS, {"t": READ["t"]}), (MAX_PATHS + 1, {}), (300_000, {})):
        region = {"from_name": "t", "value": {"taxonomy": [*[["x"]] * (num - 1), ["l2"]]}}
        assert regions_to_answer(MANY, [region]).fields == read


LABELS = [f"label {number}" for number in range(10_000)]
AT_LENGTH = {
    "a taxonomy": ('<Taxonomy name="c" toName="image">', {"taxonomy": [[LABELS[-1]]] * MAX_PATHS}),
    "paths that are none": ('<Taxonomy name="c" toName="image">', {"taxonomy": [[LABELS[-1], "x"]] * MAX_PATHS}),
    "choices": ('<Choices name="c" toName="image">', {"choices": [LABELS[-1]]}),
    "choices that are none": ('<Choices name="c" toName="image">', {"choices": ["x"]}),
}


@pytest.mark.parametrize(("tag", "value"), AT_LENGTH.values(), ids=AT_LENGTH)
def test_what_people_picked_of_many_labels_takes_no_longer_than_of_few(tag: str, value: dict[str, Any]) -> None:
    """One task may have hundreds of annotations: gone through label by label, these would take minutes."""
    labels = "".join(f'<Choice value="{label}"/>' for label in LABELS)
    schema = parse_label_config(view(f"{tag}{labels}</{tag.split()[0][1:]}>"))
    for _ in range(3_000):
        regions_to_answer(schema, [{"from_name": "c", "value": value}])
