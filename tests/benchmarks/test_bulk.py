"""The benchmark of bulk runs: small runs of the real command, and what it counts, on files made for it."""

import json
from pathlib import Path

import pytest

from benchmarks import bulk
from benchmarks.bulk_command import Ended, LineCounter, Sample, records_of


def test_a_run_of_the_command_prints_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"quick": True, "parts": {"overhead": {"pairs": 1}}}), encoding="utf-8")
    assert bulk.main(["--quick", "--only", "whole", "resume", "--json", str(path)]) == 0
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert parts["overhead"] == {"pairs": 1}, "of another run: kept"
    assert {"date", "hardware", "torch", "made_by_commit", "load_average"} <= parts["whole"].keys()
    figures = {name: figure["value"] for name, figure in parts["whole"]["figures"].items()}
    assert figures["10,000 pictures"] == pytest.approx(10_000 / figures["speed"] / 60)
    assert figures["10,000 pictures at ¥0.06 a minute"] == pytest.approx(figures["10,000 pictures"] * 0.06)
    assert min(figures[f"accuracy: {field}"] for field in bulk.FIELDS) > 0.7
    assert parts["resume"]["figures"]["records"]["value"] == 40
    for name in ("there twice", "lost", "lines that were not valid at a kill"):
        assert parts["resume"]["figures"][name] == {"value": 0, "unit": "", "limit": 0, "holds": True}
    assert "images/s" in capsys.readouterr().out


def test_a_picture_with_other_labels_than_the_rule_is_not_right() -> None:
    shirt = {"category": "服饰 / 上装 / T恤", "style": "休闲", "season": "夏季", "scene": "日常出行"}
    number = bulk.classes().index(0)  # T-shirts
    pictures = [Path(f"{n}.png") for n in range(number + 1)]
    records = {str(picture): {"fields": {}} for picture in pictures}
    assert set(bulk.accuracy(records, pictures).values()) == {0.0}
    records[str(pictures[-1])] = {"fields": {**shirt, "style": "大气"}}
    right = 1 / len(pictures)
    assert bulk.accuracy(records, pictures) == {"category": right, "style": 0.0, "season": right, "scene": right}


def test_a_line_without_its_end_and_one_that_is_no_record_are_seen(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    record = json.dumps({"image_id": "a", "image": "/a.png", **dict.fromkeys(("caption", "tags", "fields"))})
    output.write_text(f'{record}\n{{"image_id"\n{record}', encoding="utf-8")
    assert bulk.look(output) == bulk.Kill(2, 1, len(record))


def test_the_lines_of_a_growing_file_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    count = LineCounter(path)
    assert count() == 0
    path.write_bytes(b"1\n2\n3")
    assert count() == 2
    path.write_bytes(b"1\n2\n3\n")
    assert count() == 3


def test_a_picture_with_two_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"image": "a"}\n{"image": "a"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="a is there twice"):
        records_of(path)


def test_the_peak_is_that_of_the_pictures_asked_for(tmp_path: Path) -> None:
    ended = Ended(tmp_path, {}, 1.0, [Sample(0, 9), Sample(10, 1), Sample(11, 2), Sample(20, 3), Sample(21, 5)])
    assert ended.peak_rss_bytes(0, 10) == 1, "loading does not count"
    assert ended.peak_rss_bytes(10, 20) == 3
    assert ended.peak_rss_bytes(30, 40) == 0, "nobody looked"
