"""No reply is kept by a browser or a proxy, and none is taken for something else than it says it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.backend.serving import Server, predict_body, serving, setup_body, task


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[dict[str, Server]]:
    folder: Path = tmp_path_factory.mktemp("data")
    with ExitStack() as opened:
        yield {
            "no password": opened.enter_context(serving(folder / "open")),
            "password": opened.enter_context(serving(folder / "closed", basic_auth_pass="correct horse")),
        }


@pytest.mark.parametrize(
    ("which", "method", "path", "status"),
    [
        ("no password", "GET", "/livez", 200),
        ("no password", "GET", "/health", 200),
        ("no password", "GET", "/metrics", 200),
        ("no password", "GET", "/versions", 200),
        ("no password", "GET", "/status", 200),
        ("no password", "GET", "/status.json", 200),
        ("no password", "HEAD", "/status", 200),
        ("no password", "POST", "/setup", 200),
        ("no password", "POST", "/predict", 200),
        ("no password", "POST", "/webhook", 400),
        ("no password", "POST", "/status/retry", 403),
        ("no password", "GET", "/nowhere", 404),
        ("no password", "GET", "/predict", 405),
        ("password", "GET", "/livez", 200),
        ("password", "GET", "/metrics", 401),
        ("password", "GET", "/nowhere", 401),
    ],
)
def test_every_reply_has_both_headers_once(
    servers: dict[str, Server], which: str, method: str, path: str, status: int
) -> None:
    bodies = {"/setup": setup_body(), "/predict": predict_body(task())}
    reply = servers[which].client.request(method, path, json=bodies.get(path))
    assert reply.status_code == status
    assert reply.headers.get_list("cache-control") == ["no-store"]
    assert reply.headers.get_list("x-content-type-options") == ["nosniff"]
