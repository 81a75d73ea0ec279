"""`prelabel serve` as a process of its own, with a fake engine: what it prints, and how it ends."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from backend.commands import serve
from backend.errors import SettingsError, StoreUnusable
from backend.keeping import FILE_NAME, open_store
from backend.settings import load_settings
from backend.store import Store
from tests.backend.served import Running, address, run_program
from tests.backend.serving import predict_body, serving, task
from tests.fakes import FakeEngine, FakeImages

PROGRAM = """
import sys, threading
from backend.commands import serve
from backend.engine.api import EngineStatus
from backend.settings import load_settings
from tests.backend.serving import ANSWER
from tests.fakes import READY, FakeEngine, FakeImages

class Loud(list):
    def append(self, request):
        print("a request is under way", flush=True)

class Slow(FakeEngine):
    async def start(self):
        threading.Timer(0.8, setattr, (self, "status", EngineStatus("ready", "ready", 1.0, READY))).start()

engine = Slow(ANSWER, ready=False, delay_s=float(sys.argv[2]))
engine.requests = Loud()
serve.build_engine = lambda settings: engine
serve.build_images = lambda settings: FakeImages()
settings = load_settings({"data_dir": sys.argv[1], "port": 0})
sys.exit(serve.serve(settings))
"""


def running(folder: Path, delay_s: float = 0) -> AbstractContextManager[Running]:
    return run_program(PROGRAM, str(folder), str(delay_s))


def test_it_says_where_it_listens_what_it_loads_and_when_it_is_ready(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        listening = address(server.wait_for("Listening on"))
        ready = server.wait_for("Model loaded successfully! API on")
        assert address(ready) == listening
        assert httpx.get(listening + "/health", trust_env=False).json()["status"] == "UP"
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 0
        output = "".join(server.lines)
        assert output.index("Loading the model: weights 25%") < output.index("Model loaded")
        assert "Traceback" not in output


def test_a_request_under_way_is_finished_before_it_ends(tmp_path: Path) -> None:
    with running(tmp_path, delay_s=1) as server:
        url = address(server.wait_for("Model loaded successfully!"))
        replies: list[httpx.Response] = []
        body = predict_body(task())
        asking = threading.Thread(
            target=lambda: replies.append(httpx.post(url + "/predict", json=body, trust_env=False))
        )
        asking.start()
        server.wait_for("a request is under way")
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert server.end() == 0
        assert replies[0].json()["results"][0]["result"]


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, delay_s=600) as server:
        url = address(server.wait_for("Model loaded successfully!"))
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            body = httpx.Request("POST", url, json=predict_body(task())).content
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            server.wait_for("a request is under way")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Shutting down")
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 0
    with open_store(tmp_path, 0) as store:
        assert [(work.task_id, work.attempts) for work in store.claim(9, 0)] == [(1, 2)], "it is taken up again"


def test_a_port_in_use_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "build_engine", lambda settings: FakeEngine({}))
    monkeypatch.setattr(serve, "build_images", lambda settings: FakeImages())
    monkeypatch.setattr(serve, "configure_logging", lambda level: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = load_settings({"data_dir": tmp_path, "port": taken.getsockname()[1]})
        with pytest.raises(SettingsError, match=r"^Cannot listen on .* Choose another PRELABEL_PORT"):
            serve.serve(settings)


def test_work_that_does_not_end_in_time_is_queued_again_and_the_process_ends(tmp_path: Path) -> None:
    with running(tmp_path, delay_s=600) as server:
        url = address(server.wait_for("Model loaded successfully!"))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + "/predict", json=predict_body(task(1), task(2)), trust_env=False, timeout=0.5)
        server.wait_for("a request is under way")
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert "Traceback" not in "".join(server.lines)
    with Store.open(tmp_path / FILE_NAME, 0) as store:
        works = store.claim(9, 0)
        assert [(work.task_id, work.attempts) for work in works] == [(1, 1), (2, 1)]


def test_a_folder_that_another_prelabel_serves_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "build_engine", lambda settings: FakeEngine({}))
    monkeypatch.setattr(serve, "build_images", lambda settings: FakeImages())
    monkeypatch.setattr(serve, "configure_logging", lambda level: None)
    with serving(tmp_path), pytest.raises(StoreUnusable, match="is served by another prelabel"):
        serve.serve(load_settings({"data_dir": tmp_path, "port": 0}))
