"""Clients that leave, ask again and again, ask for everything at once, and webhooks that lie."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from backend.store.serving import FILE_NAME
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG, predict_body, serving, task
from tests.limits import examples, until

NUM_CLIENTS = examples(60, 400)
NUM_TASKS = 45
NUM_LARGE = examples(120, 1_200)
"""Of a click on more than MAX_IN_REPLY, which is answered at once, with nothing."""
LOOKED_UP = {("GET", "/api/projects/12"), ("GET", "/api/dm/views")}
"""What the first tasks of a project make the backend ask: whose project it is, and whether its tabs can be sorted."""
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


def request_of(number: int) -> dict[str, Any]:
    """Three tasks of ten, in one of four requests with a picture that is not kept."""
    tasks = [task(number % 10), task((number + 3) % 10), task((number + 7) % 10)]
    if number % 4 == 0:
        tasks.append(task(1_000 + number, INLINE))
    return predict_body(*tasks)


def test_clients_that_leave_leak_nothing_and_leave_only_the_work_itself(tmp_path: Path) -> None:
    engine = WatchedEngine(1)
    with serving(tmp_path, engine, max_requests=NUM_CLIENTS, max_slots=1) as server:
        assert server.predict(task(0)).json()["results"][0]["result"]
        until(lambda: engine.num_done == 1)
        before = engine.num_tasks, num_files()
        with ExitStack() as clients:
            for number in range(NUM_CLIENTS):
                clients.enter_context(server.asked(request_of(number)))
            until(lambda: sum(states(tmp_path).values()) == 10)
            waiting = server.client.get("/health").json()["work"]["waiting"]
            assert waiting <= 10, "a task that is asked for again and again waits once"
        until(lambda: server.num_left == NUM_CLIENTS)
        engine.open()
        until(lambda: states(tmp_path).get("done", 0) + states(tmp_path).get("returned", 0) == 10)
        until(lambda: engine.num_tasks <= before[0])
        until(lambda: num_files() <= before[1])
        assert engine.num_done == 10
        assert all(result["result"] for result in server.predict(*(task(n) for n in range(1, 10))).json()["results"])


@pytest.mark.parametrize("leaves", [False, True], ids=["reply at the deadline", "client gone before it"])
def test_of_a_large_request_everything_is_in_label_studio_once(tmp_path: Path, leaves: bool) -> None:
    engine = GateEngine(30)
    with fake_server() as label_studio:
        project = label_studio.add_project(12, NUM_TASKS, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}

        with serving(tmp_path, engine, max_slots=4, **access) as server:
            body = {**predict_body(*tasks), "project": project}
            if leaves:
                with server.asked(body):
                    until(lambda: engine.num_asked == 30 + 2 * 4)
                until(lambda: server.num_left == 1)
            else:
                results = server.post_late(body, lambda: engine.num_asked == 30 + 2 * 4).json()["results"]
                returned = [{**r, "task": t["id"]} for t, r in zip(tasks, results, strict=True) if r]
                assert len(returned) == 30
                label_studio.store(12, returned)
            engine.open()
            if not leaves:
                until(lambda: states(tmp_path) == {"delivered": NUM_TASKS - 30, "returned": 30})
                server.time.put_forward(300)  # what was in the reply is looked up by now
            until(lambda: states(tmp_path) == {"delivered": NUM_TASKS})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)
        assert engine.num_done == NUM_TASKS


def test_of_a_click_that_is_answered_at_once_everything_is_pushed_once(tmp_path: Path) -> None:
    engine = GateEngine(30)
    with fake_server() as label_studio:
        project = label_studio.add_project(12, NUM_LARGE, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, max_slots=4, **access) as server:
            body = {**predict_body(*tasks), "project": project}
            assert server.client.post("/predict", json=body).json()["results"] == [[]] * NUM_LARGE
            engine.open()
            until(lambda: states(tmp_path) == {"delivered": NUM_LARGE})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)
        assert engine.num_done == NUM_LARGE


def test_webhooks_that_lie_change_nothing(tmp_path: Path) -> None:
    engine = GateEngine()
    with fake_server() as label_studio:
        project = label_studio.add_project(12, 5, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, **access) as server:
            with server.asked({**predict_body(*tasks), "project": project}):
                until(lambda: engine.num_asked == 5)
            until(lambda: server.num_left == 1 and set(label_studio.calls) == LOOKED_UP)
            asked = list(label_studio.calls)
            for body in _lies(project) * 2:
                assert server.client.post("/webhook", json=body).status_code == 200
            assert states(tmp_path) == {"running": 5}
            assert label_studio.calls == asked, "it was believed enough to ask"
            engine.open()
            until(lambda: states(tmp_path) == {"delivered": 5})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)


def _lies(project: str) -> list[dict[str, Any]]:
    """Out of order, of a project that is there, of none, and of nothing."""
    actions = ("PROJECT_DELETED", "TASKS_DELETED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", "PROJECT_CREATED", "x")
    projects: list[Any] = [{"id": 12, "label_config": "<View/>"}, {"id": project}, 12, {"id": 99}, None]
    tasks = [{"id": number} for number in range(12_000, 12_005)]
    return [{"action": action, "project": about, "tasks": tasks} for action in actions for about in projects]
