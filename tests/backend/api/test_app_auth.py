"""With a password set, everything but /livez needs it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import httpx
import pytest

from tests.backend.serving import Server, predict_body, serving, setup_body, task

PASSWORD = "pässwörd"
ROUTES = [
    ("GET", "/health"), ("GET", "/metrics"), ("GET", "/versions"), ("POST", "/setup"), ("POST", "/predict"),
    ("POST", "/webhook"), ("POST", "/trial"), ("GET", "/nowhere"), ("DELETE", "/health"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    with serving(folder, host="0.0.0.0", basic_auth_user="prelabel", basic_auth_pass=PASSWORD) as running:
        yield running


def basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_credentials_every_page_is_401(server: Server, method: str, path: str) -> None:
    reply = server.client.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Basic ")
    assert PASSWORD not in reply.text


@pytest.mark.parametrize(("method", "path"), [("GET", "eyJ-" * 12_000), ("eyJ-" * 12_000, "")], ids=["path", "method"])
def test_who_has_no_password_fills_no_log(
    server: Server, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "backend")
    assert server.client.request(method, f"/{path}").status_code == 401
    assert 0 < len(caplog.messages) == len([said for said in caplog.messages if len(said) < 500])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_the_right_password_opens_every_page(server: Server, encoding: str) -> None:
    headers = {"authorization": basic(f"prelabel:{PASSWORD}".encode(encoding))}
    ask = httpx.Client(base_url=server.url, headers=headers, trust_env=False)
    with ask:
        assert ask.get("/health").status_code == 200
        assert ask.get("/metrics").status_code == 200
        assert ask.post("/setup", json=setup_body()).status_code == 200
        assert ask.post("/predict", json=predict_body(task())).status_code == 200
        assert ask.post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": 1}}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(basic(b"prelabel:wrong"), id="wrong password"),
        pytest.param(basic(b"someone:p\xc3\xa4ssw\xc3\xb6rd"), id="wrong user"),
        pytest.param(basic("prelabel:密码".encode()), id="non-ASCII password"),
        pytest.param(basic(b"\xff\xfe\x00:\x00"), id="bytes that are no text"),
        pytest.param(basic(b"prelabel"), id="no colon"),
        pytest.param(basic(b":"), id="empty user and password"),
        pytest.param("Basic", id="nothing encoded"),
        pytest.param("Basic !!!!", id="no base64"),
        pytest.param("Bearer abcdef", id="another scheme"),
        pytest.param("Basic " + "A" * 10_000, id="10 KB header"),
    ],
)
def test_wrong_credentials_are_401(server: Server, header: str) -> None:
    assert server.client.get("/health", headers={"authorization": header}).status_code == 401


def test_two_authorization_headers_are_401(server: Server) -> None:
    good = basic(f"prelabel:{PASSWORD}".encode())
    reply = server.client.get("/health", headers=[("authorization", good), ("authorization", good)])
    assert reply.status_code == 401


def test_livez_is_open_and_says_nothing(server: Server) -> None:
    reply = server.client.get("/livez")
    assert (reply.status_code, reply.text) == (200, "ok\n")


def test_without_credentials_the_body_is_not_even_read(server: Server) -> None:
    reply = server.raw(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 401")


def test_a_webhook_without_credentials_changes_nothing(server: Server) -> None:
    hook = {"action": "PROJECT_UPDATED", "project": {"id": 12}}
    assert server.client.post("/webhook", json=hook).status_code == 401
