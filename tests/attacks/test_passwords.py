"""Guesses at the password of `prelabel serve`, many at once: who has it is served all the while."""

from __future__ import annotations

import base64
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.backend.served import served
from tests.limits import WAIT_S, examples

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"
NUM_GUESSES = examples(100, 1_000)


def test_guesses_keep_nobody_out_who_has_the_password(tmp_path: Path) -> None:
    with served(tmp_path, basic_auth_pass=PASSWORD, max_files=256) as server, ExitStack() as opened:
        for number in range(NUM_GUESSES):
            guess = base64.b64encode(f"prelabel:{number}".encode())
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Basic %b\r\n\r\n" % guess)
            if number % 20 == 19:
                assert server.client.get("/livez").status_code == 200
                right = server.client.get("/health", auth=httpx.BasicAuth("prelabel", PASSWORD))
                assert right.status_code == 200
        assert server.client.get("/health").status_code == 401
        assert PASSWORD not in server.output
        assert "Traceback" not in server.output
