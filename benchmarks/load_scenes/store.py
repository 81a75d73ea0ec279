"""The SQLite store with a million rows of work: is the next row still found at once?

Measured in this process, on the disk of the temporary folder; a commit waits for that disk, as in service. The same
claims in a store a hundredth of the size tell what the rows cost.
"""

from __future__ import annotations

import time
from pathlib import Path

from backend.queue.replies import CHUNK
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from benchmarks.report import Figure, Part, latencies

NUM_PROJECTS = 20
CLAIM = 16
LIMIT_CLAIM_S = 0.005
CONTENT = '{"result": [' + "x" * 1_500 + "]}"


def run(folder: Path, small: bool) -> Part:
    num_rows, num_claims = (10_000, 20) if small else (1_000_000, 1_000)
    with Store.open(folder / "small.db", 0.0) as store:
        few = _claims(store, num_rows // 100, num_claims // 10)
    with Store.open(folder / "prelabel.db", 0.0) as store:
        claims = _claims(store, num_rows, num_claims)
        num_counted = sum(project.num_tasks for project in store.summary())
    figures = [
        Figure("rows", num_counted),
        *latencies(f"claim({CLAIM})", claims, p99=LIMIT_CLAIM_S),
        *latencies(f"claim({CLAIM}) of {num_rows // 100:,} rows", few),
    ]
    return Part(f"{num_rows:,} rows of {NUM_PROJECTS} projects, what was claimed is finished before the next", figures)


def _claims(store: Store, num_rows: int, num_claims: int) -> list[float]:
    """Fill an empty store as the worker does, in steps; then the seconds of each claim."""
    for number in range(NUM_PROJECTS):
        store.save_recipe(RecipeRecord(f"recipe-{number}", f"p{number}", "<View/>", "{}"), 0.0)
    for start in range(0, num_rows, CHUNK):
        rows = [_new(number) for number in range(start, min(start + CHUNK, num_rows))]
        store.accept(rows, interactive=False, reply_until=0.0, now=1.0)
    seconds: list[float] = []
    for _ in range(num_claims):
        started = time.perf_counter()
        taken = store.claim(CLAIM, 2.0)
        seconds.append(time.perf_counter() - started)
        for row in taken:
            store.finish(row.id, StoredAnswer(f"picture-{row.id}:v1", CONTENT), 0.9, False, 3.0)
    return seconds


def _new(number: int) -> NewWork:
    project = number // CHUNK % NUM_PROJECTS
    url = f"https://pictures.example/upload/{project}/{number:012d}-a-usual-name.jpg"
    return NewWork(f"p{project}", number + 1, "model-nf4-0123456789ab", f"recipe-{project}", url)
