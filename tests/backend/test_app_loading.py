"""What people see while the model loads, fails to load, or is started again; and the deadline of /predict."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

import httpx
import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Stats
from backend.errors import EngineBusy, EngineDead
from tests.backend.serving import ANSWER, predict_body, serving, setup_body, task
from tests.fakes import READY, FakeEngine
from tests.limits import until

READY_STATUS = EngineStatus("ready", "ready", 1.0, READY)


def test_health_and_setup_answer_while_the_model_loads(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(ANSWER, ready=False)) as server:
        health = server.client.get("/health")
        assert health.status_code == 200
        assert health.json() == {
            "status": "UP",
            "model": {"state": "loading", "stage": "weights", "progress": 0.25},
            "work": {"waiting": 0, "delivery": "reply"},
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
    engine = FakeEngine(ANSWER, ready=False)
    with serving(tmp_path, engine) as server:
        timer = threading.Timer(0.2, setattr, (engine, "status", READY_STATUS))
        timer.start()
        assert server.predict(task()).json()["results"][0]["result"]
        timer.join()


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_predict_is_503_with_retry_after_when_the_model_is_not_ready_in_time(tmp_path: Path, num_tasks: int) -> None:
    with serving(tmp_path, FakeEngine(ANSWER, ready=False), predict_deadline_s=0.2) as server:
        reply = server.predict(*(task(n) for n in range(num_tasks)))
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


def test_at_the_deadline_the_finished_tasks_are_returned_and_the_rest_goes_on(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, delay_s=0.15)
    with serving(tmp_path, engine, max_slots=1, predict_deadline_s=0.5) as server:
        results = server.predict(*(task(n) for n in range(20))).json()["results"]
        assert len(results) == 20
        assert results[0]["result"]
        assert results[-1] == []
        assert all(result == [] or result["result"] for result in results)
        late = server.metric("prelabel_task_failures_total", reason="deadline")
        assert late == results.count([])
        until(lambda: server.client.get("/health").json()["work"]["waiting"] == 0)
        assert (len(engine.requests), engine.num_cancelled) == (20, 0)


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
    with serving(tmp_path, engine) as server:
        timer = threading.Timer(0.3, setattr, (engine, "failure", None))
        timer.start()
        assert server.predict(task(1)).json()["results"][0]["result"]
        timer.join()


@pytest.mark.parametrize("state", ["restarting", "loading"])
def test_tasks_are_taken_while_a_known_model_is_started_again(
    tmp_path: Path, state: Literal["restarting", "loading"]
) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine, predict_deadline_s=0.3) as server:
        assert server.predict(task(1)).json()["results"][0]["result"]
        until((tmp_path / "model.json").exists)
        engine.status = EngineStatus(state)
        assert server.predict(task(2), task(3)).json()["results"] == [[], []]
        until(lambda: server.client.get("/health").json()["work"]["waiting"] == 2)
        engine.status = READY_STATUS
        until(lambda: server.client.get("/health").json()["work"]["waiting"] == 0)
        assert len(engine.requests) == 3


def test_a_model_that_cannot_be_started_again_takes_no_tasks(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine, predict_deadline_s=0.3) as server:
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


def test_metrics_tell_what_the_engine_has_done(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        engine.status = replace(engine.status, stats=Stats(num_prefills=3, num_steps=40, prefill_s=0.5, decode_s=2.0))
        assert server.metric("prelabel_engine_prefills") == 3
        assert server.metric("prelabel_engine_steps") == 40
        assert server.metric("prelabel_engine_device_seconds", phase="prefill") == 0.5


def test_a_person_who_leaves_cancels_what_the_store_does_not_keep(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, delay_s=30)
    with serving(tmp_path, engine) as server:
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/predict", json=predict_body(task(1), context={"result": []}), timeout=0.3)
        until(lambda: engine.num_cancelled == 1)
        engine.delay_s = 0
        assert server.predict(task(1)).json()["results"][0]["result"]


def test_many_people_who_leave_free_every_place(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, delay_s=30)
    with serving(tmp_path, engine, max_requests=20) as server:
        body = httpx.Request("POST", server.url, json=predict_body(task(1), context={"result": []})).content
        request = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        for client in clients:
            client.sendall(request)
        until(lambda: engine.requests)
        for client in clients:
            client.close()
        until(lambda: engine.num_cancelled == len(engine.requests))
        engine.delay_s = 0
        until(lambda: server.predict(task(1)).status_code == 200)


def test_too_many_requests_at_once_are_503_at_once(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, delay_s=1)
    with serving(tmp_path, engine, max_requests=1) as server:
        first = threading.Thread(target=server.predict, args=(task(1),))
        first.start()
        until(lambda: engine.requests)
        reply = httpx.post(server.url + "/predict", json=predict_body(task(2)), trust_env=False)
        first.join()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_busy")
        assert reply.headers["retry-after"]


def test_a_person_is_served_while_bulk_work_holds_every_bulk_place(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER, delay_s=0.5)
    with serving(tmp_path, engine, max_slots=1, predict_deadline_s=2) as server:
        bulk = threading.Thread(target=server.predict, args=tuple(task(n) for n in range(8)))
        bulk.start()
        until(lambda: len(engine.requests) == 2)
        server_2 = httpx.post(server.url + "/predict", json=predict_body(task(99)), trust_env=False)
        assert server_2.json()["results"][0]["result"]
        assert len(engine.requests) < 8
        bulk.join()


def test_health_is_down_once_the_engine_is_stopped(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        engine.status = replace(engine.status, state="stopped")
        assert server.client.get("/health").status_code == 503
