"""What people see while the model loads, fails to load, or is started again; and the deadline of /predict."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Ready, Stats
from backend.errors import EngineBusy, EngineDead
from backend.queue.service import WATCH_S
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import ANSWER, predict_body, serving, setup_body, task
from tests.fakes import READY, FakeEngine
from tests.limits import until


class HoldsBulk(FakeEngine):
    """Answers only what a person waits for."""

    async def generate(self, request: GenerateRequest) -> Finished:
        if not request.interactive:
            self.requests.append(request)
            await asyncio.Event().wait()
        return await super().generate(request)


class LoadingEngine(FakeEngine):
    """Loads until it is told that it is ready."""

    def __init__(self) -> None:
        super().__init__(ANSWER, ready=False)
        self.num_waiting_for_it = 0
        """Requests; not what looks after the engine, which waits a few seconds at a time."""

    async def wait_ready(self, timeout_s: float) -> Ready:
        if timeout_s <= WATCH_S:
            return await super().wait_ready(timeout_s)
        self.num_waiting_for_it += 1
        try:
            return await super().wait_ready(timeout_s)
        finally:
            self.num_waiting_for_it -= 1


READY_STATUS = EngineStatus("ready", "ready", 1.0, READY)


def test_health_and_setup_answer_while_the_model_loads(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(ANSWER, ready=False)) as server:
        health = server.client.get("/health")
        assert health.status_code == 200
        assert health.json() == {
            "status": "UP",
            "model": {
                "state": "loading",
                "stage": "weights",
                "progress": 0.25,
                "stage_left_s": None,
                "bytes_per_s": 0,
            },
            "work": {"waiting": 0, "delivery": "reply"},
            "language": "zh",
        }
        setup = server.client.post("/setup", json=setup_body())
        assert setup.status_code == 200
        assert setup.json()["model_version"]
        assert setup.json()["model"]["state"] == "loading"


def test_the_version_is_the_same_before_and_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        until((tmp_path / "model.json").exists)
        before = server.client.post("/setup", json=setup_body()).json()["model_version"]
    with serving(tmp_path, FakeEngine(ANSWER, ready=False)) as server:
        assert server.client.post("/setup", json=setup_body()).json()["model_version"] == before


def test_another_model_setting_forgets_the_remembered_name(tmp_path: Path) -> None:
    with serving(tmp_path):
        until((tmp_path / "model.json").exists)
    with serving(tmp_path, FakeEngine(ANSWER, ready=False), model="org/Some-Model") as server:
        version = server.client.post("/setup", json=setup_body()).json()["model_version"]
        assert version.startswith("some-model-loading-")


def test_predict_waits_for_a_model_that_becomes_ready_in_time(tmp_path: Path) -> None:
    engine = LoadingEngine()
    with serving(tmp_path, engine) as server, ThreadPoolExecutor(1) as beside:
        asking = beside.submit(server.predict, task())
        until(lambda: engine.num_waiting_for_it == 1)
        engine.status = READY_STATUS
        assert asking.result().json()["results"][0]["result"]


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_predict_is_503_with_retry_after_when_the_model_is_not_ready_in_time(tmp_path: Path, num_tasks: int) -> None:
    engine = LoadingEngine()
    with serving(tmp_path, engine) as server:
        reply = server.predict_late(*(task(n) for n in range(num_tasks)), when=lambda: engine.num_waiting_for_it)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_not_ready")
        assert int(reply.headers["retry-after"]) >= 1
        assert server.images.fetched == []


def test_a_model_that_cannot_be_loaded_is_told_everywhere(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, ready=False)
    engine.status = EngineStatus("failed", message="the folder holds no model")
    with serving(tmp_path, engine) as server:
        health = server.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "DOWN")
        assert health.json()["model"]["message"] == "the folder holds no model"
        assert server.client.get("/livez").status_code == 200
        assert server.predict(task()).status_code == 503


def test_an_engine_that_dies_on_every_task_leaves_them_eligible(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = EngineDead("the engine process ended")
    with serving(tmp_path, engine) as server:
        reply = server.predict(task(1), task(2))
        assert reply.json() == {"results": [[], []]}
        engine.failure = None
        assert server.predict(task(1)).json()["results"][0]["result"]


def test_a_busy_engine_is_asked_again_until_it_has_room(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = EngineBusy("512 requests are waiting already")
    with serving(tmp_path, engine) as server, ThreadPoolExecutor(1) as beside:
        asking = beside.submit(server.predict, task(1))
        until(lambda: len(engine.requests) >= 2)
        engine.failure = None
        assert asking.result().json()["results"][0]["result"]


@pytest.mark.parametrize("state", ["restarting", "loading"])
def test_tasks_are_taken_while_a_known_model_is_started_again(
    tmp_path: Path, state: Literal["restarting", "loading"]
) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        assert server.predict(task(1)).json()["results"][0]["result"]
        until((tmp_path / "model.json").exists)
        engine.status = EngineStatus(state)
        late = server.predict_late(task(2), task(3), when=lambda: states(tmp_path).get("queued") == 2)
        assert late.json()["results"] == [[], []]
        until(lambda: server.client.get("/health").json()["work"]["waiting"] == 2)
        engine.status = READY_STATUS
        until(lambda: server.client.get("/health").json()["work"]["waiting"] == 0)
        assert len(engine.requests) == 3


def test_a_model_that_cannot_be_started_again_takes_no_tasks(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        until((tmp_path / "model.json").exists)
        engine.status = EngineStatus("failed", message="it died six times")
        assert server.predict(task(1), task(2)).status_code == 503
        assert server.client.get("/health").json()["work"]["waiting"] == 0


def test_health_tells_that_the_engine_was_restarted_and_why(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        assert "restarts" not in server.client.get("/health").json()["model"]
        engine.status = EngineStatus("restarting", message="the engine process ended with exit code 70", num_restarts=2)
        model = server.client.get("/health").json()["model"]
        assert (model["state"], model["restarts"]) == ("restarting", 2)
        assert "exit code 70" in model["message"]
        assert server.metric("prelabel_engine_restarts") == 2
        engine.status = EngineStatus("ready", num_restarts=2, ended="the engine process ended with exit code 70")
        assert "exit code 70" in server.client.get("/health").json()["model"]["ended"]


def test_metrics_tell_what_the_engine_has_done(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        stats = Stats(num_prefills=3, num_steps=40, num_put_back=5, num_kv_tokens=320, prefill_s=0.5, decode_s=2.0)
        engine.status = replace(engine.status, stats=stats)
        assert server.metric("prelabel_engine_prefills") == 3
        assert server.metric("prelabel_engine_steps") == 40
        assert server.metric("prelabel_engine_put_back") == 5
        assert server.metric("prelabel_engine_kv_tokens", state="used") == 320
        assert server.metric("prelabel_engine_device_seconds", phase="prefill") == 0.5


def test_a_person_who_leaves_cancels_what_the_store_does_not_keep(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        with server.asked(predict_body(task(1), context={"result": []})):
            until(lambda: engine.num_asked == 1)
        until(lambda: engine.num_cancelled == 1)
        engine.open()
        assert server.predict(task(1)).json()["results"][0]["result"]


def test_many_people_who_leave_free_every_place(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, max_requests=20, max_slots=1) as server:
        with ExitStack() as clients:
            for number in range(60):
                clients.enter_context(server.asked(predict_body(task(number), context={"result": []})))
            until(lambda: engine.num_asked == 2 + 8)
            until(lambda: server.metric("prelabel_requests_total", route="/predict", status="503") == 40)
        until(lambda: server.num_left == 20)
        until(lambda: engine.num_cancelled == engine.num_asked, "the end of what they asked for")
        engine.open()
        assert server.predict(task(1)).status_code == 200


def test_too_many_requests_at_once_are_503_at_once(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, max_requests=1) as server, server.asked(predict_body(task(1))):
        until(lambda: engine.num_asked == 1)
        reply = server.predict(task(2))
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_busy")
        assert reply.headers["retry-after"]


def test_a_person_is_served_while_bulk_work_holds_every_bulk_place(tmp_path: Path) -> None:
    engine = HoldsBulk(ANSWER)
    with serving(tmp_path, engine, max_slots=1) as server, server.asked(predict_body(*(task(n) for n in range(8)))):
        until(lambda: states(tmp_path) == {"running": 2, "queued": 6} and len(engine.requests) == 2)
        assert server.predict(task(99)).json()["results"][0]["result"]
        assert states(tmp_path) == {"running": 2, "queued": 6, "returned": 1}


def test_health_is_down_once_the_engine_is_stopped(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        engine.status = replace(engine.status, state="stopped")
        assert server.client.get("/health").status_code == 503
