"""A run that is killed, interrupted, or in another's way: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest

from backend.bulk.ledger import Ledger
from backend.engine.messages import Finished, GenerateRequest
from tests.backend.bulk.given import VERSION, Here, lines, many_pictures, record, running
from tests.backend.serving import ANSWER
from tests.fakes import FakeEngine
from tests.limits import examples, seeds, until

NUM_PICTURES = 120
NUM_BROKEN = 5


def _folder(tmp_path: Path) -> Path:
    folder = many_pictures(tmp_path / "pictures", NUM_PICTURES)
    for number in range(NUM_BROKEN):
        (folder / f"broken{number}.png").write_bytes(b"no picture")
    return folder


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("seed", seeds(1, 20))
def test_a_kill_at_a_random_moment_loses_nothing_and_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    folder, output, said = _folder(tmp_path), tmp_path / "out.jsonl", tmp_path / "said"
    chance = random.Random(seed)
    for _ in range(examples(1, 3)):
        wanted = _num_lines(output) + chance.randrange(1, 25)
        with running(tmp_path, folder, "--output", output, num_answers=30) as process:
            until(lambda: _num_lines(output) >= wanted or process.poll() is not None, "its next record")  # noqa: B023
        assert process.returncode == -signal.SIGKILL, said.read_text()
    code, _, _ = Here(tmp_path, capsys).run(folder, "--output", output)
    assert code == 1
    done = Counter(line["image"] for line in lines(output))
    failed = Counter(line["image"] for line in lines(tmp_path / "out.failed.jsonl"))
    assert sorted(done) == [str(folder / f"{number:04}.png") for number in range(NUM_PICTURES)]
    assert sorted(failed) == sorted(str(folder / f"broken{number}.png") for number in range(NUM_BROKEN))
    assert set(done.values()) == set(failed.values()) == {1}
    assert len({line["image_id"] for line in lines(output)}) == NUM_PICTURES


class Signalling(FakeEngine):
    """Sends `signals` to this process while it works on its `nth` request. `summary_was_there`: then."""

    def __init__(self, nth: int, signals: Sequence[signal.Signals], summary: Path) -> None:
        super().__init__(ANSWER)
        self.summary_was_there = False
        self._nth = nth
        self._signals = signals
        self._summary = summary

    async def generate(self, request: GenerateRequest) -> Finished:
        if len(self.requests) == self._nth - 1:
            self.summary_was_there = self._summary.exists()
            for number in self._signals:
                os.kill(os.getpid(), number)
        return await super().generate(request)


class Interrupting(FakeEngine):
    """Never answers, and sends a Ctrl-C to this process again and again."""

    async def generate(self, request: GenerateRequest) -> Finished:
        while True:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)


@pytest.fixture
def _signals_end_no_test() -> Iterator[None]:
    """A signal that the run does not listen to fails the test, and the handlers are afterwards as they were."""

    def unheard(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"nobody listens to signal {number}")

    before = {number: signal.signal(number, unheard) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_end_no_test")
@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGINT,), 130), ((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)],
    ids=["Ctrl-C", "one that arrives twice", "told to end"],
)
def test_an_interrupted_run_ends_in_order_says_how_to_go_on_and_can(
    tmp_path: Path, signals: Sequence[signal.Signals], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output, table = _folder(tmp_path), tmp_path / "out.jsonl", tmp_path / "out.csv"
    report, summary = tmp_path / "report.html", tmp_path / "summary.json"
    summary.write_text('{"state": "finished"}')
    accounts = ("--report", report, "--summary", summary)
    engine = Signalling(8, signals, summary)
    ended, shown, errors = Here(tmp_path, capsys, engine).run(
        folder, "--output", output, "--csv", table, *accounts, "--workers", "4"
    )
    assert ended == code, errors
    assert not engine.summary_was_there, "it would tell of an earlier run"
    assert "The same command again goes on from there" in errors
    assert "Not reached" in shown
    written = lines(output)
    assert 8 <= len(written) < NUM_PICTURES
    assert len(engine.requests) == len(written)  # what was in work was not thrown away
    assert not table.exists()
    told = json.loads(summary.read_text())
    assert (told["state"], told["exit_code"], told["num_done"]) == ("interrupted", code, len(written))
    assert f"还有 {told['num_left']} 张图片没有处理" in report.read_text(encoding="utf-8")
    assert Here(tmp_path, capsys).run(folder, "--output", output, "--csv", table)[0] == 1
    assert lines(output)[: len(written)] == written
    assert len(lines(output)) == NUM_PICTURES
    assert table.exists()


@pytest.mark.usefixtures("_signals_end_no_test")
def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = many_pictures(tmp_path / "pictures", 8), tmp_path / "out.jsonl"
    here = Here(tmp_path, capsys, Interrupting(ANSWER))
    code, _, errors = here.run(folder, "--output", output, "--overwrite", "--workers", "1")
    assert code == 130, errors
    assert "The same command again, without --overwrite, goes on where this one was" in errors


@pytest.mark.parametrize("option", ["--resume", "--overwrite", "--retry-failed"])
def test_a_second_run_into_the_same_file_is_refused_while_the_first_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    folder, output = many_pictures(tmp_path / "pictures", 1), tmp_path / "out.jsonl"
    first = Ledger.open(output)
    first.start(VERSION)
    first.add_record(record("a"))
    code, _, errors = Here(tmp_path, capsys).run(folder, "--output", output, option)
    assert code == 2
    assert "being written by another run" in errors
    first.add_record(record("b"))
    first.close()
    assert [line["image_id"] for line in lines(output)] == ["a", "b"]
