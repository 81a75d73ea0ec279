"""Clients that leave, ask again and again, ask for everything at once, and webhooks that lie."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.keeping import FILE_NAME
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG, Server, look_up_at_once, predict_body, serving, task
from tests.limits import until

NUM_CLIENTS = 200
LEAVE_S = 0.05
INLINE = "data:image/png;base64,AAAA"
"""Never stored, so nobody wants its answer once the client is gone."""


class WatchedEngine(GateEngine):
    """Knows the event loop it is used on."""

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()

    @property
    def num_tasks(self) -> int:
        return len(asyncio.all_tasks(self.loop))


def num_files() -> int:
    """Open files and sockets; not those of the store, which keeps a few connections."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the folder itself, read a moment ago
            found += FILE_NAME not in os.readlink(f"/proc/self/fd/{name}")
    return found


def leave_soon(server: Server, number: int) -> None:
    """Ask for three tasks of ten, in one of four requests with a picture that is not kept; do not wait."""
    tasks = [task(number % 10), task((number + 3) % 10), task((number + 7) % 10)]
    if number % 4 == 0:
        tasks.append(task(1_000 + number, INLINE))
    body = httpx.Request("POST", server.url, json=predict_body(*tasks)).content
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        time.sleep(LEAVE_S)


def test_clients_that_leave_leak_nothing_and_leave_only_the_work_itself(tmp_path: Path) -> None:
    engine = WatchedEngine(1)
    with serving(tmp_path, engine, max_requests=NUM_CLIENTS, max_slots=1) as server:
        assert server.predict(task(0)).json()["results"][0]["result"]
        until(lambda: engine.num_done == 1)
        time.sleep(0.1)
        before = engine.num_tasks, num_files()
        clients = [threading.Thread(target=leave_soon, args=(server, number)) for number in range(NUM_CLIENTS)]
        for client in clients:
            client.start()
        waiting: list[int] = []
        while any(client.is_alive() for client in clients):
            waiting.append(server.client.get("/health").json()["work"]["waiting"])
        assert max(waiting) <= 10, "a task that is asked for again and again waits once"
        until(lambda: sum(states(tmp_path).values()) == 10)
        engine.open()
        until(lambda: states(tmp_path).get("done", 0) + states(tmp_path).get("returned", 0) == 10)
        until(lambda: engine.num_tasks <= before[0])
        until(lambda: num_files() <= before[1])
        assert engine.num_done == 10
        assert all(result["result"] for result in server.predict(*(task(n) for n in range(1, 10))).json()["results"])


@pytest.mark.parametrize("leaves", [False, True], ids=["reply at the deadline", "client gone before it"])
def test_of_a_large_request_everything_is_in_label_studio_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    look_up_at_once(monkeypatch)
    engine = GateEngine(150)
    with fake_server() as label_studio:
        project = label_studio.add_project(12, 1_200, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, predict_deadline_s=1.5, **access) as server:
            body = {**predict_body(*tasks), "project": project}
            if leaves:
                with pytest.raises(httpx.ReadTimeout):
                    server.client.post("/predict", json=body, timeout=0.7)
            else:
                results = server.client.post("/predict", json=body, timeout=1.5 + 2).json()["results"]
                returned = [{**r, "task": t["id"]} for t, r in zip(tasks, results, strict=True) if r]
                assert 1 <= len(returned) <= 150
                label_studio.store(12, returned)
            engine.open()
            until(lambda: states(tmp_path) == {"delivered": 1_200})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)
        assert engine.num_done == 1_200


def test_webhooks_that_lie_change_nothing(tmp_path: Path) -> None:
    engine = GateEngine()
    with fake_server() as label_studio:
        project = label_studio.add_project(12, 5, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, predict_deadline_s=0.3, **access) as server:
            server.client.post("/predict", json={**predict_body(*tasks), "project": project})
            until(lambda: engine.num_asked == 5)
            for body in _lies(project) * 2:
                assert server.client.post("/webhook", json=body).status_code == 200
            assert states(tmp_path) == {"running": 5}
            assert label_studio.calls == [], "it was believed enough to ask"
            engine.open()
            until(lambda: states(tmp_path) == {"delivered": 5})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)


def _lies(project: str) -> list[dict[str, Any]]:
    """Out of order, of a project that is there, of none, and of nothing."""
    actions = ("PROJECT_DELETED", "TASKS_DELETED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", "PROJECT_CREATED", "x")
    projects: list[Any] = [{"id": 12, "label_config": "<View/>"}, {"id": project}, 12, {"id": 99}, None]
    tasks = [{"id": number} for number in range(12_000, 12_005)]
    return [{"action": action, "project": about, "tasks": tasks} for action in actions for about in projects]
