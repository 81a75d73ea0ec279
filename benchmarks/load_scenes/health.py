"""Whether Label Studio's short calls are answered in time while the backend is at its busiest.

At once: a /predict of 10,000 tasks, one whose body is 50 MB, and one whose pictures lie on hosts that never answer.
Label Studio gives /health 1 s, /setup 3 s, and a webhook 1 s. Meanwhile the model works on all of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import CONFIG, NOTE, Reply, polled
from benchmarks.report import Figure, Part, latencies

HEALTH_EVERY_S = 0.03
OTHERS_EVERY_S = 1.0
IDLE_S = 3.0
LIMIT_HEALTH_S, LIMIT_HEALTH_P99_S, LIMIT_SETUP_S, LIMIT_WEBHOOK_S = 1.0, 0.2, 3.0, 0.5
MEGABYTE = 1e6


def run(folder: Path, small: bool) -> Part:
    num_tasks, large_mb, num_hosts, deadline_s = (200, 2, 10, 8.0) if small else (10_000, 50, 100, 45.0)
    serving = traffic.serving(folder, predict_deadline_s=deadline_s)
    with traffic.silent_hosts(num_hosts) as hosts, serving as (url, pictures):
        bulk = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_tasks)]
        num_large = int(large_mb * MEGABYTE / (len(json.dumps(bulk[-1])) + 2))
        large = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_large)]
        dead = [traffic.task(n, f"{host}/{n}.png") for n, host in enumerate(hosts)]
        bodies = [traffic.predict_body(project, tasks) for project, tasks in enumerate((bulk, large, dead), 1)]
        figures = _measure(url, bodies)
    about = (
        f"{num_tasks:,} tasks, a body of {large_mb} MB ({num_large:,} tasks) and {num_hosts} hosts that never answer, "
        f"all at once; deadline {deadline_s:.0f} s"
    )
    return Part(about, figures)


def _measure(url: str, bodies: Sequence[bytes]) -> list[Figure]:
    setup = {"project": "4.1700000000", "schema": CONFIG, "hostname": "http://127.0.0.1", "access_token": ""}
    webhook = {"action": "ANNOTATION_CREATED", "project": {"id": 4}}
    with polled(HEALTH_EVERY_S, url, "/health") as idle:
        time.sleep(IDLE_S)
    with (
        polled(HEALTH_EVERY_S, url, "/health") as healths,
        polled(OTHERS_EVERY_S, url, "/setup", repeat(json.dumps(setup).encode())) as setups,
        polled(OTHERS_EVERY_S, url, "/webhook", repeat(json.dumps(webhook).encode())) as webhooks,
    ):
        predicts = [asked.result() for asked in [traffic.predict(url, body) for body in bodies]]
    replies = [*idle, *healths, *setups, *webhooks, *predicts]
    return [
        *latencies("idle /health", _seconds(idle)),
        *latencies("/health", _seconds(healths), p99=LIMIT_HEALTH_P99_S, max=LIMIT_HEALTH_S),
        *latencies("/setup", _seconds(setups), max=LIMIT_SETUP_S),
        *latencies("/webhook", _seconds(webhooks), max=LIMIT_WEBHOOK_S),
        Figure("replies that are not 200", sum(reply.status != 200 for reply in replies), "", 0),
        Figure("predicted in the replies", sum(reply.num_predicted() for reply in predicts)),
    ]


def _seconds(replies: Sequence[Reply]) -> list[float]:
    return [reply.seconds for reply in replies]
