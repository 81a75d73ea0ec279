"""A disk that takes no more: what is written stays whole, the run says so, and goes on when there is space."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.bulk.ledger import Ledger
from backend.errors import OutputError
from tests.backend.bulk.given import VERSION, Here, lines, many_pictures, record


def _ledger(path: Path) -> Ledger:
    ledger = Ledger.open(path)
    ledger.start(VERSION)
    return ledger


def test_a_write_that_fails_leaves_the_lines_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    ledger = _ledger(output)
    ledger.add_record(record("a"))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"No space left on device.*What it holds is whole"):
            ledger.add_record(record("b"))
    assert [line["image_id"] for line in lines(output)] == ["a"]
    ledger.add_record(record("c"))
    ledger.close()
    assert [line["image_id"] for line in lines(output)] == ["a", "c"]


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """Of this process: to write more fails, as on a full disk. Python ignores the signal that goes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_on_a_disk_that_fills_up_ends_with_whole_lines_and_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    pictures = many_pictures(tmp_path / "pictures", 60)
    here = Here(tmp_path, capsys)
    with no_file_above(20_000):
        code, _, errors = here.run(pictures, "--output", output, "--workers", "4")
    assert code == 1
    assert "The same command again goes on from there" in errors
    assert "Traceback" not in errors
    written = lines(output)
    assert 10 < len(written) < 60
    assert output.read_bytes().endswith(b"}\n")
    code, _, errors = here.run(pictures, "--output", output)
    assert code == 0, errors
    assert lines(output)[: len(written)] == written
    assert sorted(line["image_id"] for line in lines(output)) == [f"{number:04}" for number in range(60)]


def test_an_export_that_finds_no_space_leaves_what_was_there_and_can_be_made_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    table.write_text("what was there")
    here = Here(tmp_path, capsys)
    pictures = many_pictures(tmp_path / "pictures", 5)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, shown, errors = here.run(pictures, "--output", output, "--csv", table)
    assert code == 1
    assert f"{table} cannot be written (No space left on device)" in errors
    assert f"{output} is whole. The same command again makes the files that are missing." in errors
    assert "Annotated" in shown
    assert table.read_text() == "what was there"
    num_asked = len(here.engine.requests)
    assert here.run(pictures, "--output", output, "--csv", table)[0] == 0
    assert len(table.read_text(encoding="utf-8-sig").splitlines()) == 6
    assert len(here.engine.requests) == num_asked
    assert not list(tmp_path.glob(".prelabel-*"))
