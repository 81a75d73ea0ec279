"""Hostile request bodies, at random: each ends in a refusal or a closed connection, never in a 500, and somebody
else's request is served beside them."""

from __future__ import annotations

import gzip
import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.backend.serving import Server, predict_body, read_all, serving, task
from tests.limits import WAIT_S, seeds

NUM_CLIENTS = 8
MAX_BYTES = 600_000
ITEMS = (b"[],", b"{},", b'{"a":1},', b"[[1]],", b"1.5,", b'"ab",', b'"\\u0000",', b'"\\ud800",', b"-", b"\xff", b"\0")
WHOLE: tuple[Callable[[int], bytes], ...] = (
    lambda size: b'{"a":' * (size // 5),
    lambda size: b"[" * size,
    lambda size: b'{"tasks":"' + b"x" * size + b'\xff"}',
    lambda size: b'{"tasks":"' + b"\\u0000" * (size // 6) + b'"}',
    lambda size: b'{"tasks":[' + b"9" * size + b"]}",
    lambda size: b'{"tasks":[1.' + b"9" * size + b"e9999]}",
    lambda size: b'{"tasks":[{"id":1,"data":{' + b",".join(b'"%d":""' % n for n in range(size // 12)) + b"}}]}",
    lambda size: b"{" + b'"tasks":[],' * (size // 11) + b'"tasks":{}}',
    lambda size: json.dumps(predict_body(*(task(n * (2**61 - 1)) for n in range(1, size // 300 + 9)))).encode(),
    lambda size: gzip.compress(b" " * size),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data")) as running:
        running.predict(task(0, note="x" * 50_000))  # it starts the process that reads such bodies
        running.predict(task(0, note="{" * 20_000))  # and that for those that count as long
        yield running


def hostile(chance: random.Random) -> tuple[bytes, bool]:
    """A request as bytes, and whether all of it is sent."""
    size = int(10 ** chance.uniform(1, 5.7))
    item = chance.choice(ITEMS)
    many = b'{"tasks":[' + item * (size // len(item)) + b"1]}"
    body = chance.choice([*(make(size) for make in WHOLE), many])
    head = b"POST /%b HTTP/1.1\r\nHost: localhost\r\n" % chance.choice([b"predict", b"setup", b"webhook"])
    if chance.random() < 0.3:
        piece = chance.choice([1, 7, 1_000])
        pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*pieces, b""])
        return head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks, True
    whole = chance.random() < 0.7
    declared = len(body) + (0 if whole else chance.choice([1, 10_000, MAX_BYTES, 100 * 2**20]))
    return head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % declared + body, whole


@pytest.mark.parametrize("seed", seeds(1, 30))
def test_hostile_bodies_are_refused_and_others_served(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    with ExitStack() as clients:
        answered = []
        for _ in range(NUM_CLIENTS):
            connection = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            request, whole = hostile(chance)
            try:
                connection.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                continue  # refused in the middle of it
            if whole:
                answered.append(connection)
        assert server.predict(task(seed + 1, note="x" * 50_000)).json()["results"][0]["result"]
        assert server.client.get("/health").status_code == 200
        for connection in answered:
            reply = read_all(connection)
            assert not reply or 400 <= int(reply.split(b" ", 2)[1]) < 500, reply[:500]
