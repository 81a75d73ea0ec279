"""The SQLite store with a million rows of work: is the next row still found at once, and is the file bounded?

Measured in this process, on the disk of the temporary folder; a commit waits for that disk, as in service. The same
claims in a store a hundredth of the size tell what the rows cost; "CPU" leaves out the disk and other programs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from backend.queue.worker import ACCEPT_CHUNK
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from benchmarks.figures import MEBIBYTE, Figure, Part, latencies

NUM_PROJECTS = 20
CLAIM = 16
LIMIT_CLAIM_S = 0.005
LIMIT_ACCEPT_S = 5.0
LIMIT_SUMMARY_S = 0.05
LIMIT_WAL_BYTES = 32 * MEBIBYTE
CONTENT = '{"result": [' + "x" * 1_500 + "]}"


def run(folder: Path, quick: bool) -> Part:
    num_rows, num_claims = (10_000, 20) if quick else (1_000_000, 1_000)
    with FilledStore(folder / "small.db") as filled:
        filled.fill(num_rows // 100)
        small = filled.claim_and_finish(num_claims // 10)[0]
    path = folder / "prelabel.db"
    with FilledStore(path) as filled:
        filled_s = _timed(partial(filled.fill, num_rows))
        accept_s = _timed(partial(filled.accept, num_rows + 1, 10_000))
        claims, cpu, finishes = filled.claim_and_finish(num_claims)
        summaries = [_timed(filled.store.summary) for _ in range(50)]
        num_counted = sum(project.num_tasks for project in filled.store.summary())
    figures = [
        Figure("rows", num_counted),
        Figure("rows accepted a second, while it filled", num_rows / filled_s),
        Figure("to accept 10,000", accept_s, "s", LIMIT_ACCEPT_S),
        *latencies(f"claim({CLAIM})", claims, p99=LIMIT_CLAIM_S),
        *latencies(f"claim({CLAIM}), CPU", cpu, p99=LIMIT_CLAIM_S),
        *latencies(f"claim({CLAIM}) of {num_rows // 100:,} rows", small),
        *latencies("finish", finishes),
        *latencies("summary", summaries, worst=LIMIT_SUMMARY_S),
        Figure("largest WAL file", filled.largest_wal, "bytes", LIMIT_WAL_BYTES),
        Figure("size on disk", path.stat().st_size, "bytes"),
    ]
    return Part(f"{num_rows:,} rows of {NUM_PROJECTS} projects, {num_claims:,} claims with their finishes", figures)


class FilledStore:
    """A store, and the largest size its write-ahead log was seen at (bytes)."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path, 0.0)
        self._wal = path.with_name(path.name + "-wal")
        self.largest_wal = 0

    def __enter__(self) -> FilledStore:
        self.store.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.store.close()

    def fill(self, num: int) -> None:
        for number in range(NUM_PROJECTS):
            self.store.save_recipe(RecipeRecord(f"recipe-{number}", f"p{number}", "<View/>", "{}"), 0.0)
        self.accept(1, num)

    def accept(self, first: int, num: int) -> None:
        """As the worker does it: in steps."""
        for start in range(first, first + num, ACCEPT_CHUNK):
            numbers = range(start, min(start + ACCEPT_CHUNK, first + num))
            self.store.accept([_new(number) for number in numbers], interactive=False, reply_until=0.0, now=1.0)
            self._look()

    def claim_and_finish(self, num_claims: int) -> tuple[list[float], list[float], list[float]]:
        """In turns. Returns the seconds of each claim, those of the CPU alone, and of each finish."""
        claims: list[float] = []
        cpu: list[float] = []
        finishes: list[float] = []
        for turn in range(num_claims):
            started, started_cpu = time.perf_counter(), time.thread_time()
            taken = self.store.claim(CLAIM, 2.0)
            claims.append(time.perf_counter() - started)
            cpu.append(time.thread_time() - started_cpu)
            for row in taken:
                answer = StoredAnswer(f"picture-{row.id}:v1", CONTENT)
                finishes.append(_timed(partial(self.store.finish, row.id, answer, 0.9, False, 3.0 + turn)))
            self._look()
        return claims, cpu, finishes

    def _look(self) -> None:
        if self._wal.exists():
            self.largest_wal = max(self.largest_wal, self._wal.stat().st_size)


def _new(number: int) -> NewWork:
    project = number // ACCEPT_CHUNK % NUM_PROJECTS
    url = f"https://pictures.example/upload/{project}/{number:012d}-a-usual-name.jpg"
    return NewWork(f"p{project}", number, "model-nf4-0123456789ab", f"recipe-{project}", url)


def _timed(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started
