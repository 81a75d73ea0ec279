"""Requests no HTTP library sends: oversized, endless, slow, smuggled. Each ends in a 4xx and a closed connection."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from backend.api.bodies import BodyLimits
from tests.backend.serving import Server, predict_body, read_all, serving, task
from tests.limits import TEST_S, WAIT_S, until

LIMIT = 20_000
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    limits = BodyLimits(LIMIT, read_s=TEST_S)
    with serving(tmp_path_factory.mktemp("data"), body_limits=limits) as running:
        yield running


def status(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply[:100]
    return int(reply.split(b" ", 2)[1])


def code(reply: bytes) -> str:
    return str(json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"])


def sized(num_bytes: int) -> bytes:
    body = json.dumps(predict_body()).encode()
    return body + b" " * (num_bytes - len(body))


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_413(server: Server) -> None:
    assert server.client.post("/predict", content=sized(LIMIT)).status_code == 200
    assert server.client.post("/predict", content=sized(LIMIT + 1)).status_code == 413


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(server: Server) -> None:
    reply = server.raw(HEAD + b"Content-Length: 999999999999\r\n\r\n")
    assert (status(reply), code(reply)) == (413, "payload_too_large")
    assert b"connection: close" in reply.lower()


@pytest.mark.parametrize(
    ("path", "expected"), [("/status/retry", 403), ("/nowhere", 404), ("/status", 405)], ids=["403", "404", "405"]
)
def test_a_client_that_is_still_sending_a_small_body_gets_the_refusal_and_no_reset(
    server: Server, path: str, expected: int
) -> None:
    refused = server.metric("prelabel_requests_total", status=str(expected))
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n" % path.encode())
        until(lambda: server.metric("prelabel_requests_total", status=str(expected)) > refused)
        connection.sendall(b" " * 3_000)
        reply = b"".join(iter(lambda: connection.recv(65_536), b""))  # raises where `read_all` would not
    assert status(reply) == expected
    assert b"connection: close" in reply.lower()


def test_a_small_body_that_never_comes_holds_up_no_refusal(server: Server) -> None:
    reply = server.raw(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n")
    assert status(reply) == 404


def test_a_chunked_body_is_counted_while_it_comes(server: Server) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    reply = server.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 6)
    assert (status(reply), code(reply)) == (413, "payload_too_large")


def test_a_chunked_body_within_the_limit_is_served(server: Server) -> None:
    body = json.dumps(predict_body(task())).encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    reply = server.raw(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunked)
    assert status(reply) == 200


def chunked(body: bytes, num_bytes: int) -> bytes:
    pieces = [body[start : start + num_bytes] for start in range(0, len(body), num_bytes)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


@pytest.mark.parametrize(("body", "num_bytes"), [(json.dumps(predict_body(task())).encode(), 8), (sized(LIMIT), 600)])
def test_a_body_in_small_chunks_is_read(server: Server, body: bytes, num_bytes: int) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert status(server.raw(head + chunked(body, num_bytes))) == 200


@pytest.mark.parametrize("num_bytes", [1, 40])
def test_thousands_of_tiny_chunks_are_refused_by_name(server: Server, num_bytes: int) -> None:
    reply = server.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b" " * 19_000, num_bytes))
    assert status(reply) == 400
    assert b"at least 512 bytes" in reply


def test_tiny_chunks_after_an_answer_end_the_connection(server: Server) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(head)
        assert status(connection.recv(65_536)) == 200
        connection.sendall(b"1\r\n \r\n" * 300)
        read_all(connection)  # it returns, so the connection was closed


@pytest.mark.parametrize("drips", [b"", b" "], ids=["nothing comes", "bytes keep coming"])
def test_a_body_that_is_not_whole_in_time_is_cut_with_408(server: Server, drips: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(HEAD + b"Content-Length: 10000\r\n\r\n{")

        def is_answered() -> bool:
            with suppress(OSError):  # it is closed already
                connection.sendall(drips)
            server.time.put_forward(TEST_S / 10)
            return bool(select.select([connection], [], [], 0)[0])

        until(is_answered)
        reply = read_all(connection)
    assert (status(reply), code(reply)) == (408, "body_timeout")


def test_a_client_that_leaves_in_its_body_harms_nobody(server: Server) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
            connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")
    assert server.predict(task()).status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"
        ),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two lengths"),
        pytest.param(HEAD + b"Content-Length: -5\r\n\r\n", id="negative length"),
        pytest.param(HEAD + b"Content-Length: 5x\r\n\r\n", id="length no number"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk size no number"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="unknown transfer encoding"),
        pytest.param(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", id="64 KB header"
        ),
        pytest.param(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 12_000 + b"\r\n", id="12,000 headers"
        ),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX y: 1\r\n\r\n", id="space in a header name"),
        pytest.param(b"GET /health\r\n\r\n", id="no version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100, id="TLS to a plain port"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", id="raw bytes in the path"),
    ],
)
def test_what_is_no_clean_http_gets_a_4xx_and_the_connection_is_closed(server: Server, request_bytes: bytes) -> None:
    reply = server.raw(request_bytes)
    assert 400 <= status(reply) < 502
    assert status(reply) != 500
    assert reply.count(b"HTTP/1.1 ") == 1
    assert server.client.get("/health").status_code == 200


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    reply = server.raw(one % (b"health", b"") + one % (b"nowhere", b"") + one % (b"livez", b"Connection: close\r\n"))
    assert [int(part[:3]) for part in reply.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


def test_a_refused_body_is_never_taken_for_the_next_request(server: Server) -> None:
    inner = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    reply = server.raw(
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(inner), inner)
    )
    assert reply.count(b"HTTP/1.1 ") == 1
