"""Clients that hold connections, against `prelabel serve` with few files to open: others are served all the while."""

from __future__ import annotations

import os
import random
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.backend.served import Served, served
from tests.backend.serving import read_all, task
from tests.limits import WAIT_S, examples, seeds, until

pytestmark = pytest.mark.slow

MAX_FILES = 256
NUM_CONNECTIONS = examples(400, 4_000)
HELD = {
    "nothing": b"",
    "half a head": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ",
    "half a body": b"POST /setup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    "a body that nobody reads": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    "replies that it does not take": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, max_files=MAX_FILES) as running:
        yield running


def livez(server: Served) -> bytes:
    """As a health check asks: on a connection of its own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return read_all(connection)


@pytest.mark.parametrize("seed", seeds(1, 10))
def test_held_connections_keep_nobody_else_out_and_fill_no_log(server: Served, seed: int) -> None:
    chosen = random.Random(seed)
    lines = len(server.lines)
    with ExitStack() as opened:
        for number in range(NUM_CONNECTIONS):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            with suppress(OSError):  # cut already
                connection.sendall(HELD[chosen.choice(list(HELD))])
            if number % 50 == 49:
                assert livez(server).endswith(b"ok\n")
                assert server.client.get("/health").status_code == 200
                assert server.predict(task(number)).json()["results"][0]["result"]
        server.wait_for("more than 128 connections: those that wait longest for their client are closed")
        assert psutil.Process(server.process.pid).num_fds() < MAX_FILES
    new = "".join(server.lines[lines:])
    assert new.count("more than 128 connections") == 1
    assert "ERROR" not in new
    assert "Traceback" not in new


def test_files_that_run_out_all_the_same_are_said_once_and_those_who_wait_are_served_when_there_are_some(
    server: Served,
) -> None:
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    opened = {int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")}
    lowest_free = min(set(range(MAX_FILES)) - opened)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        server.wait_for("no connection can be accepted, as many files are open as ulimit -n allows")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        assert read_all(connection).endswith(b"ok\n")
    until(lambda: livez(server).endswith(b"ok\n"))
    assert server.output.count("no connection can be accepted") == 1
    assert "Traceback" not in server.output
