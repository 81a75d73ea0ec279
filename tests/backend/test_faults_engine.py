"""The engine's process fails under requests of real clients: /health tells it, and everybody gets an answer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.engine.client import EngineClient
from backend.engine.options import EngineLimits, EngineOptions
from tests.backend.engine import scripted_process
from tests.backend.serving import Server, predict_body, serving, task
from tests.limits import until

NUM_TASKS = 4


def a_bug(client: EngineClient, steer: Path) -> None:
    """In the loop itself, while another thread of the process works."""
    (steer / "bug").touch()


def garbled(client: EngineClient, steer: Path) -> None:
    (steer / "garbled").touch()


def killed(client: EngineClient, steer: Path) -> None:
    os.kill(client._process.pid, signal.SIGKILL)


def stopped(client: EngineClient, steer: Path) -> None:
    os.kill(client._process.pid, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("fault", "limits"),
    [
        (a_bug, {}),
        (garbled, {}),
        (killed, {}),
        (stopped, {"hang_s": 1.5}),
    ],
    ids=["a bug in its loop", "a message nobody can read", "killed", "silent"],
)
def test_everybody_is_answered_although_the_engine_fails(
    tmp_path: Path, fault: Callable[[EngineClient, Path], None], limits: dict[str, float]
) -> None:
    client = EngineClient(
        EngineOptions(quantised_dir=tmp_path),
        EngineLimits(restart_backoff_s=0.5, close_s=5, **limits),
        scripted_process.main,
    )
    (tmp_path / "gate").write_text("0")
    with serving(tmp_path / "data", client, predict_deadline_s=20) as server:  # type: ignore[arg-type]
        until(lambda: client.status.state == "ready")
        replies: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: replies.append(ask(server)))
        asking.start()
        until(lambda: client.status.num_running == NUM_TASKS)
        fault(client, tmp_path)
        until(lambda: model(server)["state"] == "restarting")
        assert "exit code" in model(server)["message"]
        (tmp_path / "gate").unlink()
        asking.join()
        assert all(result["result"] for result in replies[0].json()["results"])
        assert (model(server)["state"], model(server)["restarts"]) == ("ready", 1)
        assert client.status.num_running == 0


def ask(server: Server) -> httpx.Response:
    body = predict_body(*(task(n) for n in range(NUM_TASKS)))
    return httpx.post(server.url + "/predict", json=body, trust_env=False, timeout=30)


def model(server: Server) -> dict[str, Any]:
    reply = server.client.get("/health")
    assert reply.status_code == 200, "Label Studio would call it disconnected, and it is not"
    found: dict[str, Any] = reply.json()["model"]
    return found
