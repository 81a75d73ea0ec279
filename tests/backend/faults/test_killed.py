"""`prelabel serve` with the built-in model, killed in the middle of its work and started again."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from backend.commands.demo.local_backend import LocalBackend, running_backend
from label_config.ready_made import ready_made
from tests.backend.commands.test_background_process import wait_ended
from tests.backend.served import descendants, states
from tests.backend.serving import predict_body, task
from tests.limits import WAIT_S, until

NUM_BEFORE, NUM_AFTER = 2, 6
NUM_SLOTS = 2


def _tasks(folder: Path) -> list[dict[str, Any]]:
    """Each has another picture: the same one, brighter and brighter."""
    folder.mkdir()
    source = Image.linear_gradient("L").resize((64, 64))
    for number in range(NUM_BEFORE + NUM_AFTER):
        source.point(lambda value, n=number: min(255, value + n)).save(folder / f"{number}.png")  # type: ignore[misc]
    return [task(number, f"/data/local-files/?d={number}.png") for number in range(NUM_BEFORE + NUM_AFTER)]


def _ask(backend: LocalBackend, tasks: list[dict[str, Any]]) -> list[Any]:
    body = predict_body(*tasks, config=ready_made("garments.zh"))
    reply = httpx.post(backend.url + "/predict", json=body, trust_env=False, timeout=WAIT_S)
    results: list[Any] = reply.json()["results"]
    return results


def _num_pictures(backend: LocalBackend) -> float:
    for line in httpx.get(backend.url + "/metrics", trust_env=False, timeout=WAIT_S).text.splitlines():
        if line.startswith('prelabel_images_total{result="ok"}'):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_a_kill_in_the_middle_loses_no_task_and_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    tasks = _tasks(tmp_path / "pictures")
    settings = {
        "PRELABEL_LOCAL_FILES_ROOT": str(tmp_path / "pictures"),
        "PRELABEL_MAX_SLOTS": str(NUM_SLOTS),
        "PRELABEL_PREDICT_DEADLINE_S": "95",
    }
    data_dir = tmp_path / "prelabel"
    with running_backend(tmp_path, settings) as backend, ThreadPoolExecutor(1) as beside:
        backend.wait_until_ready()
        assert all(_ask(backend, tasks[:NUM_BEFORE]))
        children = descendants(backend.process.pid)
        assert len(children) >= 2, "the engine and the process that reads large bodies"
        for pid in children:  # from here on the engine answers nothing
            os.kill(pid, signal.SIGSTOP)
        asking = beside.submit(_ask, backend, tasks[NUM_BEFORE:])
        running = {"running": 2 * NUM_SLOTS, "queued": NUM_AFTER - 2 * NUM_SLOTS}
        until(lambda: states(data_dir) == {"returned": NUM_BEFORE} | running)
        os.kill(backend.process.pid, signal.SIGKILL)
        for pid in children:
            os.kill(pid, signal.SIGCONT)
        for pid in children:
            wait_ended(pid)
        with pytest.raises(httpx.RemoteProtocolError):
            asking.result()

    with running_backend(tmp_path, settings) as backend:
        until(lambda: states(data_dir) == {"returned": NUM_BEFORE, "done": NUM_AFTER})
        assert _num_pictures(backend) == NUM_AFTER
        assert all(result["result"] for result in _ask(backend, tasks[NUM_BEFORE:]))
        assert _num_pictures(backend) == NUM_AFTER
    assert states(data_dir) == {"returned": NUM_BEFORE + NUM_AFTER}
