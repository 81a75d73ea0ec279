"""How long one person's task takes, alone and beside a bulk, through HTTP, store, picture and model.

Each task is another picture, so that none is answered from the store.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import NOTE, Reply
from benchmarks.pictures import NUM
from benchmarks.report import Figure, Part, latencies, percentile, wait_until

PAUSE_S = 0.05
ALLOWANCE_S = 0.5
"""What a bulk may add to the 95th percentile, beside one of its prefills, which nothing can interrupt."""
STARTED_S = 60.0


def run(folder: Path, small: bool) -> Part:
    num_bulk, num_single = (300, 5) if small else (10_000, 100)
    first = NUM - 2 * num_single
    with traffic.serving(folder) as (url, pictures):

        def is_busy() -> bool:
            return traffic.metric(url, "prelabel_engine_running") > 1

        bulk = [traffic.task(n, f"{pictures}/{n % first}.png", NOTE) for n in range(num_bulk)]
        alone = _one_by_one(url, pictures, range(first, first + num_single))
        seconds_before, num_before = _prefills(url)
        traffic.predict(url, traffic.predict_body(1, bulk))
        if not wait_until(is_busy, STARTED_S):
            raise RuntimeError("the bulk was not begun")
        beside = _one_by_one(url, pictures, range(first + num_single, NUM))
        if not is_busy():
            raise RuntimeError("the bulk ended before the single tasks")
        seconds, num = _prefills(url)
    prefill_s = (seconds - seconds_before) / max(1.0, num - num_before)
    limit_s = percentile([reply.seconds for reply in alone], 95) + prefill_s + ALLOWANCE_S
    figures = [
        *latencies("alone", [reply.seconds for reply in alone]),
        *latencies("beside the bulk", [reply.seconds for reply in beside], p95=limit_s),
        Figure("one prefill beside the bulk", prefill_s, "s"),
        Figure("without a prediction", sum(not reply.num_predicted() for reply in [*alone, *beside]), "", 0),
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
