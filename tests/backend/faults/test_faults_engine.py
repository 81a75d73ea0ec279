"""The engine's process fails under requests of real clients: /health tells it, and everybody gets an answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backend.engine.client import EngineClient
from backend.engine.options import EngineLimits, EngineOptions
from tests import left_behind
from tests.backend.engine import scripted_process
from tests.backend.serving import NEVER_S, Server, serving, task
from tests.limits import WAIT_S, until

NUM_TASKS = 4


def engine_pid() -> int:
    [engine] = left_behind.named("prelabel-engine")
    return engine


def a_bug(steer: Path) -> None:
    """In the loop itself, while another thread of the process works."""
    (steer / "bug").touch()


def garbled(steer: Path) -> None:
    (steer / "garbled").touch()


def killed(steer: Path) -> None:
    os.kill(engine_pid(), signal.SIGKILL)


def stopped(steer: Path) -> None:
    os.kill(engine_pid(), signal.SIGSTOP)


@pytest.mark.parametrize(
    "fault",
    [a_bug, garbled, killed, stopped],
    ids=["a bug in its loop", "a message nobody can read", "killed", "silent"],
)
def test_everybody_is_answered_although_the_engine_fails(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    client = EngineClient(
        EngineOptions(quantised_dir=tmp_path),
        EngineLimits(restart_backoff_s=WAIT_S, hang_s=WAIT_S, cpu_hang_s=WAIT_S, request_s=NEVER_S, load_s=NEVER_S),
        scripted_process.main,
    )
    (tmp_path / "gate").write_text("0")
    with serving(tmp_path / "data", client) as server, ThreadPoolExecutor(1) as beside:  # type: ignore[arg-type]
        until(lambda: client.status.state == "ready")
        asking = beside.submit(server.predict, *(task(n) for n in range(NUM_TASKS)))
        until(lambda: client.status.num_running == NUM_TASKS)
        fault(tmp_path)
        if fault is stopped:
            server.time.put_forward(WAIT_S)
        until(lambda: model(server)["state"] == "restarting")
        assert ("said nothing" if fault is stopped else "exit code") in model(server)["message"]
        (tmp_path / "gate").unlink()
        server.time.put_forward(WAIT_S)
        assert all(result["result"] for result in asking.result().json()["results"])
        assert (model(server)["state"], model(server)["restarts"]) == ("ready", 1)
        assert client.status.num_running == 0


def model(server: Server) -> dict[str, Any]:
    reply = server.client.get("/health")
    assert reply.status_code == 200, "Label Studio would call it disconnected, and it is not"
    found: dict[str, Any] = reply.json()["model"]
    return found
