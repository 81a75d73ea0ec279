"""More requests at once than are taken: each of the others must hear so at once.

All places are held by pictures that never come, so that whoever else asks gets a 503: many at once, then one after the
other. The threads of this program share one lock, so the times of those that come at once are its own, too.
"""

from __future__ import annotations

from pathlib import Path

from backend.settings import Settings
from benchmarks.load_scenes import traffic
from benchmarks.report import Figure, Part, latencies, wait_until

MAX_REQUESTS = int(Settings.model_fields["max_requests"].default)
LIMIT_503_S = 0.05
LIMIT_LAST_S = 1.0
"""The last of many at once waits for all before it."""
HELD_S = 20.0


def run(folder: Path, small: bool) -> Part:
    num, num_taken, num_probes = (40, 8, 5) if small else (500, MAX_REQUESTS, 200)
    serving = traffic.serving(folder, predict_deadline_s=HELD_S, max_requests=num_taken)
    with traffic.silent_hosts(2 * num_taken) as hosts, serving as (url, pictures):

        def body(number: int, host: str = pictures) -> bytes:
            return traffic.predict_body(1, [traffic.task(number, f"{host}/1.png")])

        holders = [traffic.predict(url, body(number, host)) for number, host in enumerate(hosts)]
        if not wait_until(lambda: sum(holder.done() for holder in holders) >= num_taken, HELD_S):
            raise RuntimeError("the places were not all taken")  # else half of them has been refused by now
        at_once = [asked.result() for asked in [traffic.predict(url, body(10_000 + n)) for n in range(num)]]
        probes = [traffic.call(url, "/predict", body(20_000 + n), HELD_S) for n in range(num_probes)]
        for holder in holders:
            holder.result()
    refused = [[reply.seconds for reply in replies if reply.status == 503] for replies in (probes, at_once)]
    figures = [
        Figure("other replies than 503", num + num_probes - sum(map(len, refused)), "", 0),
        *latencies("one 503 after the other", refused[0], p99=LIMIT_503_S),
        *latencies(f"503 to {num} at once", refused[1], p99=LIMIT_LAST_S),
    ]
    return Part(f"predicts of one task while {num_taken} hold every place", figures)
