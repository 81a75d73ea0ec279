"""What the store keeps of an answer, and what Label Studio gets of it: to the byte what prelabel 0.1.0 sent."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, replace
from typing import Any

import pytest

from backend.predict.answered import Answered
from backend.predict.record import make_record
from backend.predict.task import TaskId
from tests.backend.answer_cases import Case, cases, contents_0_1_0
from tests.backend.older_store import WRITTEN_VERSION, prediction_0_1_0

CASES = cases()
CONTENTS = contents_0_1_0()
TASKS: tuple[TaskId, ...] = (7, "a task of another program")
EACH = pytest.mark.parametrize("name", CASES)


def answered(case: Case) -> Answered:
    return Answered("k", WRITTEN_VERSION, case.answer, case.findings)


def record(case: Case, found: Answered) -> dict[str, Any]:
    schema = case.recipe.schema
    return make_record(schema, found.answer, found.findings, image_id="a", model_version=found.model_version)


def test_each_case_has_what_was_stored_of_it() -> None:
    assert list(CASES) == list(CONTENTS)


@EACH
@pytest.mark.parametrize("task_id", TASKS)
def test_a_prediction_is_to_the_byte_what_0_1_0_sent(name: str, task_id: TaskId) -> None:
    case, content = CASES[name], CONTENTS[name]
    sent = json.dumps(prediction_0_1_0(content, task_id))
    new, stored = answered(case), Answered.read(case.recipe, "k", answered(case).content)
    of_then = Answered.read(case.recipe, "k", content)
    assert [json.dumps(one.prediction(case.recipe, task_id)) for one in (new, stored, of_then)] == [sent] * 3


@EACH
def test_an_answer_comes_back_from_the_store_as_it_was_given(name: str) -> None:
    case = CASES[name]
    given = answered(case)
    assert Answered.read(case.recipe, "k", given.content) == given


@EACH
def test_of_what_0_1_0_stored_comes_the_same_record_score_and_reasons(name: str) -> None:
    case = CASES[name]
    new, of_then = answered(case), Answered.read(case.recipe, "k", CONTENTS[name])
    assert json.dumps(record(case, of_then)) == json.dumps(record(case, new))
    assert (of_then.score, of_then.findings) == (new.score, new.findings)
    assert (of_then.needs_review, of_then.answer.truncated) == (new.needs_review, new.answer.truncated)


def test_reasons_that_the_first_stores_did_not_keep_are_found_again() -> None:
    case = CASES["everything.zh in doubt"]
    document = json.loads(CONTENTS["everything.zh in doubt"])
    kept = document.pop("findings")
    found = Answered.read(case.recipe, "k", json.dumps(document)).findings
    assert [astuple(finding) for finding in found] == [tuple(finding) for finding in kept]


def test_what_the_store_keeps_says_its_form_and_holds_no_regions() -> None:
    case = CASES["served.zh in doubt"]
    document = json.loads(answered(case).content)
    assert document == {
        "form": 2,
        "model_version": WRITTEN_VERSION,
        "fields": {
            "category": {"value": [["服饰", "女装", "连衣裙"]], "confidence": 1 / 3},
            "season": {"value": ["冬季"], "confidence": 1 / 4},
            "caption": {"value": "看不清, unclear"},
        },
        "findings": [asdict(finding) for finding in case.findings],
    }


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "null", '"text"', '{"result": []}', '{"result": {}, "model_version": "v"}',
        '{"model_version": "v"}', '{"form": 3, "model_version": "v", "fields": {}}', '{"form": 2, "fields": {}}',
        '{"form": 2, "model_version": "v", "fields": {"caption": "text"}}',
        '{"form": 2, "model_version": "v", "fields": {}, "findings": [{"code": "missing"}]}',
        '{"form": [], "model_version": "v", "fields": {}}',
    ],
)  # fmt: skip
def test_what_never_was_an_answer_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match=r"stored answer|Expecting value"):
        Answered.read(CASES["served.zh sure"].recipe, "k", content)


def test_two_tasks_get_the_same_values_under_different_ids() -> None:
    case = CASES["served.zh sure"]
    one, other = (answered(case).prediction(case.recipe, task_id) for task_id in (1, 2))
    assert one["score"] == answered(case).score
    for left, right in zip(one["result"], other["result"], strict=True):
        assert left["id"] != right["id"]
        assert {**left, "id": ""} == {**right, "id": ""}


def test_the_same_task_gets_other_ids_under_another_version() -> None:
    case = CASES["served.zh sure"]
    later = replace(answered(case), model_version="later")
    ids = [{region["id"] for region in one.prediction(case.recipe, 1)["result"]} for one in (answered(case), later)]
    assert not ids[0] & ids[1]
