"""`prelabel annotate ... --output FILE`: what is refused at once, and what is told when it goes wrong."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.exports import write
from tests.backend.bulk.given import Here, lines, pictures
from tests.fakes import FakeEngine


class NeverStarted(FakeEngine):
    async def start(self) -> None:
        raise AssertionError("nothing was to do")


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


def _full(*_: Any, **__: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["--output", "--csv", "--report", "--summary"])
def test_a_name_that_is_too_long_is_refused_before_the_run(here: Here, tmp_path: Path, name: str) -> None:
    here.engine = NeverStarted({})
    long = tmp_path / ("x" * 300)
    code, _, errors = here.run(pictures(tmp_path / "p", ["a.png"]), "--output", tmp_path / "out.jsonl", name, long)
    assert code == 2
    assert "cannot be written (File name too long)" in errors
    assert "Traceback" not in errors


def test_tasks_for_a_value_whose_keys_are_not_known_are_refused_before_the_run(here: Here, tmp_path: Path) -> None:
    here.engine = NeverStarted({})
    config = tmp_path / "config.xml"
    config.write_text('<View><Image name="i" value="https://a/$name"/><Rating name="r" toName="i"/></View>')
    tasks = ("--label-config", config, "--label-studio-tasks", tmp_path / "tasks.json")
    code, _, errors = here.run(pictures(tmp_path / "p", ["a.png"]), "--output", tmp_path / "out.jsonl", *tasks)
    assert code == 2
    assert 'value="https://a/$name" of the <Image> is not known' in errors


def test_a_folder_that_cannot_be_written_into_is_refused_before_the_run(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.engine = NeverStarted({})
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    output, table = tmp_path / "out.jsonl", tmp_path / "locked" / "out.csv"
    code, _, errors = here.run(pictures(tmp_path / "p", ["a.png"]), "--output", output, "--csv", table)
    assert code == 2
    assert f"Nothing can be written into the folder {tmp_path / 'locked'}" in errors
    assert not output.exists()


def test_a_file_that_could_not_be_made_is_told_by_exit_code_and_summary(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output, told = pictures(tmp_path / "p", ["a.png"]), tmp_path / "out.jsonl", tmp_path / "s.json"
    monkeypatch.setattr(write, "write_csv", _full)
    options = ("--output", output, "--csv", tmp_path / "out.csv", "--summary", told, "--json")
    code, shown, errors = here.run(folder, *options)
    assert code == 1
    assert "No space left" in errors
    for summary in (json.loads(shown), json.loads(told.read_text())):
        assert (summary["num_done"], summary["num_failed"], summary["exit_code"]) == (1, 0, 1)
        assert "out.csv cannot be written (No space left" in summary["error"]
    monkeypatch.undo()
    code, shown, _ = here.run(folder, *options)
    assert (code, json.loads(shown)["exit_code"], json.loads(told.read_text())["error"]) == (0, 0, "")


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--dry-run",)], ids=["again", "overwritten", "dry run"])
def test_sources_without_a_picture_are_refused_and_what_was_there_stays(
    here: Here, tmp_path: Path, more: tuple[str, ...]
) -> None:
    folder, output, table = pictures(tmp_path / "p", ["a.png"]), tmp_path / "out.jsonl", tmp_path / "out.csv"
    assert here.run(folder, "--output", output, "--csv", table)[0] == 0
    before = output.read_bytes(), table.read_bytes()
    here.engine = NeverStarted({})
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    for name in ("a.psd", "sub/b.pdf", ".hidden.txt"):
        (other / name).write_bytes(b"")
    (tmp_path / "list.csv").write_text("image\n")
    code, _, errors = here.run(other, tmp_path / "list.csv", "--output", output, "--csv", table, *more)
    assert code == 2
    assert "No picture was found" in errors
    assert "2 empty_file, 1 hidden_file" in errors
    assert "JPEG" in errors
    assert (output.read_bytes(), table.read_bytes()) == before
    assert len(lines(output)) == 1


def test_an_error_is_one_line_without_secrets(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "nothing\x1b[2J\nprelabel: all is well https://ann:geheim1@shop.example/a?sig=geheim2 " + "x" * 3_000
    code, _, errors = here.run(name, "--output", "out.jsonl")
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "SOURCE nothing\\x1b[2J\\nprelabel" in errors
    assert "geheim" not in errors
    assert len(errors) < 600
