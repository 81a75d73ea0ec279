"""How long one person's task takes, alone and beside a bulk, through HTTP, store, picture and model.

Each task is another picture, so that none is answered from the store.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import Figure, Part, latencies
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import NOTE, Reply
from benchmarks.pictures import NUM
from benchmarks.report import percentile, wait_until

PAUSE_S = 0.05
ALLOWANCE_S = 0.5
"""What a bulk may add to the 95th percentile, beside one of its prefills, which nothing can interrupt."""
STARTED_S = 60.0


def run(folder: Path, quick: bool) -> Part:
    num_bulk, num_single = (300, 5) if quick else (10_000, 100)
    first = NUM - 2 * num_single
    with traffic.serving(folder) as (url, _, pictures):
        bulk = [traffic.task(n, f"{pictures}/{n % first}.png", NOTE) for n in range(num_bulk)]
        alone = _one_by_one(url, pictures, range(first, first + num_single))
        before = _prefills(url)
        bulk_reply = traffic.predict(url, traffic.predict_body(1, bulk))
        if not wait_until(lambda: traffic.metric(url, "prelabel_engine_running") > 1, STARTED_S):
            raise RuntimeError("the bulk was not begun")
        beside = _one_by_one(url, pictures, range(first + num_single, NUM))
        after, num_left = _prefills(url), traffic.num_waiting(url)
        replied = bulk_reply.result()
    p95 = percentile([reply.seconds for reply in alone], 0.95)
    prefill_s = (after[0] - before[0]) / max(1.0, after[1] - before[1])
    figures = [
        *latencies("alone", [reply.seconds for reply in alone]),
        *latencies("beside the bulk", [reply.seconds for reply in beside], p95=p95 + prefill_s + ALLOWANCE_S),
        Figure("one prefill beside the bulk", prefill_s, "s"),
        Figure("without a prediction", sum(not reply.num_predicted() for reply in [*alone, *beside]), "", 0),
        Figure("bulk: tasks left when the last was answered", num_left),
        Figure("bulk: predicted in its reply", replied.num_predicted()),
    ]
    return Part(f"/predict of one task, beside one of {num_bulk:,}", figures)


def _prefills(url: str) -> tuple[float, float]:
    """Seconds the engine has spent in prefills, and how many they were."""
    seconds = traffic.metric(url, 'prelabel_engine_device_seconds{phase="prefill"}')
    return seconds, traffic.metric(url, "prelabel_engine_prefills")


def _one_by_one(url: str, pictures: str, numbers: range) -> list[Reply]:
    replies: list[Reply] = []
    for number in numbers:
        tasks = [traffic.task(NUM + number, f"{pictures}/{number}.png")]
        replies.append(traffic.call(url, "/predict", traffic.predict_body(1, tasks), 60.0))
        time.sleep(PAUSE_S)
    return replies
