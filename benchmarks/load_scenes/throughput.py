"""Tasks through HTTP and the store when the engine answers at once: how many a second, at what cost of our own.

Bulk requests one after the other, as *Retrieve Predictions* sends them, then single tasks. As a program of its own
this module is that server: `prelabel serve` with an engine and pictures that take no time.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

from backend.commands.demo.background_process import BackgroundProcess, free_port
from backend.commands.serve import serve
from backend.settings import load_settings
from benchmarks.load_scenes import traffic
from benchmarks.report import Figure, Part
from label_config.answer import FieldValue
from tests.fakes import FakeEngine, FakeImages

START_S = 120.0
REQUEST_S = 300.0
ANSWER: dict[str, FieldValue] = {
    "caption": "一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。",
    "category": (("服饰", "连体装", "连衣裙"),),
    "style": ("优雅",),
    "season": ("夏季",),
    "scene": ("聚会约会",),
}


def run(folder: Path, small: bool) -> Part:
    num_requests, num_tasks, num_single = (1, 50, 10) if small else (10, 500, 200)
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PRELABEL_")} | {
        "PRELABEL_MODEL": "garments",
        "PRELABEL_PORT": str(port),
        "PRELABEL_DATA_DIR": str(folder / "data"),
        "PRELABEL_PREDICT_DEADLINE_S": "95",
    }
    url = f"http://127.0.0.1:{port}"
    with BackgroundProcess("The backend", [sys.executable, "-m", __name__], env, folder / "log") as process:
        process.wait_until_answers(f"{url}/health", START_S, lambda reply: reply.status_code == 200)
        _predict(url, 10**7, num_tasks)  # the processes that read bodies have started then, torch in this program's own
        server = psutil.Process(process.pid)
        cpu_s, started = _cpu_s(server), time.perf_counter()
        num_filled = sum(_predict(url, 1 + n * num_tasks, num_tasks) for n in range(num_requests))
        bulk_s, bulk_cpu_s = time.perf_counter() - started, _cpu_s(server) - cpu_s
        cpu_s, started = _cpu_s(server), time.perf_counter()
        num_filled += sum(_predict(url, 10**6 + n, 1) for n in range(num_single))
        single_s, single_cpu_s = time.perf_counter() - started, _cpu_s(server) - cpu_s
    num = num_requests * num_tasks
    about = f"{num_requests} requests of {num_tasks} tasks, then {num_single} of one; the engine answers at once"
    figures = [
        Figure("tasks", num + num_single),
        Figure("without a prediction", num + num_single - num_filled, "", 0),
        Figure("bulk tasks a second", num / bulk_s),
        Figure("CPU of the API process a bulk task", 1e3 * bulk_cpu_s / num, "ms"),
        Figure("single tasks a second", num_single / single_s),
        Figure("CPU of the API process a single task", 1e3 * single_cpu_s / num_single, "ms"),
    ]
    return Part(about, figures)


def _predict(url: str, first: int, num: int) -> int:
    """How many of `num` tasks got a prediction."""
    tasks = [traffic.task(number, f"https://shop.example/{number}.png") for number in range(first, first + num)]
    return traffic.call(url, "/predict", traffic.predict_body(1, tasks), REQUEST_S).num_predicted()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(serve(load_settings(), lambda settings: FakeEngine(ANSWER), lambda settings: FakeImages()))
