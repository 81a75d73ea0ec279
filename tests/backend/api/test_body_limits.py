"""What one body may hold, and all bodies at once: a hostile one is refused, the others are served."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from backend.api.bodies import BYTES_PER_VALUE, MIN_VALUES, BodyLimits
from backend.api.parser import MODERATE_BYTES
from tests.backend.serving import NEVER_S, Server, predict_body, read_all, serving, task
from tests.limits import WAIT_S, until

MAX_BYTES = MIN_VALUES * BYTES_PER_VALUE
LIMITS = BodyLimits(MAX_BYTES, read_s=NEVER_S, moderate_bytes=900_000, parse_s=NEVER_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data"), body_limits=LIMITS) as running:
        running.predict(task(1, note="x" * 80_000))  # it starts the process that reads such bodies
        yield running


@contextmanager
def half_a_body(server: Server, declared: int, sent: bytes) -> Iterator[socket.socket]:
    """A client that sends no more than this, and waits."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % declared + sent)
        yield connection


@pytest.mark.parametrize("item", [b"[],", b"{},", b"1,", b'"",', b'{"a":1}', b'"k":1,', b'"[{,",', b"[", b'{"":'])
def test_a_body_of_too_many_values_is_refused_before_it_is_whole(server: Server, item: bytes) -> None:
    sent = item * (MIN_VALUES + 1)
    with half_a_body(server, len(sent) + 1, sent) as connection:
        reply = read_all(connection)
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"more than 65,536 values" in reply
    assert b"PRELABEL_MAX_BODY_BYTES" in reply


@pytest.mark.parametrize("limit", [1024, 128 * 2**20, 2**30])
def test_no_body_of_label_studio_is_near_the_limit_of_values(limit: int) -> None:
    region = {
        "id": "5d14c86413", "type": "polygonlabels", "from_name": "shape", "to_name": "image", "original_width": 800,
        "value": {"points": [[12.345678901234, 56.789012345678]] * 50, "polygonlabels": ["Dress"]},
    }  # fmt: skip
    lean, rich = task(1), task(1) | {"annotations": [{"id": 1, "result": [region] * 5}]}
    for one in (lean, rich):
        text = json.dumps(one)
        num_tasks = limit // len(text)
        assert num_tasks * sum(text.count(sign) for sign in ",[{") < BodyLimits(limit).max_values


def test_half_bodies_that_hold_too_much_give_way_to_a_smaller_one(server: Server) -> None:
    busy = server.metric("prelabel_requests_total", route="/predict", status="503")
    with ExitStack() as clients:
        halves = [clients.enter_context(half_a_body(server, 500_000, b" " * 270_000)) for _ in range(8)]
        until(lambda: server.metric("prelabel_requests_total", route="/predict", status="503") >= busy + 5)
        assert server.predict(task(1, note="x" * 80_000)).status_code == 200
        replies = [read_all(halves[n]) for n in range(8) if is_answered(halves[n])]
    assert 5 <= len(replies) <= 6
    assert all(reply.startswith(b"HTTP/1.1 503") and b"Several large requests" in reply for reply in replies)


def is_answered(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(WAIT_S)


def test_large_half_bodies_take_no_room_of_moderate_ones(tmp_path: Path) -> None:
    limits = BodyLimits(2 * MODERATE_BYTES, read_s=NEVER_S, moderate_bytes=10_000, large_bodies=1, parse_s=NEVER_S)
    with serving(tmp_path, body_limits=limits) as server, ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(half_a_body(server, MODERATE_BYTES + 1, b" " * MODERATE_BYTES))
        until(lambda: server.metric("prelabel_requests_total", route="/predict", status="503") == 1)
        assert server.predict(task(1)).status_code == 200


def test_half_a_body_holds_no_place_of_a_request(tmp_path: Path) -> None:
    with serving(tmp_path, max_requests=1) as server, ExitStack() as clients:
        for _ in range(64):
            clients.enter_context(half_a_body(server, 1_000, b"{"))
        assert server.client.post("/predict", json=predict_body(task(1))).status_code == 200
