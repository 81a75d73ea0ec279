"""Whether Label Studio's short calls are answered in time while the backend is at its busiest.

At once: a /predict of 10,000 tasks, one whose body is 50 MB, and one whose pictures lie on hosts that never answer.
Label Studio gives /health 1 s, /setup 3 s, and a webhook 1 s. Meanwhile the model works on all of it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from backend.commands.demo.local_backend import LocalBackend, running_backend
from backend.queue.replies import LATE_S
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.figures import Figure, SceneReport, latencies
from benchmarks.load_scenes.traffic import NOTE, Reply
from benchmarks.pictures import picture_server
from label_config.ready_made import ready_made

HEALTH_EVERY_S = 0.03
OTHERS_EVERY_S = 1.0
IDLE_S = 3.0
LIMIT_HEALTH_S, LIMIT_HEALTH_P99_S, LIMIT_SETUP_S, LIMIT_WEBHOOK_S = 1.0, 0.2, 3.0, 0.5
MEGABYTE = 1e6
CONFIG = ready_made("garments.zh")


def run(folder: Path, quick: bool) -> SceneReport:
    num_tasks, large_mb, num_hosts, deadline_s = (200, 2, 10, 8.0) if quick else (10_000, 50, 100, 45.0)
    settings = {**traffic.SETTINGS, "PRELABEL_PREDICT_DEADLINE_S": str(deadline_s)}
    with (
        picture_server(10_000) as pictures,
        traffic.silent_hosts(num_hosts) as hosts,
        running_backend(folder, settings) as backend,
    ):
        backend.wait_until_ready()
        bulk = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_tasks)]
        num_large = int(large_mb * MEGABYTE / (len(json.dumps(bulk[-1])) + 2))
        large = [traffic.task(n, f"{pictures}/{n}.png", NOTE) for n in range(num_large)]
        dead = [traffic.task(n, f"{host}/{n}.png") for n, host in enumerate(hosts)]
        bodies = {
            f"/predict of {num_tasks:,} tasks": traffic.predict_body(1, CONFIG, bulk),
            f"/predict of {large_mb} MB": traffic.predict_body(2, CONFIG, large),
            f"/predict of {num_hosts} dead hosts": traffic.predict_body(3, CONFIG, dead),
        }
        figures = _measure(backend, bodies, deadline_s)
    about = (
        f"{num_tasks:,} tasks, a body of {large_mb} MB ({num_large:,} tasks) and {num_hosts} hosts that never answer, "
        f"all at once; deadline {deadline_s:.0f} s"
    )
    return SceneReport("health", about, tuple(figures))


def _measure(backend: LocalBackend, bodies: dict[str, bytes], deadline_s: float) -> list[Figure]:
    url = backend.url
    setup = traffic.setup_body(4, CONFIG)
    webhook = json.dumps({"action": "ANNOTATION_CREATED", "project": {"id": 4}}).encode()
    with traffic.polled(lambda: traffic.call(url, "/health"), HEALTH_EVERY_S) as idle:
        time.sleep(IDLE_S)
    with (
        traffic.polled(lambda: traffic.call(url, "/health"), HEALTH_EVERY_S) as healths,
        traffic.polled(lambda: traffic.call(url, "/setup", setup), OTHERS_EVERY_S) as setups,
        traffic.polled(lambda: traffic.call(url, "/webhook", webhook), OTHERS_EVERY_S) as webhooks,
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
        figures += [
            Figure(f"{name}: replied after", reply.seconds, "s", deadline_s + LATE_S),
            Figure(f"{name}: predicted", reply.num_predicted()),
        ]
    return figures


def _seconds(replies: list[Reply]) -> list[float]:
    return [reply.seconds for reply in replies]
