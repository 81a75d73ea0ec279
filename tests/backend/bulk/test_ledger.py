"""What is on disk is whole at any moment, and says exactly what is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.bulk.ledger import Ledger, failed_path, read_past
from backend.errors import OutputError, UsageError
from tests.backend.bulk.given import VERSION, failure, item, lines, record, write_lines


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def _ids(path: Path) -> list[str]:
    return [line["image_id"] for line in lines(path)]


def _written(output: Path, *names: str, failed: tuple[str, ...] = (), **options: bool) -> None:
    ledger = Ledger.open(output, **options)
    ledger.start(VERSION)
    for name in names:
        ledger.add_record(record(name))
    for name in failed:
        ledger.add_failure(failure(name))
    ledger.close()


def test_a_second_run_knows_what_the_first_has_done(output: Path) -> None:
    _written(output, "a", "b", failed=("c",))
    ledger = Ledger.open(output)
    known = ledger.past.known
    assert known.done == {item(name).found.identity for name in ("a", "b")}
    assert known.failed == {item("c").found.identity: "image_corrupt"}
    ledger.close()


@pytest.mark.parametrize("kept", [1, 11, 12, 60, -1], ids=["1 byte", "11", "12", "60", "all but the line's end"])
def test_a_line_that_a_killed_run_left_half_is_cut_off_or_ended(output: Path, kept: int) -> None:
    _written(output, "a", "b")
    whole = output.read_bytes()
    torn = json.dumps(record("c"), ensure_ascii=False).encode()
    output.write_bytes(whole + (torn if kept == -1 else torn[:kept]))
    assert read_past(output).num_records == 2
    _written(output, "d")
    assert _ids(output) == ["a", "b", *(["c"] if kept == -1 else []), "d"]


def test_what_a_power_cut_left_of_the_last_block_is_cut_off(output: Path) -> None:
    _written(output, "a")
    with output.open("ab") as file:
        file.write(b"\0" * 4_000)
    _written(output, "b")
    assert _ids(output) == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        b"my notes",
        b"my notes\n",
        b'{"a": 1}\n',
        b"[1]\n",
        b'{"image_id": "a"\n{"image_id": "b"}\n',
        b"\xff\xd8\xff\n\n",
        b'{"image_id": "a", "score": 1e999}\n{"image_id": "b"}\n',
    ],
    ids=["text", "a line of text", "other JSON", "a list", "a broken line in the middle", "a picture", "no number"],
)
@pytest.mark.parametrize("which", ["output", "failures"])
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_is(output: Path, content: bytes, which: str) -> None:
    path = output if which == "output" else failed_path(output)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="Choose another --output"):
        Ledger.open(output)
    assert path.read_bytes() == content


def test_only_one_run_writes_a_file(output: Path) -> None:
    first = Ledger.open(output)
    with pytest.raises(UsageError, match="being written by another run"):
        Ledger.open(output)
    first.close()
    Ledger.open(output).close()


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_an_output_that_is_taken_away_ends_the_run_before_all_is_lost(output: Path, replaced: bool) -> None:
    ledger = Ledger.open(output)
    ledger.start(VERSION)
    output.unlink()
    if replaced:
        output.write_text("")
    with pytest.raises(OutputError, match=r"out\.jsonl cannot be written"):
        ledger.sync()
    with pytest.raises(OutputError):
        ledger.close()


def test_the_lock_ends_with_the_process(output: Path) -> None:
    code = f"""
import os
from pathlib import Path
from backend.bulk.ledger import Ledger
ledger = Ledger.open(Path({str(output)!r}))
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    Ledger.open(output).close()


def test_a_run_that_never_began_leaves_no_files(output: Path) -> None:
    Ledger.open(output).close()
    assert list(output.parent.iterdir()) == []


def test_a_run_without_failures_leaves_no_file_of_failures(output: Path) -> None:
    _written(output, "a")
    assert list(output.parent.iterdir()) == [output]


def test_records_of_another_model_are_not_added(output: Path) -> None:
    _written(output, "a")
    ledger = Ledger.open(output)
    with pytest.raises(UsageError, match=r"1 record of garments-nf4-0123456789ab.* --overwrite"):
        ledger.start("garments-nf4-ba9876543210")
    ledger.close()
    assert _ids(output) == ["a"]


def test_overwriting_begins_anew_when_the_run_does_and_not_before(output: Path) -> None:
    _written(output, "a", failed=("b",))
    ledger = Ledger.open(output, overwrite=True)
    assert ledger.past.known.done == set()
    assert _ids(output) == ["a"]
    ledger.start("another-model")
    assert (_ids(output), _ids(failed_path(output))) == ([], [])
    ledger.close()


def test_a_retried_failure_stands_until_its_picture_has_a_record(output: Path) -> None:
    _written(output, "a", failed=("b", "c", "d"))
    ledger = Ledger.open(output, retry_failed=True)
    assert ledger.past.known.failed == {}
    ledger.start(VERSION)
    ledger.add_record(record("b"))
    ledger.add_failure(failure("c", "image_timeout"))
    assert _ids(failed_path(output)) == ["b", "c", "d", "c"]
    ledger.close()
    left = lines(failed_path(output))
    assert [(line["image_id"], line["reason"]) for line in left] == [("d", "image_corrupt"), ("c", "image_timeout")]


def test_a_run_that_was_killed_while_it_retried_is_tidied_by_the_next(output: Path) -> None:
    _written(output, "a", "b")
    write_lines(failed_path(output), [failure("b"), failure("c"), failure("c", "image_timeout")])
    assert read_past(output).standing == {item("c").found.identity: "image_timeout"}
    _written(output)
    assert [line["reason"] for line in lines(failed_path(output))] == ["image_timeout"]


def test_when_no_failure_stands_any_more_their_file_is_gone(output: Path) -> None:
    _written(output, failed=("a",))
    _written(output, "a", retry_failed=True)
    assert not failed_path(output).exists()


def test_a_name_that_is_no_text_is_written_and_known_again(output: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    _written(output, name)
    assert json.loads(output.read_text(encoding="utf-8"))["image_id"] == name
    assert read_past(output).known.done == {item(name).found.identity}


def test_looking_changes_nothing(output: Path) -> None:
    assert read_past(output).num_records == 0
    assert list(output.parent.iterdir()) == []
    _written(output, "a")
    output.write_bytes(output.read_bytes() + b'{"image_id": "b')
    before = output.read_bytes()
    assert read_past(output).num_records == 1
    assert output.read_bytes() == before


@pytest.mark.parametrize("name", ["out.jsonl", "out", "out.json"])
def test_failures_stand_beside_the_output(tmp_path: Path, name: str) -> None:
    stem = name.removesuffix(".jsonl")
    assert failed_path(tmp_path / name) == tmp_path / f"{stem}.failed.jsonl"
