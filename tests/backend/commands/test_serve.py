"""`prelabel serve` as a process of its own, with a fake engine: what it prints, and how it ends."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.commands import serve
from backend.engine.api import Engine
from backend.errors import SettingsError, StoreUnusable
from backend.settings import Settings, load_settings
from backend.store.serving import open_store
from tests.backend.served import Running, address, run_program
from tests.backend.serving import predict_body, serving, task
from tests.limits import WAIT_S

PROGRAM = """
import sys
from backend.commands import serve
from backend.engine.api import EngineStatus
from backend.settings import load_settings
from tests.limits import WAIT_S
from tests.backend.serving import ANSWER
from tests.fakes import READY, FakeEngine, FakeImages

class Loud(list):
    def append(self, request):
        print("a request is under way", flush=True)

class Loads(FakeEngine):
    async def start(self):
        self.status = EngineStatus("ready", "ready", 1.0, READY)

engine = Loads(ANSWER, ready=False, delay_s=float(sys.argv[2]))
engine.requests = Loud()
settings = load_settings({"data_dir": sys.argv[1], "port": 0, "stop_s": 600, "predict_deadline_s": 95})
sys.exit(serve.serve(settings, lambda settings: engine, lambda settings: FakeImages()))
"""


def running(folder: Path, delay_s: float) -> AbstractContextManager[Running]:
    return run_program(PROGRAM, str(folder), str(delay_s))


def test_it_says_where_it_listens_and_what_it_loads_and_finishes_a_request_before_it_ends(tmp_path: Path) -> None:
    with running(tmp_path, delay_s=1) as server, ThreadPoolExecutor(1) as beside:
        listening = address(server.wait_for("Listening on"))
        ready = server.wait_for("Model loaded successfully! API on")
        assert address(ready) == listening
        assert httpx.get(listening + "/health", trust_env=False, timeout=WAIT_S).json()["status"] == "UP"
        body = predict_body(task())
        asking = beside.submit(httpx.post, listening + "/predict", json=body, trust_env=False, timeout=WAIT_S)
        server.wait_for("a request is under way")
        server.process.send_signal(signal.SIGINT)
        assert asking.result().json()["results"][0]["result"]
        assert server.end() == 0
        assert server.output.index("25% weights") < server.output.index("Model loaded")
        assert "Traceback" not in server.output


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, delay_s=10_000) as server:
        url = address(server.wait_for("Model loaded successfully!"))
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            body = httpx.Request("POST", url, json=predict_body(task())).content
            client.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            server.wait_for("a request is under way")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Shutting down")
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 0
    with open_store(tmp_path, 0) as store:
        assert [(work.task_id, work.attempts) for work in store.claim(9, 0)] == [(1, 2)], "it is taken up again"


@pytest.mark.usefixtures("own_logging")
def test_a_port_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = load_settings({"data_dir": tmp_path, "port": taken.getsockname()[1]})
        with pytest.raises(SettingsError, match=r"^127.0.0.1:\d+ cannot be .* Choose another PRELABEL_PORT"):
            serve.serve(settings)


@pytest.mark.usefixtures("own_logging")
def test_a_model_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path / "data", "model": "garment"})
    with pytest.raises(SettingsError, match=r"^PRELABEL_MODEL=garment .* Did you mean garments\?$"):
        serve.serve(settings)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("own_logging")
def test_a_folder_that_another_prelabel_serves_is_refused_in_one_line(tmp_path: Path) -> None:
    with serving(tmp_path), pytest.raises(StoreUnusable, match="is served by another prelabel"):
        serve.serve(load_settings({"data_dir": tmp_path, "port": 0}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu-box"])
def test_listening_on_a_reachable_address_needs_a_password(tmp_path: Path, host: str) -> None:
    settings = load_settings({"data_dir": tmp_path, "host": host})
    with pytest.raises(SettingsError, match=f"^PRELABEL_HOST={host} .* Set BASIC_AUTH_PASS"):
        serve.serve(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "gpu-box"])
def test_on_a_reachable_address_a_password_that_is_soon_guessed_is_refused(tmp_path: Path, host: str) -> None:
    settings = load_settings({"data_dir": tmp_path, "host": host, "basic_auth_pass": "geheim"})
    with pytest.raises(SettingsError, match=f"^PRELABEL_HOST={host} can be .* BASIC_AUTH_PASS is soon guessed: .* 8 "):
        serve.serve(settings)


class Asked(Exception):
    """Stands for everything after the check."""


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    "given",
    [
        {"host": "127.0.0.1"},
        {"host": "127.0.0.2"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "basic_auth_pass": "correct horse"},
        {"host": "gpu-box", "allow_no_auth": True},
        {"host": "127.0.0.1", "basic_auth_pass": "geheim"},
        {"host": "0.0.0.0", "basic_auth_pass": "geheim", "allow_no_auth": True},
    ],
    ids=[
        "loopback",
        "another loopback",
        "loopback of IPv6",
        "localhost",
        "a password",
        "switched off",
        "a short password on loopback",
        "a short one where none is needed",
    ],
)
def test_listening_elsewhere_or_with_a_password_is_allowed(
    tmp_path: Path, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def make_engine(settings: Settings) -> Engine:
        raise Asked

    with pytest.raises(Asked):
        serve.serve(load_settings({"data_dir": tmp_path} | given), make_engine)
    assert ("WARNING" in capsys.readouterr().err) == (given.get("basic_auth_pass") == "geheim")
