"""`prelabel annotate SOURCE... --output FILE`: what is asked, what is written, and the exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest

from backend.commands import annotate
from backend.engine.api import EngineStatus
from backend.engine.client import EngineClient
from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import GenerationFailed
from tests.backend.bulk import dying_engine
from tests.backend.bulk.given import Here, failure, lines, many_pictures, pictures, write_lines
from tests.backend.images.pictures import png
from tests.backend.serving import ANSWER, CAPTION
from tests.fakes import FakeEngine

NAMES = ["a.png", "sub/b.png", "sub/裙 👗.png"]


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


def test_a_folder_becomes_one_record_a_picture(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl"
    code, shown, errors = here.run(folder, "--output", output)
    assert code == 0, errors
    records = {line["image_id"]: line for line in lines(output)}
    assert set(records) == {"a", "sub/b", "sub/裙 👗"}
    found = records["sub/b"]
    assert list(found) == [
        "image_id", "caption", "tags", "fields", "confidence", "score", "needs_review", "review_reasons",
        "model_version", "image",
    ]  # fmt: skip
    assert found["caption"] == CAPTION
    assert found["fields"] == {"caption": CAPTION, "category": "服饰 / 女装 / 连衣裙", "season": "冬季"}
    assert found["tags"] == ["连衣裙", "冬季"]
    assert found["image"] == str(folder / "sub" / "b.png")
    assert "Annotated" in shown
    assert "3 of 3 (100.0%)" in errors


def test_a_table_is_annotated_row_by_row(here: Here, tmp_path: Path) -> None:
    pictures(tmp_path / "p", ["a.png", "b.png"])
    table, output = tmp_path / "list.csv", tmp_path / "out.jsonl"
    table.write_text("sep=;\nsku;Bild\n1;p/a.png\n2;\n3;p/b.png\n")
    code, shown, errors = here.run(table, "--output", output, "--column", "Bild")
    assert {line["image"] for line in lines(output)} == {str(tmp_path / "p" / name) for name in ("a.png", "b.png")}
    assert code == 1
    assert "found 3 = 2 annotated + 0 failed + 1 left out (1 row_without_picture)" in errors
    assert f"{table}line4" in "".join(shown.split())


def test_failures_are_told_by_reason_and_the_rest_is_done(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl"
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "folder.png").mkdir()
    code, shown, _ = here.run(folder, "--output", output)
    assert code == 1
    assert len(lines(output)) == 3
    reasons = {line["image_id"]: line["reason"] for line in lines(tmp_path / "out.failed.jsonl")}
    assert reasons == {
        "broken": "image_corrupt",
        "text": "image_not_an_image",
        "empty": "image_not_an_image",
        "gone": "image_not_found",
    }
    assert "image_not_an_image" in shown


def test_all_that_was_found_is_accounted_for(here: Here, tmp_path: Path) -> None:
    """Found = annotated + failed + done before + left out by reason, in the table, the summary and the last line."""
    folder, output = pictures(tmp_path / "p", ["a.png", "main.jpg!800x800", "x"]), tmp_path / "out.jsonl"
    assert here.run(folder, "--output", output)[0] == 0
    pictures(folder, ["new.png"])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    (folder / "notes.txt").write_text("notes")
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "empty").write_bytes(b"")
    (folder / "again.png").symlink_to(folder / "a.png")
    listed = write_lines(tmp_path / "list.jsonl", [{"image": "p/new.png"}, {"image": ""}, {"sku": 1}])
    code, dry, _ = here.run(folder, listed, "--output", output, "--dry-run")
    assert code == 0
    code, shown, errors = here.run(folder, listed, "--output", output, "--summary", tmp_path / "s.json")
    assert code == 1
    summary = json.loads((tmp_path / "s.json").read_text())
    left_out = {group["reason"]: group["num"] for group in summary["left_out"]}
    assert left_out == {
        "row_unusable": 1, "row_without_picture": 1, "named_twice": 2, "not_a_picture": 1, "hidden_file": 1,
        "empty_file": 1,
    }  # fmt: skip
    parts = [summary[name] for name in ("num_done", "num_failed", "num_skipped", "num_failed_before", "num_left")]
    assert (parts, summary["num_found"]) == ([1, 1, 3, 0, 0], 12)
    assert sum(parts) + sum(left_out.values()) == summary["num_found"]
    account = "found 12 = 1 annotated + 1 failed + 3 done before + 7 left out (1 row_unusable, 1 row_without_picture, "
    assert account in errors.splitlines()[-1]
    assert account.removeprefix("found 12 ") in " ".join(shown.split())
    assert "Found 12 = 5 pictures + 7 left out" in " ".join(dry.split())
    for said in (shown, dry, errors):
        assert "notes.txt(text)" in "".join(said.split())  # wherever the table breaks its lines
        assert "list.jsonlline3" in "".join(said.split())


def test_a_folder_of_no_pictures_says_what_it_holds_instead(here: Here, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "notes.txt").write_text("notes")
    code, _, errors = here.run(tmp_path / "p", "--output", tmp_path / "out.jsonl")
    assert code == 2
    assert "1 not_a_picture" in errors
    assert "notes.txt (text)" in errors


def test_identical_pictures_are_asked_about_once_and_each_has_its_record(here: Here, tmp_path: Path) -> None:
    folder, output = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(png())
    assert here.run(folder, "--output", output, "--summary", tmp_path / "s.json")[0] == 0
    assert len(here.engine.requests) == 1
    assert len({line["image"] for line in lines(output)}) == 20
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["num_done"], summary["num_reused"]) == (20, 19)


def test_a_second_run_does_only_what_is_new(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES[:2]), tmp_path / "out.jsonl"
    assert here.run(folder, "--output", output)[0] == 0
    before = output.read_bytes()
    pictures(folder, ["a.jpg", "new.png", "x/y.png", "z.png"])
    code, shown, _ = here.run(folder, "--output", output)
    assert code == 0
    assert "Done before" in shown
    assert output.read_bytes().startswith(before)
    ids = [line["image_id"] for line in lines(output)]
    assert len(ids) == len(set(ids)) == 6


def test_with_nothing_to_do_no_model_is_loaded_and_the_exports_are_made(here: Here, tmp_path: Path) -> None:
    folder, output, table = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl", tmp_path / "out.csv"
    assert here.run(folder, "--output", output)[0] == 0
    here.engine = NeverStarted({})
    assert here.run(folder, "--output", output, "--csv", table)[0] == 0
    assert len(table.read_text(encoding="utf-8-sig").splitlines()) == 4
    code, _, errors = here.run(folder, "--output", output, "--csv", table, config=False)
    assert (code, "Give the --label-config" in errors) == (2, True)


def test_a_terminal_that_has_no_yuan_sign_gets_its_code(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", ["a.png"]), tmp_path / "out.jsonl"
    shown = io.BytesIO()
    with io.TextIOWrapper(shown, encoding="gbk") as terminal:
        with contextlib.redirect_stdout(terminal):
            code, _, errors = here.run(folder, "--output", output, "--price-per-minute", "2")
        assert code == 0, errors
        terminal.flush()
        assert b"\\xa5" in shown.getvalue()


class NeverStarted(FakeEngine):
    async def start(self) -> None:
        raise AssertionError("nothing was to do")


def test_what_failed_is_left_alone_until_it_is_to_be_tried_again(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl"
    (folder / "late.png").write_bytes(b"")
    assert here.run(folder, "--output", output)[0] == 1
    (folder / "late.png").write_bytes(png())
    code, shown, _ = here.run(folder, "--output", output)
    assert code == 1
    assert "1 of them in an earlier run" in shown
    assert here.run(folder, "--output", output, "--retry-failed")[0] == 0
    assert not (tmp_path / "out.failed.jsonl").exists()
    assert [line["image_id"] for line in lines(output)][-1] == "late"
    assert len(lines(output)) == 4


def test_the_list_of_failures_can_be_a_source_of_another_run(here: Here, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", NAMES)
    listed = write_lines(tmp_path / "some.failed.jsonl", [failure("x") | {"image": str(folder / "a.png")}])
    assert here.run(listed, "--output", tmp_path / "out.jsonl")[0] == 0
    assert [line["image_id"] for line in lines(tmp_path / "out.jsonl")] == ["a"]


def test_an_answer_that_cannot_be_had_is_a_failure_by_name(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl"
    here.engine.failure = GenerationFailed("too_long: the picture is too large")
    assert here.run(folder, "--output", output)[0] == 1
    reasons = [line["reason"] for line in lines(tmp_path / "out.failed.jsonl")]
    assert reasons == ["generation_failed"] * 3
    assert lines(output) == []


def test_a_changed_option_does_not_mix_records(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", NAMES), tmp_path / "out.jsonl"
    assert here.run(folder, "--output", output, "--limit", "2")[0] == 0
    before = output.read_bytes()
    code, _, errors = here.run(folder, "--output", output, "--review-threshold", "0.9")
    assert code == 2
    assert "--overwrite" in errors
    assert output.read_bytes() == before
    assert here.run(folder, "--output", output, "--review-threshold", "0.9", "--overwrite")[0] == 0
    assert len(lines(output)) == 3


def test_a_limit_takes_the_first_pictures(here: Here, tmp_path: Path) -> None:
    folder, output = many_pictures(tmp_path / "pictures", 30), tmp_path / "out.jsonl"
    assert here.run(folder, "--output", output, "--limit", "10")[0] == 0
    assert {line["image_id"] for line in lines(output)} == {f"{number:04}" for number in range(10)}


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(here: Here, tmp_path: Path) -> None:
    folder = many_pictures(tmp_path / "pictures", 300)
    before = set(tmp_path.iterdir())
    options = ("--dry-run", "--price-per-minute", "2", "--output", tmp_path / "out.jsonl", "--workers", "4")
    code, shown, _ = here.run(folder, *options, "--json")
    assert code == 0
    estimate = json.loads(shown)
    assert (estimate["num_to_do"], estimate["num_sampled"]) == (300, 16)
    assert estimate["cost_yuan"] == pytest.approx(2 * estimate["seconds"] / 60)
    assert set(tmp_path.iterdir()) == before
    code, shown, _ = here.run(folder, *options)
    assert "nothing was written" in shown
    assert "at ¥2 a minute" in shown
    code, shown, _ = here.run(folder, "--dry-run", "--output", tmp_path / "out.jsonl", "--workers", "4")
    assert "not known: --price-per-minute" in " ".join(shown.split())


def test_a_summary_can_be_printed_as_json(here: Here, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", NAMES)
    code, shown, _ = here.run(folder, "--output", tmp_path / "out.jsonl", "--json", "--price-per-minute", "0.6")
    summary = json.loads(shown)
    assert (code, summary["num_done"], summary["exit_code"]) == (0, 3, 0)
    assert summary["cost_yuan"] == pytest.approx(0.01 * summary["seconds"])


def test_a_model_that_cannot_be_loaded_ends_the_run_and_leaves_no_files(here: Here, tmp_path: Path) -> None:
    class Unloadable(FakeEngine):
        async def start(self) -> None:
            self.status = EngineStatus("failed", message="no such model")

    here.engine = Unloadable({})
    folder = pictures(tmp_path / "pictures", NAMES)
    code, _, errors = here.run(folder, "--output", tmp_path / "out.jsonl")
    assert code == 1
    assert "could not be loaded" in errors
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pictures"], "--output FILE.jsonl"),
        (["pictures/a.png", "pictures/sub"], "--output FILE.jsonl"),
        (["nowhere", "-o", "out.jsonl"], "SOURCE .*nowhere cannot be read"),
        (["pictures", "-o", "no/folder/out.jsonl"], "The folder .* is not there"),
        (["pictures", "-o", "pictures"], "is a folder"),
        (["list.jsonl", "-o", "list.jsonl"], "is a SOURCE"),
        (["list.jsonl", "-o", "list.jsonl", "--overwrite"], "is a SOURCE"),
        (["pictures", "-o", "out.jsonl", "--csv", "out.jsonl"], "would both be written"),
        (["pictures", "-o", "out.jsonl", "--summary", "out.failed.jsonl"], "would both be written"),
        (["pictures", "-o", "out.jsonl", "--overwrite", "--retry-failed"], "leave out --retry-failed"),
        (["pictures", "-o", "out.jsonl", "--image-root-url", "https://shop.example"], "--label-studio-tasks"),
        (["pictures", "-o", "out.jsonl", "--limit", "0"], "limit"),
        (["pictures", "-o", "out.jsonl", "--column", "2"], "--column is for tables"),
        (["table.xls"], "tables as .xls are not read. Open it and save it as .xlsx or .csv"),
        (["table.csv", "-o", "out.jsonl"], "several columns.*1 sku, 2 Bild.*--column"),
        (["bad.jsonl", "-o", "out.jsonl"], "line 1 \\(no JSON\\)"),
        (["pictures", "-o", "notes.txt"], "not a file that prelabel wrote"),
    ],
    ids=[
        "no output", "two pictures and no output", "no source", "no folder", "output is a folder", "output is a source",
        "overwritten source", "one file twice", "the failures' file", "overwrite and retry", "address for nothing",
        "limit of nothing", "a column of a folder", "an old workbook", "a table we do not understand",
        "broken list", "another program's file",
    ],
)  # fmt: skip
def test_bad_usage_is_refused_with_the_next_step(
    here: Here, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "pictures", NAMES)
    write_lines(tmp_path / "list.jsonl", [{"image": "pictures/a.png"}])
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "table.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "table.csv").write_text("sku;Bild\n1;pictures/a.png\n")
    monkeypatch.chdir(tmp_path)
    here.engine = NeverStarted({})
    code, _, errors = here.run(*arguments)
    assert code == 2
    assert re.search(message, errors), errors
    assert (tmp_path / "notes.txt").read_text() == "notes"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_label_config_that_cannot_be_used_is_bad_usage(here: Here, tmp_path: Path) -> None:
    here.config.write_text("<View/>")
    code, _, errors = here.run(pictures(tmp_path / "p", NAMES), "--output", tmp_path / "out.jsonl")
    assert (code, "cannot be pre-filled" in errors) == (2, True)


def test_parquet_without_its_package_is_refused_before_the_run(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    options = ("--output", tmp_path / "out.jsonl", "--parquet", tmp_path / "out.parquet")
    code, _, errors = here.run(pictures(tmp_path / "p", NAMES), *options)
    assert code == 2
    assert "'.[parquet]'" in errors


def test_one_picture_alone_is_shown_as_ever(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "build_engine", lambda settings: FakeEngine(ANSWER))
    folder = pictures(tmp_path / "p", NAMES)
    code, shown, _ = here.run(folder / "a.png", "--json")
    assert (code, json.loads(shown)["image_id"]) == (0, "a")


def test_english_runs_have_english_reasons(here: Here, tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "p", ["a.png"]), tmp_path / "out.jsonl"
    here.run(folder, "--output", output, "--language", "en")
    (line,) = lines(output)
    assert line["needs_review"]
    assert line["review_reasons"] == ["caption contains Chinese"]


def test_a_picture_that_engines_die_of_fails_by_name_and_costs_the_others_nothing(here: Here, tmp_path: Path) -> None:
    folder, output = many_pictures(tmp_path / "p", 40), tmp_path / "out.jsonl"
    limits = EngineLimits(restart_backoff_s=0.01, close_s=5)
    engine = EngineClient(EngineOptions(), limits, entry=dying_engine.main)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(here, "build", lambda settings: engine)
        code, _, errors = here.run(folder, "--output", output, "--workers", "4")
    assert code == 1, errors
    (failed,) = lines(tmp_path / "out.failed.jsonl")
    assert (failed["image_id"], failed["reason"]) == (f"{dying_engine.DEADLY:04}", "engine_dead")
    assert len({line["image_id"] for line in lines(output)}) == 39


def test_an_engine_that_will_not_live_ends_the_run_and_says_how_to_go_on(here: Here, tmp_path: Path) -> None:
    folder, output = many_pictures(tmp_path / "p", 40), tmp_path / "out.jsonl"
    limits = EngineLimits(restart_backoff_s=0.01, close_s=5, max_restarts=0)
    engine = EngineClient(EngineOptions(), limits, entry=dying_engine.main)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(here, "build", lambda settings: engine)
        code, shown, errors = here.run(folder, "--output", output, "--workers", "1")
    assert code == 1
    assert "Not reached" in shown
    assert "The same command again goes on from there" in errors
    assert "died" in errors
    assert [line["image_id"] for line in lines(output)] == [f"{n:04}" for n in range(dying_engine.DEADLY)]
    assert not (tmp_path / "out.failed.jsonl").exists()
