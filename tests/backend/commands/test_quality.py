"""`prelabel quality`: what people read, and what programs get."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import cli
from backend.bulk.exports.csv import write_csv
from tests.backend.bulk.given import SCHEMA, record, write_lines
from tests.backend.bulk.test_truth import annotation, task
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.label_studio.tasks_server import TasksServer, prediction, tasks_server
from tests.backend.label_studio.tasks_server import annotation as ls_annotation
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
    assert "没有盲检的图片：所有标注者都先看到了预标注，所以无法给出保证。" in shown
    assert "预标注过的 60 张：100% 没有改动任何标签" in shown
    assert "盲检正确" in shown


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_heading_is_cut_at_80_columns(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, shown, _ = run("--truth", given(tmp_path, 60, 0, parent_prediction=5), "--language", language)
    assert "…" not in shown


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give RECORDS and --truth FILE, or --project ID"),
        (["out.jsonl"], "Give RECORDS and --truth FILE, or --project ID"),
        (["--truth", "a.json"], "Give RECORDS and --truth FILE, or --project ID"),
        (["--project", "12", "out.jsonl"], "RECORDS and --project do not go together: leave one of them out"),
        (
            ["--project", "12", "--truth", "a.json"],
            "--truth and --project do not go together (--truth goes",
        ),
        (["--project", "12", "--label-config", "a.xml"], "--label-config and --project do not go together"),
        (["out.jsonl", "--truth", "a.json", "--since", "2026-11-30"], "--since and RECORDS do not go together"),
        (["out.jsonl", "--truth", "a.json", "--apply"], "(--apply goes with --project): leave one of them out"),
        (
            ["out.jsonl", "--truth", "a.json", "--apply-calibration"],
            "RECORDS and --apply-calibration do not go",
        ),
        (["--apply-calibration"], "--apply-calibration needs --project ID"),
        (["--project", "12", "--apply", "--apply-calibration"], "--apply and --apply-calibration do not go together"),
        (["--project", "12"], "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"),
    ],
)
def test_one_form_is_asked_for_and_not_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["prelabel", "quality", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TasksServer]:
    """Label Studio, with ten tasks that people saw an answer of, two of them corrected, and one skipped."""
    with tasks_server(CONFIG) as server:
        monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY_KEY)
        monkeypatch.setenv("LABEL_STUDIO_PUBLIC_URL", "https://labels.example")
        monkeypatch.setenv("PRELABEL_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("COLUMNS", "160")
        for number in range(1, 11):
            said = annotation("夏季" if number < 3 else "winter")["result"]
            made = ls_annotation(number, 10 + number, said, parent_prediction=number)
            answer = prediction(number, "garments-nf4-1", 5, annotation()["result"])
            server.add(number, 20 + number, made, predictions=(answer,))
        server.add(11, 40, ls_annotation(11, 40, [], was_cancelled=True))
        yield server


def ask(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prelabel", "quality", "--project", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_project_is_read_from_label_studio_and_said_with_links_to_its_tasks(
    project: TasksServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(monkeypatch, "12", "--language", "zh") == 0
    shown, besides = capsys.readouterr()
    assert besides.startswith("正在读取项目 12 的标注："), "in the language of the rest"
    assert "模型版本 garments-nf4-1" in shown
    assert "预标注过的 10 张：80% 没有改动任何标签" in shown
    assert "season: 冬季 -> 夏季   1, 2" in shown
    assert "1 条没有用上：标注者跳过了 (11)" in shown
    assert "任务的地址：https://labels.example/projects/12/data?task= 加上编号" in shown
    assert {method for method, _, _ in project.calls} == {"GET"}


def test_what_others_wrote_into_label_studio_cannot_write_to_the_terminal(
    project: TasksServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e"
    for number in (1, 2):
        answer = prediction(number, f"{number}{hostile}", 5, annotation()["result"])
        made = ls_annotation(number, 10 + number, annotation()["result"], parent_prediction=number)
        project.add(number, 50 + number, made, predictions=(answer,))

    code = ask(monkeypatch, "12")
    shown = "".join(capsys.readouterr())
    assert code == 0, shown
    assert "2\\x1b]0;owned" in shown
    assert not set("\x1b\x07\u202e") & set(shown)


def test_what_was_found_is_not_applied_where_the_present_model_version_is_not_known(
    project: TasksServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in ("--apply", "--apply-calibration"):
        assert ask(monkeypatch, "12", option) == 2
        assert "Which model version project 12 has now is not known here" in capsys.readouterr().err
    assert {method for method, _, _ in project.calls} == {"GET"}


def test_the_page_of_a_project_leads_to_its_worst_tasks(
    project: TasksServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"

    assert ask(monkeypatch, "12", "--report", str(page)) == 0

    assert 'href="https://labels.example/projects/12/data?task=1"' in page.read_text(encoding="utf-8")


def test_of_a_project_programs_get_every_figure_and_only_what_is_new_is_read_again(
    project: TasksServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(monkeypatch, "12", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["model_version"], first["num_filled"], first["filled"]["num_right"]) == ("garments-nf4-1", 10, 8)
    assert first["other_versions"] == []

    project.calls.clear()
    del project.tasks[11]
    assert ask(monkeypatch, "12", "--json", "--since", "2026-11-29") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["num_entries"] == again["num_filled"] == 10, "a task that was deleted is gone from here, too"


def test_a_project_that_is_not_there_or_where_nobody_labelled_is_said_so(
    project: TasksServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(monkeypatch, "13") == 2
    assert "--project 13: Label Studio at" in capsys.readouterr().err
    project.tasks.clear()
    project.add(1, 5)
    assert ask(monkeypatch, "12") == 2
    assert "nobody has labelled a task that has an answer yet (tasks in all: 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "arguments", "is_said"),
    [("", (), True), ("", ("--blind",), True), ("夏季", (), False), ("夏季", ("--blind",), False)],
)
def test_of_a_table_that_nobody_changed_it_is_asked_whether_it_was_corrected(
    tmp_path: Path, run: Any, changed: str, arguments: tuple[str, ...], is_said: bool
) -> None:
    given(tmp_path, 60, 0)
    page, table = tmp_path / "page.html", tmp_path / "truth.csv"
    write_csv(tmp_path / "out.jsonl", table, SCHEMA)
    if changed:
        table.write_text(table.read_text(encoding="utf-8").replace(",冬季,", f",{changed},", 1), encoding="utf-8")

    code, _, besides = run("--truth", str(table), "--report", str(page), "--language", "en", *arguments)

    said = "Note: nothing in truth.csv differs from what was answered: was it corrected?"
    assert code == 0
    assert (said in besides) == is_said
    assert (said in page.read_text(encoding="utf-8")) == is_said


@pytest.mark.parametrize("is_filled", [True, False])
def test_who_filled_the_empty_rows_of_a_blind_audit_has_changed_the_table(
    tmp_path: Path, run: Any, is_filled: bool
) -> None:
    given(tmp_path, 60, 0)
    plain = [{**record(f"p{number:03}"), "withheld": number < 5} for number in range(60)]
    write_lines(tmp_path / "out.jsonl", plain)
    table = tmp_path / "truth.csv"
    write_csv(tmp_path / "out.jsonl", table, SCHEMA)
    if is_filled:  # as they were answered
        write_lines(tmp_path / "filled.jsonl", [{**one, "withheld": False} for one in plain])
        write_csv(tmp_path / "filled.jsonl", table, SCHEMA)

    _, _, besides = run("--truth", str(table), "--language", "en")

    assert ("was it corrected?" in besides) is not is_filled


@pytest.mark.parametrize("missing", ["out.jsonl", "truth.json"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, run: Any, missing: str) -> None:
    path = given(tmp_path, 1, 0)
    (tmp_path / missing).unlink()

    code, _, errors = run("--truth", path)

    assert code == 2
    assert missing in errors
    assert len(errors.splitlines()) == 1


def test_the_page_stands_where_it_was_asked_for(tmp_path: Path, run: Any) -> None:
    page = tmp_path / "质量.html"

    code, shown, _ = run("--truth", given(tmp_path, 57, 3), "--report", str(page))

    assert code == 0
    assert "盲检 60 张" in shown
    assert "抽检 60 张" in page.read_text(encoding="utf-8")


def test_pictures_that_are_not_like_the_checked_ones_end_the_guarantee(tmp_path: Path, run: Any) -> None:
    truth = given(tmp_path, 60, 0)
    others = [{**record(f"q{number:03}", {"season": ("夏季",)}), "score": 0.3} for number in range(200)]
    checked = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    write_lines(tmp_path / "out.jsonl", others)
    (tmp_path / "out.jsonl").write_text(checked + (tmp_path / "out.jsonl").read_text(encoding="utf-8"), "utf-8")

    code, shown, _ = run("--truth", truth, "--language", "en")

    assert code == 0
    assert "The guarantee is void since q000: later pictures are not like those checked blind" in shown
    assert "may pass unseen: at most" not in shown


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path, run: Any) -> None:
    code, _, errors = run("--truth", given(tmp_path, 57, 3), "--report", str(tmp_path / "no" / "page.html"))

    assert code == 2
    assert "--report" in errors
    assert len(errors.splitlines()) == 1
