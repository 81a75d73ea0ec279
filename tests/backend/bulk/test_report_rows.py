"""The files of a run are read line by line, and no line can stop the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.report.rows import MAX_LINE_BYTES, FailureRow, Row, read_failures, read_rows
from tests.backend.bulk.report_rig import failure, lines, record


def test_a_record_is_read_with_every_field_as_a_tuple(tmp_path: Path) -> None:
    path = lines(tmp_path / "out.jsonl", [record("a", 0.42, season=("夏季", "四季"))])
    (row,) = read_rows(path)
    assert row is not None
    assert (row.image_id, row.image, row.model_version) == ("a", "/pictures/a.jpg", "garments-nf4")
    assert row.values["category"] == ("服饰 / T恤",)
    assert row.values["season"] == ("夏季", "四季")
    assert (row.values["quality"], row.values["price"]) == ((4,), (129,))
    assert row.confidence == dict.fromkeys(("category", "season", "quality", "price"), 0.42)
    assert (row.score, row.needs_review, len(row.reasons)) == (0.42, True, 4)


def test_a_field_left_empty_has_no_values(tmp_path: Path) -> None:
    (row,) = read_rows(lines(tmp_path / "out.jsonl", [record(category=None, caption=None)]))
    assert row is not None
    assert (row.values["category"], row.values["caption"]) == ((), ())


def test_a_failure_is_read(tmp_path: Path) -> None:
    (found,) = read_failures(lines(tmp_path / "out.failed.jsonl", [failure("a")]))
    assert found == FailureRow("a", "/pictures/a.jpg", "image_corrupt", "It is damaged.")


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "out.jsonl")) == []
    assert list(read_failures(tmp_path / "out.failed.jsonl")) == []


@pytest.mark.parametrize(
    "line",
    [b'{"image_id": "a", "fie', b"[]", b'"a"', b"null", b"\xff\xfe", b"[" * 100_000, b"NaN", b"1" * 5_000, b"{" * 9],
    ids=["torn", "a list", "a text", "null", "no UTF-8", "nested deeply", "NaN", "a huge number", "braces"],
)
def test_a_line_that_is_no_record_is_told_apart_and_the_next_is_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line + b"\n\n" + json.dumps(record("b")).encode() + b"\n" + line)
    first, second, third = read_rows(path)
    assert (first, third) == (None, None)
    assert second is not None
    assert second.image_id == "b"


@pytest.mark.parametrize("extra", [-2, -1, 0, 1, MAX_LINE_BYTES], ids=str)
def test_a_line_that_is_too_long_is_left_out_as_one(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "out.jsonl"
    long = json.dumps({"image_id": "a", "padding": ""}).encode()
    long = long[:-2] + b"x" * (MAX_LINE_BYTES + extra - len(long)) + long[-2:]
    path.write_bytes(long + b"\n" + json.dumps({"image_id": "b"}).encode())
    first, second = read_rows(path)
    assert (first is None) == (len(long) + 1 > MAX_LINE_BYTES)
    assert second == Row("b")


@pytest.mark.parametrize("value", [None, 1, True, "x", 1.5, [], {}, [[]], [None], {"a": {}}, {"a": [True, {}, None]}])
def test_a_value_of_another_type_counts_as_absent(tmp_path: Path, value: Any) -> None:
    keys = ("image_id", "image", "fields", "confidence", "score", "review_reasons", "model_version")
    (row,) = read_rows(lines(tmp_path / "out.jsonl", [dict.fromkeys(keys, value)]))
    assert row is not None
    assert (row.image_id, row.reasons) == (value if isinstance(value, str) else "", ())
    assert all(found == () for found in row.values.values())
    assert row.confidence == {}


@pytest.mark.parametrize("share", ["-0.1", "1.01", "NaN", "Infinity", '"0.5"', "true", "1e999", "9" * 400])
def test_a_confidence_that_is_no_share_counts_as_absent(tmp_path: Path, share: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(f'{{"image_id": "a", "score": {share}, "confidence": {{"category": {share}, "season": 1}}}}\n')
    assert list(read_rows(path)) == [Row("a", confidence={"season": 1.0})]
