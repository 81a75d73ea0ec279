"""The real `prelabel annotate` in a process of its own, and what can be seen of it from outside while it runs.

Memory is the resident memory of all its processes added up, so what they share (libraries) counts in each of them.
Raises RuntimeError when a run does not end as it should.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

WATCH_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: how many records there were, and the memory of the processes."""

    done: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended well. `summary` is what it says itself, `wall_s` from its start to its end."""

    output: Path
    summary: dict[str, Any]
    wall_s: float
    samples: list[Sample]

    def peak_rss_bytes(self, first: int, until: int) -> int:
        """While more than `first` and at most `until` records were there (-1 to the last: all the time); 0 if nobody
        looked then."""
        return max((sample.rss_bytes for sample in self.samples if first < sample.done <= until), default=0)


def start(pictures: Sequence[Path], output: Path, *options: str) -> subprocess.Popen[bytes]:
    """In a process group of its own. What it prints goes to files beside `output`."""
    source = output.with_suffix(".txt")
    source.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
    command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", str(source)]
    command += ["--output", str(output), "--model", "garments", "--json", "--data-dir", str(output.with_suffix(""))]
    with output.with_suffix(".log").open("wb") as log, output.with_suffix(".json").open("wb") as summary:
        return subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=summary, stderr=log, start_new_session=True
        )


def annotate(pictures: Sequence[Path], output: Path, *options: str) -> Ended:
    """Run it to its end, watched."""
    began, samples = time.perf_counter(), list[Sample]()
    process = start(pictures, output, *options)
    try:
        while process.poll() is None:
            samples.append(Sample(num_lines(output), _rss_bytes(process.pid)))
            with suppress(subprocess.TimeoutExpired):
                process.wait(WATCH_EVERY_S)
    finally:
        kill_group(process)
    wall_s = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {log_of(output)}")
    return Ended(output, json.loads(output.with_suffix(".json").read_text("utf-8")), wall_s, samples)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for it and everything it has started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def log_of(output: Path) -> str:
    """The end of what a run has said."""
    return output.with_suffix(".log").read_text("utf-8")[-2000:]


def num_lines(output: Path) -> int:
    """How many whole lines there are by now."""
    return output.read_bytes().count(b"\n") if output.exists() else 0


def _rss_bytes(pid: int) -> int:
    """Of a process and all below it."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
