"""Whether Label Studio's short calls are answered in time while the backend is at its busiest.

At once: a /predict of 10,000 tasks, one whose body is 50 MB, and one whose pictures lie on hosts that never answer.
Label Studio gives /health 1 s, /setup 3 s, and a webhook 1 s. Meanwhile the model works on all of it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from backend.queue.replies import LATE_S
from benchmarks.figures import Figure, Part, latencies
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import NOTE, Reply, polled

HEALTH_EVERY_S = 0.03
OTHERS_EVERY_S = 1.0
IDLE_S = 3.0
LIMIT_HEALTH_S, LIMIT_HEALTH_P99_S, LIMIT_SETUP_S, LIMIT_WEBHOOK_S = 1.0, 0.2, 3.0, 0.5
MEGABYTE = 1e6


def run(folder: Path, quick: bool) -> Part:
    num_tasks, large_mb, num_hosts, deadline_s = (200, 2, 10, 8.0) if quick else (10_000, 50, 100, 45.0)
    serving = traffic.serving(folder, predict_deadline_s=deadline_s)
    with traffic.silent_hosts(num_hosts) as hosts, serving as (url, _, pictures):
        bulk = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_tasks)]
        num_large = int(large_mb * MEGABYTE / (len(json.dumps(bulk[-1])) + 2))
        large = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_large)]
        dead = [traffic.task(n, f"{host}/{n}.png") for n, host in enumerate(hosts)]
        bodies = {
            f"/predict of {num_tasks:,} tasks": traffic.predict_body(1, bulk),
            f"/predict of {large_mb} MB": traffic.predict_body(2, large),
            f"/predict of {num_hosts} dead hosts": traffic.predict_body(3, dead),
        }
        figures = _measure(url, bodies, deadline_s)
    about = (
        f"{num_tasks:,} tasks, a body of {large_mb} MB ({num_large:,} tasks) and {num_hosts} hosts that never answer, "
        f"all at once; deadline {deadline_s:.0f} s"
    )
    return Part(about, figures)


def _measure(url: str, bodies: dict[str, bytes], deadline_s: float) -> list[Figure]:
    webhook = json.dumps({"action": "ANNOTATION_CREATED", "project": {"id": 4}}).encode()
    with polled(HEALTH_EVERY_S, url, "/health") as idle:
        time.sleep(IDLE_S)
    with (
        polled(HEALTH_EVERY_S, url, "/health") as healths,
        polled(OTHERS_EVERY_S, url, "/setup", traffic.setup_body(4)) as setups,
        polled(OTHERS_EVERY_S, url, "/webhook", webhook) as webhooks,
    ):
        predicts = {name: traffic.predict(url, body) for name, body in bodies.items()}
        replies = {name: predict.result() for name, predict in predicts.items()}
    figures = [
        *latencies("idle /health", _seconds(idle)),
        *latencies("/health", _seconds(healths), p99=LIMIT_HEALTH_P99_S, worst=LIMIT_HEALTH_S),
        *latencies("/setup", _seconds(setups), worst=LIMIT_SETUP_S),
        *latencies("/webhook", _seconds(webhooks), worst=LIMIT_WEBHOOK_S),
        Figure("calls that failed", sum(reply.status != 200 for reply in [*idle, *healths, *setups, *webhooks]), "", 0),
        Figure("/predict: replies that are not 200", sum(reply.status != 200 for reply in replies.values()), "", 0),
    ]
    for name, reply in replies.items():
        figures.append(Figure(f"{name}: replied after", reply.seconds, "s", deadline_s + LATE_S))
        figures.append(Figure(f"{name}: predicted", reply.num_predicted()))
    return figures


def _seconds(replies: list[Reply]) -> list[float]:
    return [reply.seconds for reply in replies]
