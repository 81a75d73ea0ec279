"""The benchmark of bulk runs: what it counts on files made for it; small runs of the real command by `make soak`."""

import json
from pathlib import Path

import pytest

from benchmarks import bulk
from benchmarks.bulk_command import Ended, Sample, num_lines
from benchmarks.pictures import FIELDS, labels_of


@pytest.mark.soak
def test_a_run_of_the_command_prints_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"small": True, "parts": {"overhead": {"pairs": 1}}}), encoding="utf-8")
    assert bulk.main(["--small", "--only", "whole", "resume", "--json", str(path)]) == 0
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert parts["overhead"] == {"pairs": 1}, "of another run: kept"
    figures = {name: figure["value"] for name, figure in parts["whole"]["figures"].items()}
    assert figures["10,000 pictures"] == pytest.approx(10_000 / figures["speed"] / 60)
    assert figures["10,000 pictures at ¥0.06 a minute"] == pytest.approx(figures["10,000 pictures"] * 0.06)
    assert min(figures[f"accuracy: {field}"] for field in FIELDS) > 0.7
    assert parts["resume"]["figures"]["records"]["value"] == 40
    for name in ("there twice", "lost", "whole lines that were no record at a kill"):
        assert parts["resume"]["figures"][name] == {"value": 0, "unit": "", "limit": 0, "holds": True}
    assert "images/s" in capsys.readouterr().out


def test_a_picture_with_other_labels_than_the_rule_is_not_right() -> None:
    labels = labels_of(0)
    said = {name: getattr(labels, name) for name in FIELDS} | {"category": " / ".join(labels.category)}
    pictures = [Path("0.png"), Path("1.png")]
    assert set(bulk.accuracy({}, pictures).values()) == {0.0}
    records = {"0.png": {"fields": {**said, "style": "大气"}}}
    assert bulk.accuracy(records, pictures) == {"category": 0.5, "style": 0.0, "season": 0.5, "scene": 0.5}


def test_lines_that_are_no_record_are_seen_and_one_without_its_end_is_none_yet(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert num_lines(output) == 0
    record = json.dumps({"image_id": "a", "image": "/a.png", **dict.fromkeys(("caption", "tags", "fields"))})
    output.write_text(f'{record}\n{{"image_id"\n{record}\n{record}', encoding="utf-8")
    records, bad = bulk.read_records(output)
    assert (list(records), bad, num_lines(output)) == (["/a.png"], 1, 3)


def test_the_peak_is_that_of_the_pictures_asked_for(tmp_path: Path) -> None:
    ended = Ended(tmp_path, {}, 1.0, [Sample(0, 9), Sample(10, 1), Sample(11, 2), Sample(20, 3), Sample(21, 5)])
    assert ended.peak_rss_bytes(0, 10) == 1, "loading does not count"
    assert ended.peak_rss_bytes(10, 20) == 3
    assert ended.peak_rss_bytes(30, 40) == 0, "nobody looked"
