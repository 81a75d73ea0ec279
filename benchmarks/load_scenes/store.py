"""The SQLite store with a million rows of work: is the next row still found at once, and is the file bounded?

Measured in this process, on the disk of the temporary folder; a commit waits for that disk, as in service. The same
claims in a store a hundredth of the size tell what the rows cost; "CPU" leaves out the disk and other programs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from backend.queue.worker import ACCEPT_CHUNK
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer, Work, outbox, overview, work
from benchmarks.load_scenes.figures import MEBIBYTE, Figure, SceneReport, latencies

NUM_PROJECTS = 20
CLAIM = 16
LIMIT_CLAIM_S = 0.005
LIMIT_ACCEPT_S = 5.0
LIMIT_SUMMARY_S = 0.05
LIMIT_WAL_BYTES = 32 * MEBIBYTE
CONTENT = '{"result": [' + "x" * 1_500 + "]}"
DAILY_QUERIES: dict[str, tuple[str, list[object]]] = {
    "whom a person waits for": (work.NEXT_WAITED_FOR, [CLAIM]),
    "a suspect": (work.NEXT_SUSPECT, []),
    "projects in turn": (work.NEXT_PROJECTS, [CLAIM]),
    "next of a project": (work.NEXT_OF_PROJECT, [3, CLAIM]),
    "due for delivery": (outbox.DUE_IDS, ["p3", 1.0, 100]),
    "failures": (overview.FAILED_IDS, ["p3", 10]),
}


def run(folder: Path, quick: bool) -> SceneReport:
    num_rows, num_claims = (10_000, 20) if quick else (1_000_000, 1_000)
    path = folder / "prelabel.db"
    wal = _WalSize(path)
    small = _claims_in_small_store(folder / "small.db", num_rows // 100, num_claims // 10)
    with Store.open(path, 0.0) as store:
        started = time.perf_counter()
        fill(store, num_rows, wal)
        filled_s = time.perf_counter() - started
        accept_s = _timed(lambda: _accept(store, num_rows + 1, 10_000, wal))
        claims, cpu, finishes = _work(store, num_claims, wal)
        summaries = [_timed(store.summary) for _ in range(50)]
        num_counted = sum(project.num_tasks for project in store.summary())
        scans = [name for name, (query, given) in DAILY_QUERIES.items() if _reads_the_table(store, query, given)]
    figures = [
        Figure("rows", num_counted),
        Figure("rows accepted a second, while it filled", num_rows / filled_s),
        Figure("to accept 10,000", accept_s, "s", LIMIT_ACCEPT_S),
        *latencies(f"claim({CLAIM})", claims, p99=LIMIT_CLAIM_S),
        *latencies(f"claim({CLAIM}), CPU", cpu, p99=LIMIT_CLAIM_S),
        *latencies(f"claim({CLAIM}) of {num_rows // 100:,} rows", small),
        *latencies("finish", finishes),
        *latencies("summary", summaries, worst=LIMIT_SUMMARY_S),
        Figure(f"of {len(DAILY_QUERIES)} daily queries, those without an index", len(scans), "", 0),
        Figure("largest WAL file", wal.largest, "bytes", LIMIT_WAL_BYTES),
        Figure("size on disk", path.stat().st_size, "bytes"),
    ]
    about = f"{num_rows:,} rows of {NUM_PROJECTS} projects, {num_claims:,} claims with their finishes between"
    return SceneReport("store", about, tuple(figures))


def fill(store: Store, num_rows: int, wal: _WalSize) -> None:
    for number in range(NUM_PROJECTS):
        store.save_recipe(RecipeRecord(f"recipe-{number}", f"p{number}", "<View/>", "{}"), 0.0)
    _accept(store, 1, num_rows, wal)


def _accept(store: Store, first: int, num: int, wal: _WalSize) -> None:
    """As the worker does it: in steps."""
    for start in range(first, first + num, ACCEPT_CHUNK):
        numbers = range(start, min(start + ACCEPT_CHUNK, first + num))
        store.accept([_new(number) for number in numbers], interactive=False, reply_until=0.0, now=1.0)
        wal.look()


def _new(number: int) -> NewWork:
    project = number // ACCEPT_CHUNK % NUM_PROJECTS
    url = f"https://pictures.example/upload/{project}/{number:012d}-a-usual-name.jpg"
    return NewWork(f"p{project}", number, "model-nf4-0123456789ab", f"recipe-{project}", url)


def _claims_in_small_store(path: Path, num_rows: int, num_claims: int) -> list[float]:
    wal = _WalSize(path)
    with Store.open(path, 0.0) as store:
        fill(store, num_rows, wal)
        return _work(store, num_claims, wal)[0]


def _work(store: Store, num_claims: int, wal: _WalSize) -> tuple[list[float], list[float], list[float]]:
    """Claim and finish in turns. Returns the seconds of each claim, those of the CPU alone, and of each finish."""
    claims: list[float] = []
    cpu: list[float] = []
    finishes: list[float] = []
    for turn in range(num_claims):
        started, started_cpu = time.perf_counter(), time.thread_time()
        taken = store.claim(CLAIM, 2.0)
        claims.append(time.perf_counter() - started)
        cpu.append(time.thread_time() - started_cpu)
        finishes += [_timed(finish) for finish in _finishes(store, taken, 3.0 + turn)]
        wal.look()
    return claims, cpu, finishes


def _finishes(store: Store, taken: list[Work], now: float) -> Iterator[Callable[[], Work]]:
    for row in taken:
        answer = StoredAnswer(f"picture-{row.id}:v1", CONTENT)
        yield lambda row=row, answer=answer: store.finish(row.id, answer, 0.9, False, now)  # type: ignore[misc]


def _reads_the_table(store: Store, query: str, given: list[object]) -> bool:
    """Whether SQLite's plan goes through all rows of work."""
    with store._database.read() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", given)]
    return any(step.startswith("SCAN work") and " INDEX work_" not in step for step in plan)


def _timed(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


class _WalSize:
    """The largest size the write-ahead log was seen at."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + "-wal")
        self.largest = 0

    def look(self) -> None:
        if self._path.exists():
            self.largest = max(self.largest, self._path.stat().st_size)
