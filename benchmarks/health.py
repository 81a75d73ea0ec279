"""How long `/health` takes while the backend is busy: `python -m benchmarks.health [--tasks 10000] [--json FILE]`.

Label Studio gives it one second. A real `prelabel serve` with the built-in model answers one large /predict (a body of
10,000 tasks to parse, pictures to fetch over HTTP, the model at work until the deadline) while /health is asked about
every 20 ms. Beside it: the same polls of the idle server.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from backend.local_backend import running_backend
from benchmarks.pictures import picture_server
from benchmarks.report import hardware, percentile, print_table, write_json
from label_config.ready_made import ready_made

PAUSE_S = 0.02
NOTE = "x" * 1_000  # what a task carries beside its picture


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks in the one /predict")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds that the /predict may take")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, picture_server() as pictures:
        settings = {
            "PRELABEL_PREDICT_DEADLINE_S": str(args.deadline),
            "PRELABEL_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        with running_backend(Path(folder), settings) as backend:
            backend.wait_until_ready()
            figures = measure(backend.url, pictures, args.tasks, args.deadline)
    print(f"{hardware()}; one /predict of {args.tasks} tasks, {figures['body_mb']:.0f} MB\n")
    print_table(
        ["/health", "polls", "p50 ms", "p99 ms", "max ms"],
        [
            [name, str(f["polls"]), *(f"{f[key] * 1e3:.0f}" for key in ("p50_s", "p99_s", "max_s"))]
            for name, f in figures["health"].items()
        ],
    )
    print(f"\n{figures['predicted']} of {args.tasks} tasks predicted within {args.deadline:.0f} s")
    if args.json:
        write_json(args.json, figures)


def measure(url: str, pictures: str, num_tasks: int, deadline_s: float) -> dict[str, Any]:
    """Poll /health idle for two seconds, then while one /predict is under way."""
    body = {
        "tasks": [{"id": n, "data": {"image": f"{pictures}/{n % 100}.png", "note": NOTE}} for n in range(num_tasks)],
        "project": "1.1",
        "label_config": ready_made("garments.zh"),
    }
    content = httpx.Request("POST", url, json=body).read()
    replies: list[httpx.Response] = []

    def predict() -> None:
        headers = {"Content-Type": "application/json"}
        timeout_s = deadline_s + 60
        replies.append(
            httpx.post(f"{url}/predict", content=content, headers=headers, timeout=timeout_s, trust_env=False)
        )

    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        until = time.perf_counter() + 2
        idle = _poll(client, lambda: time.perf_counter() < until)
        bulk = threading.Thread(target=predict)
        bulk.start()
        busy = _poll(client, bulk.is_alive)
        bulk.join()
    results = replies[0].raise_for_status().json()["results"]
    return {
        "tasks": num_tasks,
        "body_mb": len(content) / 1e6,
        "deadline_s": deadline_s,
        "predicted": sum(1 for result in results if result),
        "health": {"idle": _summary(idle), "during the /predict": _summary(busy)},
    }


def _poll(client: httpx.Client, goes_on: Callable[[], bool]) -> list[float]:
    seconds: list[float] = []
    while goes_on():
        at = time.perf_counter()
        client.get("/health").raise_for_status()
        seconds.append(time.perf_counter() - at)
        time.sleep(PAUSE_S)
    return seconds


def _summary(seconds: list[float]) -> dict[str, float]:
    return {
        "polls": len(seconds),
        "p50_s": percentile(seconds, 0.5),
        "p99_s": percentile(seconds, 0.99),
        "max_s": max(seconds),
    }


if __name__ == "__main__":
    main()
