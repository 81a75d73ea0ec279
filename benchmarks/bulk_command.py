"""The real `prelabel annotate` in a process of its own, and what can be seen of it from outside while it runs.

Memory and CPU time are those of all its processes together, read from /proc. Memory is resident memory added up, so
what processes share (libraries) counts in each of them. Raises RuntimeError when a run does not end as it should.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCH_EVERY_S = 0.2
END_S = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: how many pictures were done by then; memory and CPU time of the processes that lived then.

    `own_bytes` of `rss_bytes` are the first process's, which is not the engine's.
    """

    at_s: float
    done: int
    rss_bytes: int
    own_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended well. `summary` is what it says itself, `wall_s` from its start to its end."""

    output: Path
    summary: dict[str, Any]
    wall_s: float
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        return float(self.summary["seconds"])

    @property
    def images_per_s(self) -> float:
        return float(self.summary["images_per_s"])

    @property
    def peak_rss_bytes(self) -> int:
        return max(sample.rss_bytes for sample in self.samples)


def list_pictures(path: Path, pictures: Sequence[Path]) -> Path:
    """A text list as `prelabel annotate` takes it."""
    path.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
    return path


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    """By image_id, in the order of the file. Raises ValueError if one comes twice."""
    records: dict[str, dict[str, Any]] = {}
    with output.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record["image_id"] in records:
                raise ValueError(f"{record['image_id']} is there twice")
            records[record["image_id"]] = record
    return records


def start(source: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    """In a process group of its own. What it prints goes to files beside `output`; answers of its own to none."""
    command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", str(source)]
    command += ["--output", str(output), "--model", "garments", "--json", "--data-dir", str(output.with_suffix(""))]
    with output.with_suffix(".log").open("wb") as log, output.with_suffix(".json").open("wb") as summary:
        return subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=summary, stderr=log, start_new_session=True
        )


def annotate(source: Path, output: Path, *options: str) -> Ended:
    """Run it to its end, watched."""
    began = time.perf_counter()
    process = start(source, output, *options)
    lines = LineCounter(output)
    try:
        with watched(process.pid, lines) as samples:
            process.wait()
    finally:
        kill_group(process)
    wall_s = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {output.with_suffix('.log').read_text()[-2000:]}")
    return Ended(output, json.loads(output.with_suffix(".json").read_text()), wall_s, tuple(samples))


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for it and everything it has started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_S)


class LineCounter:
    """How many whole lines a growing file has; reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._lines = 0

    def __call__(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            self._offset += len(new)
            self._lines += new.count(b"\n")
        return self._lines


@contextmanager
def watched(pid: int, done: Callable[[], int]) -> Iterator[list[Sample]]:
    """Look at `pid` and all below it now and then; `done` is asked for the count each time."""
    samples: list[Sample] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_EVERY_S):
            rss_bytes, cpu_s = _usage(pid)
            samples.append(Sample(time.perf_counter(), done(), sum(rss_bytes), rss_bytes[0], cpu_s))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def cpu_s_per_picture(samples: Sequence[Sample], num: int) -> float | None:
    """Between the first pictures done and the last look at which some were not; None if that was one look only."""
    during = [sample for sample in samples if 0 < sample.done < num]
    if len(during) < 2 or during[-1].done == during[0].done:
        return None
    return (during[-1].cpu_s - during[0].cpu_s) / (during[-1].done - during[0].done)


def _usage(pid: int) -> tuple[list[int], float]:
    """Memory in bytes of a process and of each below it, and CPU time in seconds of them all; 0 for what has ended."""
    rss_bytes, cpu_s, left = [], 0.0, [pid]
    while left:
        folder = Path("/proc", str(left.pop()))
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            for task in (folder / "task").iterdir():
                left += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            fields = ["0"] * 22
        cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        rss_bytes.append(int(fields[21]) * _PAGE_BYTES)
    return rss_bytes, cpu_s
