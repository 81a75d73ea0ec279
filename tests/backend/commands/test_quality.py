"""`prelabel quality`: what people read, and what programs get."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from backend import cli
from tests.backend.bulk.given import record, write_lines
from tests.backend.bulk.test_truth import annotation, task
from tests.backend.serving import CONFIG


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "config.xml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, str]:
        config = ["--label-config", str(tmp_path / "config.xml")]
        command = ["prelabel", "quality", str(tmp_path / "out.jsonl"), *config, *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def given(tmp_path: Path, num_right: int, num_wrong: int, **more: Any) -> str:
    """Records, and an export in which so many of them are right; the path of the export."""
    names = [f"p{number:03}" for number in range(num_right + num_wrong)]
    sure = {"category": 0.97, "season": 0.96}
    write_lines(tmp_path / "out.jsonl", [{**record(name), "confidence": sure} for name in names])
    seasons = ["winter"] * num_right + ["夏季"] * num_wrong
    tasks = [
        task(name, annotation(s, **more), number=n) for n, (name, s) in enumerate(zip(names, seasons, strict=True))
    ]
    (tmp_path / "truth.json").write_text(json.dumps([*tasks, task("p999", number=999)]), encoding="utf-8")
    return str(tmp_path / "truth.json")


def test_a_project_manager_reads_sentences_and_where_the_errors_are(tmp_path: Path, run: Any) -> None:
    code, shown, _ = run("--truth", given(tmp_path, 57, 3), "--language", "en")

    assert code == 0
    assert "Blind check of 60 pictures: in 95% every label is right; the true share lies between 86% and 99%" in shown
    assert "Nothing may pass unseen" in shown
    assert "season: 冬季 -> 夏季   p057, p058, p059" in shown
    assert "Nobody filled caption in any picture" in shown
    assert "1 not used: nobody has labelled it yet (task 999)" in shown


def test_in_chinese_and_where_nothing_was_checked_blind(tmp_path: Path, run: Any) -> None:
    code, shown, _ = run("--truth", given(tmp_path, 60, 0, parent_prediction=5), "--language", "zh")

    assert code == 0
    assert "没有盲检的图片" in shown
    assert "预标注过的 60 张：100% 没有改动任何标签" in shown
    assert "盲检正确" in shown


def test_programs_get_every_figure_and_they_add_up(tmp_path: Path, run: Any) -> None:
    code, shown, _ = run("--truth", given(tmp_path, 60, 0), "--json", "--target", "0.9")
    found = json.loads(shown)

    assert code == 0
    assert found["num_entries"] == 61 == found["num_blind"] + found["num_filled"] + sum(found["unused"].values())
    assert found["threshold"]["target"] == pytest.approx(0.1)
    assert found["threshold"]["threshold"] == 0.05
    assert {field["name"]: field["blind"]["num_right"] for field in found["fields"]}["season"] == 60


def test_each_field_with_labels_has_a_threshold_of_its_own(tmp_path: Path, run: Any) -> None:
    _, shown, _ = run("--truth", given(tmp_path, 54, 6), "--json")
    fields = {field["name"]: field["threshold"] for field in json.loads(shown)["fields"]}

    assert "caption" not in fields, "nobody filled it"
    assert fields["category"]["threshold"] == 0.05
    assert fields["season"]["threshold"] is None
    assert fields["season"]["num_wrong"] == 6


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("[]", "says nothing of the 60 records"),
        ('[{"id": 1, "data": {"image": "x"}, "annotations": []}]', "1 not used"),
    ],
)
def test_a_truth_about_other_pictures_is_refused_with_the_reason(
    tmp_path: Path, run: Any, truth: str, said: str
) -> None:
    path = given(tmp_path, 60, 0)
    Path(path).write_text(truth, encoding="utf-8")

    code, _, errors = run("--truth", path)

    assert code == 2
    assert said in errors


@pytest.mark.parametrize("missing", ["out.jsonl", "truth.json"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, run: Any, missing: str) -> None:
    path = given(tmp_path, 1, 0)
    (tmp_path / missing).unlink()

    code, _, errors = run("--truth", path)

    assert code == 2
    assert missing in errors
    assert len(errors.splitlines()) == 1
