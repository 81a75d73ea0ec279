"""`prelabel serve` with the built-in model, killed in the middle of its work and started again."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from backend.keeping import FILE_NAME
from backend.local_backend import LocalBackend, running_backend
from label_config import ready_made
from tests.backend.serving import predict_body, task
from tests.limits import until

NUM_TASKS = 60
PREDICT_S = 90.0


def _pictures(folder: Path) -> list[str]:
    """Each is another picture: the same garment, brighter and brighter."""
    folder.mkdir()
    source = Image.linear_gradient("L").resize((64, 64))
    for number in range(NUM_TASKS):
        source.point(lambda value, n=number: min(255, value + n)).save(folder / f"{number}.png")  # type: ignore[misc]
    return [f"/data/local-files/?d={number}.png" for number in range(NUM_TASKS)]


def _states(data_dir: Path) -> dict[str, int]:
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM work GROUP BY state").fetchall())


def _num_answers(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return int(connection.execute("SELECT count(*) FROM answer").fetchone()[0])


def _num_pictures(backend: LocalBackend) -> float:
    for line in httpx.get(backend.url + "/metrics", trust_env=False).text.splitlines():
        if line.startswith('prelabel_images_total{result="ok"}'):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_a_kill_in_the_middle_loses_no_task_and_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    urls = _pictures(tmp_path / "pictures")
    config = ready_made("garments.zh")
    body = predict_body(*(task(n, url) for n, url in enumerate(urls, 1)), config=config)
    settings = {
        "PRELABEL_LOCAL_FILES_ROOT": str(tmp_path / "pictures"),
        "PRELABEL_MAX_SLOTS": "4",
        "PRELABEL_PREDICT_DEADLINE_S": str(PREDICT_S),
    }
    data_dir = tmp_path / "prelabel"

    def ask(backend: LocalBackend) -> list[Any]:
        reply = httpx.post(backend.url + "/predict", json=body, trust_env=False, timeout=PREDICT_S + 10)
        results: list[Any] = reply.json()["results"]
        return results

    with running_backend(tmp_path, settings) as backend:
        backend.wait_until_ready()
        asking = threading.Thread(target=_and_be_cut_off, args=(ask, backend))
        asking.start()
        until(lambda: _num_answers(data_dir) >= 10)
        os.kill(backend.process.pid, signal.SIGKILL)
        asking.join()
    states = _states(data_dir)
    num_done = states["done"]
    assert sum(states.values()) == NUM_TASKS
    assert 10 <= num_done < NUM_TASKS, states

    with running_backend(tmp_path, settings) as backend:
        backend.wait_until_ready()
        results = ask(backend)
        assert all(result["result"] for result in results)
        assert _num_pictures(backend) == NUM_TASKS - num_done
    assert _states(data_dir) == {"returned": NUM_TASKS}


def _and_be_cut_off(ask: Callable[[LocalBackend], list[Any]], backend: LocalBackend) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ask(backend)
