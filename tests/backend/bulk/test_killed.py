"""A run that is killed, interrupted, or in another's way: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backend.bulk.given import Command, Here, lines, many_pictures

NUM_PICTURES = 300
NUM_BROKEN = 20


def _folder(tmp_path: Path) -> Path:
    folder = many_pictures(tmp_path / "pictures", NUM_PICTURES)
    for number in range(NUM_BROKEN):
        (folder / f"broken{number}.png").write_bytes(b"no picture")
    return folder


def _wait_for_lines(path: Path, num_lines: int, process: subprocess.Popen[str]) -> None:
    _wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= num_lines, process)


def _wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if is_there():
            return
        time.sleep(0.002)
    raise AssertionError("the run did not come so far")


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = _folder(tmp_path), tmp_path / "out.jsonl"
    command = Command(tmp_path, delay_s=0.002)
    chance = random.Random(7)
    for kill in range(3):
        process = command.start(folder, "--output", output)
        _wait_for_lines(output, kill * 60 + chance.randrange(1, 60), process)
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
    assert len(lines(output)) < NUM_PICTURES
    code, _, _ = Here(tmp_path, capsys).run(folder, "--output", output)
    assert code == 1
    done = Counter(line["image"] for line in lines(output))
    failed = Counter(line["image"] for line in lines(tmp_path / "out.failed.jsonl"))
    assert sorted(done) == [str(folder / f"{number:04}.png") for number in range(NUM_PICTURES)]
    assert sorted(failed) == sorted(str(folder / f"broken{number}.png") for number in range(NUM_BROKEN))
    assert set(done.values()) == set(failed.values()) == {1}
    assert len({line["image_id"] for line in lines(output)}) == NUM_PICTURES


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "told to end"]
)
def test_an_interrupted_run_ends_in_order_says_how_to_go_on_and_can(
    tmp_path: Path, number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output, table = _folder(tmp_path), tmp_path / "out.jsonl", tmp_path / "out.csv"
    command = Command(tmp_path, delay_s=0.02)
    report, summary = tmp_path / "report.html", tmp_path / "summary.json"
    summary.write_text('{"state": "finished"}')
    accounts = ("--report", report, "--summary", summary)
    process = command.start(folder, "--output", output, "--csv", table, *accounts)
    try:
        _wait_for_lines(output, 8, process)
        assert not summary.exists(), "it would tell of an earlier run"
        process.send_signal(number)
        shown, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "The same command again goes on from there" in errors
    assert "Not reached" in shown
    written = lines(output)
    assert 8 <= len(written) < NUM_PICTURES
    assert command.num_asked == len(written)  # what was in work was not thrown away
    assert not table.exists()
    told = json.loads(summary.read_text())
    assert (told["state"], told["exit_code"], told["num_done"]) == ("interrupted", code, len(written))
    assert f"还有 {told['num_left']} 张图片没有处理" in report.read_text(encoding="utf-8")
    assert Here(tmp_path, capsys).run(folder, "--output", output, "--csv", table)[0] == 1
    assert lines(output)[: len(written)] == written
    assert len(lines(output)) == NUM_PICTURES
    assert table.exists()


def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path) -> None:
    folder, output = many_pictures(tmp_path / "pictures", 8), tmp_path / "out.jsonl"
    command = Command(tmp_path, delay_s=60)
    process = command.start(folder, "--output", output, "--overwrite")
    try:
        _wait_for(lambda: command.has_begun, process)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(1)  # two at once would be one
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "The same command again, without --overwrite, goes on" in errors


def test_one_ctrl_c_that_arrives_twice_is_one(tmp_path: Path) -> None:
    folder, output = many_pictures(tmp_path / "pictures", 8), tmp_path / "out.jsonl"
    command = Command(tmp_path, delay_s=1.5)
    process = command.start(folder, "--output", output)
    try:
        _wait_for(lambda: command.has_begun, process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Not reached" in shown
    assert len(lines(output)) == command.num_asked > 0


def test_a_second_run_into_the_same_file_is_refused_while_the_first_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = _folder(tmp_path), tmp_path / "out.jsonl"
    process = Command(tmp_path, delay_s=0.02).start(folder, "--output", output)
    try:
        _wait_for_lines(output, 4, process)
        here = Here(tmp_path, capsys)
        for option in ("--resume", "--overwrite", "--retry-failed"):
            code, _, errors = here.run(folder, "--output", output, option)
            assert code == 2
            assert "being written by another run" in errors
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert len({line["image"] for line in lines(output)}) == len(lines(output)) >= 4
