"""What a run shows of itself, on a terminal and in a log, and the figures at its end."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from backend.bulk.dry_run import rate
from backend.bulk.left_out import LeftOutGroup
from backend.bulk.outcomes import FailedItem, Record
from backend.bulk.progress import Figures, Progress
from backend.bulk.summary import Summary, duration, summary_table, write_summary
from tests.backend.bulk.given import failure, record
from tests.backend.bulk.report_rig import UNREADABLE


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _shown(
    figures: Figures, clock: Clock, *, terminal: bool, price: float | None = 6.0
) -> tuple[Progress, io.StringIO]:
    file = io.StringIO()
    return Progress(figures, price, Console(file=file, force_terminal=terminal, width=100), clock), file


def _done(figures: Figures, num: int) -> None:
    for number in range(num):
        figures.add(Record(record("a", doubt=number % 4 == 0)))


def test_a_log_gets_a_line_every_tenth_and_every_ten_seconds() -> None:
    figures, clock = Figures(num_to_do=200), Clock()
    progress, file = _shown(figures, clock, terminal=False)
    with progress:
        for _ in range(8):
            _done(figures, 5)
            clock.now += 1
            progress.tick()
        clock.now += 9
        progress.tick()
    assert file.getvalue().splitlines() == [
        "prelabel: 20 of 200 (10.0%), 5.0 images/s, 36.0 s left, ¥0.40, 40.0% for review, 0 failed",
        "prelabel: 40 of 200 (20.0%), 5.0 images/s, 32.0 s left, ¥0.80, 40.0% for review, 0 failed",
    ]


def test_a_slow_run_still_shows_that_it_lives() -> None:
    figures, clock = Figures(num_to_do=100_000), Clock()
    progress, file = _shown(figures, clock, terminal=False, price=None)
    with progress:
        for _ in range(30):
            clock.now += 1
            progress.tick()
    assert [line.split(",")[0] for line in file.getvalue().splitlines()] == ["prelabel: 0 of 100"] * 3


def test_a_log_that_cannot_be_written_does_not_end_the_run() -> None:
    clock = Clock()
    with Path("/dev/full").open("w") as full:
        progress = Progress(Figures(num_to_do=5), None, Console(file=full, force_terminal=False), clock)
        with progress:
            clock.now += 20
            progress.tick()
        with contextlib.suppress(OSError):
            full.close()


def test_a_terminal_gets_a_bar() -> None:
    figures, clock = Figures(num_to_do=8), Clock()
    progress, file = _shown(figures, clock, terminal=True)
    with progress:
        _done(figures, 4)
        figures.add(FailedItem(failure("b")))
        clock.now += 2
        progress.tick()
        assert "━" in file.getvalue()
    assert "5 of 8 (62.5%), 2.5 images/s, 1.2 s left, ¥0.20, 25.0% for review, 1 failed" in file.getvalue()


def test_the_speed_is_that_of_the_last_half_minute() -> None:
    figures, clock = Figures(), Clock()
    progress, _ = _shown(figures, clock, terminal=False)
    with progress:
        for second in range(60):
            _done(figures, 10 if second < 30 else 1)
            clock.now += 1
            progress.tick()
    assert progress.images_per_s == pytest.approx(1, rel=0.35)
    assert progress.text().startswith("330 pictures, ")


NOTES = LeftOutGroup("not_a_picture", 1, ("notes.txt (text)",))
SUMMARY = Summary(
    output="out.jsonl", sources=("pictures",), model_version="garments-nf4-1", label_config="0123456789ab",
    language="zh", num_total=100, num_done=60, num_reused=10, num_review=15, num_skipped=30, num_failed=4,
    num_failed_before=1, failures={"image_corrupt": 3, "image_timeout": 2}, seconds=32.0, load_s=8.0,
    price_per_minute=3.0, state="interrupted",
)  # fmt: skip


def test_the_summary_adds_up() -> None:
    assert (SUMMARY.num_left, SUMMARY.images_per_s, SUMMARY.cost_yuan, SUMMARY.review_share) == (5, 2.0, 1.6, 0.25)
    file = io.StringIO()
    Console(file=file, width=100).print(summary_table(SUMMARY))
    shown = " ".join(file.getvalue().split())
    for line in (
        "Found 100 = 60 annotated + 5 failed + 30 done before + 5 not reached",
        "Pictures 100 pictures",
        "Annotated 60 10 of them without asking the model again",
        "Done before 30",
        "Need review 15 25.0%",
        "Failed 5 1 of them in an earlier run",
        "3 image_corrupt: The picture is damaged.",
        "Not reached 5 interrupted",
        "Time 32.0 s 2.0 images/s; the model took 8.0 s to load",
        "Cost ¥1.60 at ¥3 a minute",
    ):
        assert line in shown


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 1),
        ({"state": "finished"}, 1),
        ({"state": "finished", "num_failed": 0}, 1),
        ({"state": "finished", "num_failed": 0, "num_failed_before": 0}, 0),
        ({"state": "finished", "num_failed": 0, "num_failed_before": 0, "left_out": (UNREADABLE,)}, 1),
        ({"state": "finished", "num_failed": 0, "num_failed_before": 0, "left_out": (NOTES,)}, 0),
        ({"state": "finished", "num_failed": 0, "num_failed_before": 0, "error": "no space"}, 1),
    ],
    ids=[
        "interrupted", "failures", "older failures", "all done", "a folder that could not be read", "no picture",
        "no export",
    ],
)  # fmt: skip
def test_the_exit_code_says_whether_all_is_done(changes: dict[str, object], code: int) -> None:
    assert replace(SUMMARY, **changes).exit_code == code  # type: ignore[arg-type]


def test_the_summary_as_json_has_the_derived_figures_and_readable_times(tmp_path: Path) -> None:
    write_summary(SUMMARY, tmp_path / "s.json", 130)
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (document["cost_yuan"], document["num_left"], document["failures"]["image_corrupt"]) == (1.6, 5, 3)
    assert document["exit_code"] == 130
    assert document["started_at"].startswith("1970-01-0")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (125.4, "2:05"), (11_229, "3:07:09")])
def test_a_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_sample_is_judged_by_the_time_when_the_engine_was_full() -> None:
    full = [float(number) / 10 for number in range(100)]
    slow_ends = [-20.0, *full, *(20.0 + number for number in range(5))]
    assert rate(slow_ends, num_workers=12) == pytest.approx(10, rel=0.01)
    assert rate([0.0, 1.0, 2.0], num_workers=64) == 1.0
    assert rate([5.0, 5.0], num_workers=1) == 0.0


@pytest.mark.parametrize(
    ("source", "public"),
    [
        ("https://ann:geheim1@shop.example/a.png?X-Signature=geheim2#geheim3", "https://***@shop.example/a.png?***"),
        ("ftp://ann:gehe@im1@shop.example:21/a@b.png", "ftp://***@shop.example:21/a@b.png"),
        ("https://shop.example?sig=geheim", "https://shop.example?***"),
        ("https://shop.example/a.png", "https://shop.example/a.png"),
        ("folder/a?b#c@d.png", "folder/a?b#c@d.png"),
    ],
    ids=["all of it", "another scheme", "no path", "nothing secret", "a path"],
)
def test_the_summary_shows_no_secret_of_an_address(source: str, public: str, tmp_path: Path) -> None:
    summary = replace(SUMMARY, sources=(source,))
    file = io.StringIO()
    Console(file=file, width=200).print(summary_table(summary))
    assert public in file.getvalue()
    write_summary(summary, tmp_path / "s.json", 0)
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["sources"] == [public]
