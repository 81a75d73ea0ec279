"""A page of another site whose name leads to this machine, against `prelabel serve` without a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.backend.served import Served, served, states
from tests.backend.serving import predict_body, setup_body, task

pytestmark = pytest.mark.slow

NAMES = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "prelabel",
    "prelabel.internal",
    "10.0.0.7",
]
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/status", {}),
    ("GET", "/status.json", {}),
    ("GET", "/health", {}),
    ("GET", "/metrics", {}),
    ("GET", "/versions", {}),
    ("GET", "/nowhere", {}),
    ("POST", "/setup", {"json": setup_body()}),
    ("POST", "/predict", {"json": predict_body(task())}),
    ("POST", "/webhook", {"json": {"action": "PROJECT_UPDATED"}}),
    ("POST", "/trial", {"json": {"label_config": "<View/>", "options": {}}}),
    ("POST", "/status/retry", {"data": {"project": "12.1700000000", "token": "x"}}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("server"), allowed_hosts="prelabel.example.com") as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_nothing_and_changes_nothing(server: Served, name: str) -> None:
    host = f"{name}:{server.port}"
    for method, path, sent in ASKED:
        for as_browsers_do in ({"Origin": f"http://{host}"}, {"Sec-Fetch-Site": "same-origin"}):
            reply = server.client.request(method, path, headers={"Host": host, **as_browsers_do}, **sent)
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden"), (method, path)
            assert "PRELABEL_ALLOWED_HOSTS" in reply.text
    assert not server.num_answered()
    assert not states(server.data_dir)
    server.wait_for(f'called "{host}", and it has no password. Set BASIC_AUTH_PASS')


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "prelabel.example.com"])
def test_its_own_names_go_on_working(server: Served, name: str) -> None:
    host = f"{name}:{server.port}"
    assert server.client.get("/status", headers={"Host": host}).status_code == 200
    reply = server.client.post("/setup", json=setup_body(), headers={"Host": host, "Origin": f"http://{host}"})
    assert reply.status_code == 200


def test_livez_says_only_that_it_lives_to_everybody(server: Served) -> None:
    assert server.client.get("/livez", headers={"Host": "evil.example"}).text == "ok\n"
