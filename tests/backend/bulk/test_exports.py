"""Spreadsheet, Parquet, and the second queue: the records as they are, in any program's hands."""

from __future__ import annotations

import csv
import json
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from backend.bulk.exports import parquet
from backend.bulk.exports.csv import write_csv
from backend.bulk.exports.records import answer_in, columns, write_review_only
from backend.errors import UsageError
from label_config.answer import Answer, FieldAnswer
from label_config.parse import parse_label_config
from tests.backend.bulk.given import FINDING, SCHEMA, lines, record, write_lines
from tests.label_config.configs import EVERYTHING

ALL = parse_label_config(EVERYTHING)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _csv(tmp_path: Path, *records: Any) -> list[dict[str, str]]:
    write_csv(write_lines(tmp_path / "out.jsonl", records), tmp_path / "out.csv", SCHEMA)
    return _rows(tmp_path / "out.csv")


def test_a_spreadsheet_has_a_column_a_field_and_a_row_a_record(tmp_path: Path) -> None:
    (row,) = _csv(tmp_path, record("a", doubt=True))
    assert list(row) == [
        "image_id", "caption", "tags", "category", "season", "confidence.category", "confidence.season", "score",
        "needs_review", "review_reasons", "model_version", "image", "task_id",
    ]  # fmt: skip
    assert (row["tags"], row["category"], row["confidence.season"]) == ("连衣裙; 冬季", "服饰 / 女装 / 连衣裙", "0.75")
    assert (row["needs_review"], row["review_reasons"], row["task_id"]) == ("TRUE", FINDING.reason, "")


def test_excel_is_told_that_it_is_utf_8_and_gets_its_line_ends(tmp_path: Path) -> None:
    _csv(tmp_path, record("a"))
    content = (tmp_path / "out.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfimage_id,")
    assert content.count(b"\r\n") == content.count(b"\n") == 2


@pytest.mark.parametrize(
    "text",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "＝1+1", " =1"],
    ids=["equals", "plus", "minus", "at", "tab", "return", "full-width", "space before"],
)
def test_no_text_is_a_formula(tmp_path: Path, text: str) -> None:
    (row,) = _csv(tmp_path, record("a", image_id=text, caption=text, image=text, tags=[text]))
    assert row["image_id"] == row["caption"] == row["image"] == row["tags"] == f"'{text}"


@pytest.mark.parametrize(
    "text",
    ['say "so", he said', "two\nlines", "a;b,c", "裙 👗", os.fsdecode(b"\xff.png")],
    ids=["quotes", "lines", "separators", "Chinese", "no text"],
)
def test_every_other_text_comes_back_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "out.jsonl").write_text(json.dumps(record("a", image_id=text)) + "\n", encoding="utf-8")
    write_csv(tmp_path / "out.jsonl", tmp_path / "out.csv", SCHEMA)
    assert _rows(tmp_path / "out.csv")[0]["image_id"] == text.replace("\udcff", "?")


@pytest.mark.parametrize("control", [*"\0\a\b\v\f\x1b\x1c\x7f\x85\x9b"], ids=ascii)
def test_no_table_holds_a_control_character(tmp_path: Path, control: str) -> None:
    text = f"a{control}[2Jb\tc\nd"
    given = record("a", image_id=text, caption=text, image=text, tags=[text])
    records = write_lines(tmp_path / "out.jsonl", [given])
    write_csv(records, tmp_path / "out.csv", SCHEMA)
    parquet.write_parquet(records, tmp_path / "out.parquet", SCHEMA)
    (row,), (typed,) = _rows(tmp_path / "out.csv"), pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for name in ("image_id", "caption", "image"):
        assert row[name] == typed[name] == "a?[2Jb\tc\nd"
    assert [row["tags"]] == typed["tags"] == ["a?[2Jb\tc\nd"]


@pytest.mark.parametrize("text", ["00123", "6901234567890", "12345678901234567890", "1e5", "12.5E3"])
def test_a_name_that_excel_would_change_as_a_number_stays_text(tmp_path: Path, text: str) -> None:
    (row,) = _csv(tmp_path, record("a", image_id=text))
    assert row["image_id"] == f"'{text}"


@pytest.mark.parametrize("text", ["0", "123", "12345678901", "1.5", "7-11", "0012.jpg", "e5"])
def test_a_name_that_excel_leaves_alone_is_left_alone(tmp_path: Path, text: str) -> None:
    (row,) = _csv(tmp_path, record("a", image_id=text))
    assert row["image_id"] == text


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    values = _everything()
    write_csv(_written(tmp_path, values), tmp_path / "all.csv", ALL)
    row = _rows(tmp_path / "all.csv")[0]
    for field in ALL.fields:
        value = values[field.name].value
        if isinstance(value, int | float):
            assert row[field.name] == str(value)


def _everything() -> dict[str, FieldAnswer]:
    """A value for each kind of control."""
    from label_config.schema import ChoicesField, NumberField, RatingField, TaxonomyField

    values: dict[str, FieldAnswer] = {}
    for field in ALL.fields:
        match field:
            case ChoicesField():
                chosen = field.choices if field.multiple else field.choices[:1]
                values[field.name] = FieldAnswer(tuple(choice.value for choice in chosen), 0.5)
            case TaxonomyField():
                paths = [tuple(node.value for node in path) for path in field.paths()][: field.max_usages or 1]
                values[field.name] = FieldAnswer(tuple(paths), 0.5)
            case RatingField():
                values[field.name] = FieldAnswer(field.max_rating, 0.5)
            case NumberField():
                values[field.name] = FieldAnswer(field.minimum if field.minimum is not None else -3, 0.5)
            case _:
                values[field.name] = FieldAnswer("一件衣服")
    return values


def _written(tmp_path: Path, values: dict[str, FieldAnswer]) -> Path:
    plain = {name: found.value for name, found in values.items()}
    made = record("all", plain, ALL)
    made["confidence"] = {name: found.confidence for name, found in values.items() if found.confidence is not None}
    return write_lines(tmp_path / "all.jsonl", [made])


def test_an_answer_comes_back_out_of_its_record(tmp_path: Path) -> None:
    values = _everything()
    (line,) = lines(_written(tmp_path, values))
    answer, findings = answer_in(line, ALL)
    assert answer == Answer(values)
    assert findings == ()


def test_parquet_has_types_and_lists(tmp_path: Path) -> None:
    values = _everything()
    assert parquet.write_parquet(_written(tmp_path, values), tmp_path / "all.parquet", ALL) == 1
    (row,) = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    (line,) = lines(tmp_path / "all.jsonl")
    for column in columns(ALL):
        wanted = column.of(line)
        if column.field is not None and not column.is_confidence and isinstance(row[column.title], list):
            wanted = wanted if isinstance(wanted, list) else [wanted]
        assert row[column.title] == wanted, column.title


def test_parquet_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 3)
    path = write_lines(tmp_path / "out.jsonl", [record(str(number), task_id=number) for number in range(10)])
    assert parquet.write_parquet(path, tmp_path / "out.parquet", SCHEMA) == 10
    file = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 4
    assert file.read().column("task_id").to_pylist() == [str(number) for number in range(10)]


def test_a_field_called_like_a_column_of_ours_gets_another_title() -> None:
    schema = parse_label_config(
        """<View><Image name="image" value="$image"/><TextArea name="text" toName="image"/>
        <Choices name="tags" toName="image"><Choice value="a"/></Choices></View>"""
    )
    titles = [column.title for column in columns(schema)]
    assert titles[:4] == ["image_id", "caption", "tags", "field.tags"]
    assert len(set(titles)) == len(titles)


def test_the_second_queue_holds_what_needs_review(tmp_path: Path) -> None:
    records = write_lines(tmp_path / "out.jsonl", [record(str(n), doubt=n % 3 == 0) for n in range(9)])
    assert write_review_only(records, tmp_path / "review.jsonl") == 3
    assert lines(tmp_path / "review.jsonl") == [line for line in lines(records) if line["needs_review"]]


def test_no_records_make_empty_files(tmp_path: Path) -> None:
    nothing = tmp_path / "none.jsonl"
    assert write_csv(nothing, tmp_path / "a.csv", SCHEMA) == 0
    assert parquet.write_parquet(nothing, tmp_path / "a.parquet", SCHEMA) == 0
    assert write_review_only(nothing, tmp_path / "a.jsonl") == 0
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").num_rows == 0


def test_records_of_another_label_config_are_refused(tmp_path: Path) -> None:
    records = write_lines(tmp_path / "out.jsonl", [record("a")])
    with pytest.raises(UsageError, match="other fields"):
        write_csv(records, tmp_path / "out.csv", ALL)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"confidence": {"season": "sure", "category": 0.9}}, {"confidence": {"season": "inf"}},
        {"confidence": {"season": 1.5}}, {"confidence": {"season": -5}}, {"confidence": {"season": 10**400}},
        {"confidence": None}, {"confidence": [1]}, {"fields": None}, {"fields": ["caption", "category", "season"]},
        {"fields": "caption"}, {"needs_review": True, "review_reasons": 5}, {"review_reasons": [["a"]]},
        {"image_id": ["a"]}, {"image_id": None}, {"score": "0.5"}, {"score": True}, {"model_version": {}},
        {"image": None}, {"image": ["a"]}, {"caption": 5}, {"caption": ["a"]}, {"tags": "a"}, {"tags": [1]},
        {"tags": None}, {"needs_review": 1}, {"needs_review": "no"}, {"needs_review": None}, {"withheld": "no"},
        {"withheld": None}, {"task_id": 1.5}, {"task_id": None}, {"task_id": [1]}, {"task_id": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_record_that_is_not_as_it_was_written_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    records = write_lines(tmp_path / "out.jsonl", [record("a"), {**record("b", doubt=True), **damage}])
    with pytest.raises(UsageError, match="is not as prelabel writes one"):
        write_csv(records, tmp_path / "out.csv", SCHEMA)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("line", ['{"image_id": NaN}', '{"x": [-Infinity]}', '{"x": 1e999}', "x", "{"])
def test_a_line_that_is_no_json_of_ours_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    records = write_lines(tmp_path / "out.jsonl", [record("a")])
    whole = records.read_text() + "\n"
    for write in (
        lambda: write_csv(records, tmp_path / "x", SCHEMA),
        lambda: write_review_only(records, tmp_path / "x"),
    ):
        records.write_text(whole + line)
        write()  # a killed run's half line, or one of a run that goes on
        records.write_text(whole + line + "\n" + whole)
        with pytest.raises(UsageError, match=r"has something else in line 3: it is not a file that prelabel wrote"):
            write()


def test_none_of_several_labels_is_a_record(tmp_path: Path) -> None:
    controls = FIELDS["choice"] + FIELDS["choices"].replace('"f"', '"g"')
    schema = parse_label_config(f'<View><Image name="image" value="$image"/>{controls}</View>')
    made = {**record("a"), "fields": {"f": [], "g": []}, "confidence": {}}
    out = tmp_path / "out.parquet"
    assert parquet.write_parquet(write_lines(tmp_path / "out.jsonl", [made]), out, schema) == 1
    assert pyarrow.parquet.read_table(out).select(["f", "g"]).to_pylist() == [{"f": None, "g": []}]


FIELDS = {
    "text": '<TextArea name="f" toName="image"/>',
    "choice": '<Choices name="f" toName="image"><Choice value="a"/><Choice value="b"/></Choices>',
    "choices": '<Choices name="f" toName="image" choice="multiple"><Choice value="a"/><Choice value="b"/></Choices>',
    "path": """<Taxonomy name="f" toName="image"><Choice value="a"><Choice value="b"/></Choice></Taxonomy>""",
    "rating": '<Rating name="f" toName="image" maxRating="3"/>',
    "number": '<Number name="f" toName="image" min="0" max="10"/>',
    "any number": '<Number name="f" toName="image"/>',
}


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        ("text", "any", ["any"]),
        ("choice", "b", "c"),
        ("choice", None, ["a", "b"]),
        ("choice", "a", ["a"]),
        ("choices", ["a", "b"], ["a", "c"]),
        ("choices", ["a"], "a"),
        ("path", "a / b", "a / c"),
        ("path", "a / b", ["a / b", "a / b"]),
        ("path", None, 3),
        ("path", "a / b", ["a / b"]),
        ("rating", 3, 4),
        ("rating", None, "a"),
        ("rating", 1, True),
        ("number", 10, 10.5),
        ("number", 0, "0"),
        ("number", 1, True),
        ("any number", 1e300, 10**309),
        ("any number", -1.5, 10**400),
    ],
)
def test_a_label_that_the_label_config_does_not_have_is_refused(
    tmp_path: Path, kind: str, allowed: object, refused: object
) -> None:
    schema = parse_label_config(f'<View><Image name="image" value="$image"/>{FIELDS[kind]}</View>')
    made = {**record("a"), "fields": {"f": allowed}, "confidence": {}}
    assert write_csv(write_lines(tmp_path / "good.jsonl", [made]), tmp_path / "out.csv", schema) == 1
    records = write_lines(tmp_path / "out.jsonl", [made, {**made, "image_id": "bad", "fields": {"f": refused}}])
    with pytest.raises(
        UsageError, match=r"the record bad has .* as f, .*Give the --label-config that it was made with"
    ):
        write_csv(records, tmp_path / "not.csv", schema)
    assert not (tmp_path / "not.csv").exists()


def test_forty_thousand_records_need_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    line = json.dumps(record("a"), ensure_ascii=False) + "\n"
    for num in (1_000, 40_000):
        with (tmp_path / f"{num}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(num):
                file.write(line)
    write_csv(tmp_path / "1000.jsonl", tmp_path / "1000.csv", SCHEMA)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_csv(tmp_path / "40000.jsonl", tmp_path / "40000.csv", SCHEMA)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # KiB; the file has 35,000
