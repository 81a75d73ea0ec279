"""What people say is right, brought to the records it is about; what cannot be used is counted by reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.exports.csv import write_csv
from backend.bulk.truth import Records, read_truth
from backend.errors import UsageError
from backend.quality.people import Account, Labelled
from label_config.answer import Answer
from tests.backend.bulk.given import SCHEMA, VERSION, record, write_lines
from tests.backend.bulk.workbooks import workbook

DRESS = [["服饰", "女装", "连衣裙"]]


def annotation(season: str = "winter", **more: Any) -> dict[str, Any]:
    regions = [
        {"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": [season]}},
        {"from_name": "category", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": DRESS}},
    ]
    return {"result": regions, "was_cancelled": False, "lead_time": 12.5, "parent_prediction": None, **more}


def task(name: str, *annotations: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"/data/{name}.png", "image_id": name}, "annotations": list(annotations)}


def read(tmp_path: Path, export: Any, *records: dict[str, Any]) -> tuple[list[Labelled], Account]:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(export), encoding="utf-8")
    return _read(tmp_path, path, *records)


def _read(tmp_path: Path, path: Path, *records: dict[str, Any], blind: bool = False) -> tuple[list[Labelled], Account]:
    known = Records(write_lines(tmp_path / "out.jsonl", records or [record("a"), record("b")]), SCHEMA)
    account = Account()
    return list(read_truth(path, known, SCHEMA, account, blind=blind)), account


def season(answer: Answer) -> Any:
    return answer.fields["season"].value if "season" in answer.fields else None


def test_an_annotation_is_brought_to_the_record_by_its_image_id(tmp_path: Path) -> None:
    (found,), account = read(tmp_path, [task("b", annotation("夏季"))])

    assert (found.name, season(found.answer), season(found.truth)) == ("b", ("冬季",), ("夏季",))
    assert (found.model_version, found.saw_answer, found.lead_s, found.agrees) == (VERSION, False, 12.5, None)
    assert not account.num


def test_a_run_over_an_export_is_recognised_by_its_tasks(tmp_path: Path) -> None:
    """Two tasks with one picture, and no image_id in their data."""
    records = [record(f"x-{n}", image="/data/x.png", task_id=n) for n in (1, 2)]
    export = [{"id": n, "data": {"image": "/data/x.png"}, "annotations": [annotation()]} for n in (2, 3)]

    found, account = read(tmp_path, export, *records)

    assert [labelled.name for labelled in found] == ["x-2"]
    assert account.num == {"no_record": 1}
    assert account.examples["no_record"] == ["task 3"]


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ([], "not_labelled"),
        ([annotation(was_cancelled=True)], "cancelled"),
        ([annotation(parent_prediction=7, lead_time=None)], "from_predictions"),
        ([annotation(was_cancelled=True), annotation(parent_prediction=7, lead_time=None)], "from_predictions"),
    ],
)
def test_what_no_person_labelled_is_not_used(tmp_path: Path, annotations: list[Any], reason: str) -> None:
    found, account = read(tmp_path, [task("a", *annotations), task("b", annotation(), number=2)])

    assert [labelled.name for labelled in found] == ["b"]
    assert account.num == {reason: 1}


@pytest.mark.parametrize(
    "more",
    [
        {"parent_prediction": 7},
        {"prediction": {"id": 3, "result": []}},
        {"result": [{**annotation()["result"][0], "origin": "prediction-changed"}]},
        {"result": [{**annotation()["result"][0], "origin": "prediction"}]},
    ],
)
def test_who_saw_the_answer_first_is_told_apart(tmp_path: Path, more: dict[str, Any]) -> None:
    (found,), _ = read(tmp_path, [task("a", annotation(**more))])
    (blind,), _ = read(tmp_path, [task("a", annotation(prediction={}))])

    assert (found.saw_answer, blind.saw_answer) == (True, False)


def test_who_saw_an_answer_of_another_version_says_nothing_of_the_record(tmp_path: Path) -> None:
    export = [
        task("a", annotation(prediction={"model_version": "garments-nf4-of-another-config", "result": []})),
        task("b", annotation(prediction={"model_version": VERSION, "result": []}), number=2),
    ]

    found, account = read(tmp_path, export)

    assert [(labelled.name, labelled.saw_answer) for labelled in found] == [("b", True)]
    assert account.num == {"other_version": 1}


def test_of_several_annotations_the_ground_truth_counts_else_the_last_and_agreement_is_told(tmp_path: Path) -> None:
    first, last = annotation("夏季", updated_at="2026-01-01"), annotation("winter", updated_at="2026-02-01")
    chosen = annotation("夏季", updated_at="2025-01-01", ground_truth=True)

    (found,), _ = read(tmp_path, [task("a", last, first)])
    assert (season(found.truth), found.agrees) == (("冬季",), False)

    (found,), _ = read(tmp_path, [task("a", last, chosen)])
    assert season(found.truth) == ("夏季",)

    (found,), _ = read(tmp_path, [task("a", last, last)])
    assert found.agrees is True


def test_where_a_blind_audit_chose_no_other_picture_is_blind_by_chance(tmp_path: Path) -> None:
    """A person may begin an empty annotation beside the prediction."""
    records = [{**record("a"), "withheld": True}, record("b")]
    export = [task("a", annotation()), task("b", annotation(), number=2)]

    [found], account = read(tmp_path, export, *records)
    assert (found.name, found.saw_answer) == ("a", False)
    assert account.num == {"not_chosen": 1}
    both, _ = _read(tmp_path, tmp_path / "truth.json", *records, blind=True)
    assert [one.saw_answer for one in both] == [False, False]


def test_a_second_answer_for_one_record_is_counted_and_not_used(tmp_path: Path) -> None:
    found, account = read(tmp_path, [task("a", annotation()), task("a", annotation("夏季"), number=2)])

    assert [season(labelled.truth) for labelled in found] == [("冬季",)]
    assert account.num == {"twice": 1}


def test_the_table_of_csv_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """With what Excel is kept from calculating, at the beginning and in the middle, and a picture with no season."""
    records = [
        record("=a"),
        record("0012"),
        record("c", {"caption": "x; =1+1;-2 'y", "category": (("服饰", "女装", "连衣裙"),)}),
    ]
    known = Records(write_lines(tmp_path / "out.jsonl", records), SCHEMA)
    write_csv(tmp_path / "out.jsonl", tmp_path / "truth.csv", SCHEMA)

    found, account = _read(tmp_path, tmp_path / "truth.csv", *records)

    assert known.num == 3
    assert not account.num
    assert [labelled.name for labelled in found] == ["=a", "0012", "c"]
    for labelled in found:
        for name, given in labelled.answer.fields.items():
            assert labelled.truth.fields[name].value == given.value


@pytest.mark.parametrize("form", ["utf-16", "gb18030", "semicolons", "workbook"])
def test_a_corrected_table_is_read_as_excel_saved_it(tmp_path: Path, form: str) -> None:
    rows = [
        ["image_id", "caption", "category", "season", "note"],
        ["a", "新", "服饰 / 女装 / 连衣裙", "夏季", "checked"],
    ]
    path = tmp_path / f"truth.{'xlsx' if form == 'workbook' else 'csv'}"
    if form == "workbook":
        workbook(path, {"one": rows})
    else:
        text = "\n".join((";" if form == "semicolons" else ",").join(row) for row in rows)
        path.write_bytes(text.encode("utf-8" if form == "semicolons" else form))

    (found,), account = _read(tmp_path, path)

    assert (season(found.truth), found.truth.fields["caption"].value) == (("夏季",), "新")
    assert found.saw_answer, "whoever corrects our table has seen our answers"
    assert _read(tmp_path, path, blind=True)[0][0].saw_answer is False
    assert not account.num


def test_a_row_that_nobody_filled_blind_is_not_labelled_and_one_that_was_emptied_is(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("image_id,caption,category,season\na,,,\nb,,服饰 / 女装 / 连衣裙,夏季\n", encoding="utf-8")

    found, account = _read(tmp_path, path, blind=True)
    assert [one.name for one in found] == ["b"]
    assert account.num == {"not_labelled": 1}
    assert [one.name for one in _read(tmp_path, path)[0]] == ["a", "b"]


def test_rows_that_say_nothing_usable_are_counted_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(
        "image_id,caption,category,season\na,x,服饰 / 女装 / 连衣裙,春季\nz,x,,夏季\nb,x,服饰 / 男装,夏季\n",
        encoding="utf-8",
    )

    found, account = _read(tmp_path, path)

    assert not found
    assert account.num == {"unreadable": 2, "no_record": 1}
    assert account.examples["unreadable"] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("truth.json", '[{"id": 1, "image": "a"}]', "not as JSON-MIN"),
        ("truth.json", "{}", "no list of tasks"),
        ("truth.json", '[{"id": 1, "data": {}, "annotations": []}, ', "breaks off"),
        ("truth.csv", "picture,season\na,夏季\n", 'has no column "image_id"'),
        ("truth.csv", "image_id,season\na,夏季\n", "has no column for caption, category"),
        ("truth.csv", "", 'has no column "image_id"'),
        ("truth.txt", "", "give Label Studio's JSON export"),
    ],
)
def test_a_file_that_is_no_truth_is_refused_by_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError, match=said):
        _read(tmp_path, path)
