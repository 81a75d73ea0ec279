"""Clients that keep the server waiting: cut in time, first when there are too many, and never to the harm of others."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send

from backend.api.connections import (
    MAX_FILES,
    ConnectionLimits,
    ListeningServer,
    ServerConfig,
    limits_for,
    raise_file_limit,
)
from tests.backend.serving import read_all
from tests.backend.steered import SteeredTime
from tests.limits import WAIT_S, until

GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
PART = b"GET / HTTP/1.1\r\nHost: loc"
LONG = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


@dataclass
class App:
    """Answers /held when `release` is set, /large with more than the system holds for a client, and the rest at once.
    Reads no bodies."""

    time: SteeredTime = field(default_factory=SteeredTime)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    num_held: int = 0
    num_left: int = 0
    asked_by: list[str] = field(default_factory=list)
    port: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked_by.append(scope["client"][0])
        if scope["path"] in ("/held", "/body"):
            self.num_held += 1
            await self.release.wait()
        large = scope["path"] == "/large"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]
                    if not large else []})  # fmt: skip
        await send({"type": "http.response.body", "body": b" " * 2**26 if large else b"ok", "more_body": large})
        if large:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.num_left += 1

    def connect(self, sent: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S, source_address=(address, 0))
        connection.sendall(sent)
        return connection

    def asked(self, path: bytes) -> bytes:
        with self.connect(GET % path) as connection:
            return connection.recv(12)

    def wait_until_cut(self, connection: socket.socket, drips: bytes) -> bytes:
        """Send `drips` again and again while time goes by; return what comes before the server closes."""
        assert self.asked(b"") == b"HTTP/1.1 200", "what was sent before this has arrived"

        def is_cut() -> bool:
            with suppress(OSError):  # it is closed already
                connection.sendall(drips)
            self.time.put_forward(2)
            return bool(select.select([connection], [], [], 0)[0])

        until(is_cut)
        return read_all(connection)


def is_answered(connection: socket.socket) -> bool:
    """One whole reply comes, no more."""
    reply = b""
    while not reply.endswith(b"ok") and (part := connection.recv(9_999)):
        reply += part
    return reply.startswith(b"HTTP/1.1 200") and reply.count(b"HTTP/1.1 ") == 1


@contextmanager
def guarded(**limits: float) -> Iterator[App]:
    app = App()
    server = ListeningServer(ServerConfig(app, ConnectionLimits(**limits), 1))
    server.config.lifespan = "off"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: app.time.run(server.serve([listener])))
        thread.start()
        try:
            until(lambda: server.started)
            yield app
        finally:
            app.time.call(app.release.set)
            server.should_exit = True
            thread.join(WAIT_S)
    assert not thread.is_alive(), "the server did not stop"


@pytest.mark.parametrize("drips", [b"", b"a"], ids=["nothing comes", "bytes keep coming"])
@pytest.mark.parametrize(
    ("before", "sent", "statuses"),
    [
        (b"", PART, [408]),
        (GET % b"", PART, [408]),
        (LONG, b"a", []),
    ],
    ids=["its first request", "its second", "a body that was not asked for"],
)
def test_who_sends_no_whole_head_in_time_is_cut(before: bytes, sent: bytes, statuses: list[int], drips: bytes) -> None:
    with guarded() as app, app.connect(before) as connection:
        assert not before or is_answered(connection)
        connection.sendall(sent)
        reply = app.wait_until_cut(connection, drips)
        assert [int(part[:3]) for part in reply.split(b"HTTP/1.1 ")[1:]] == statuses
        if statuses:
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "head_timeout"
        assert app.asked(b"") == b"HTTP/1.1 200"


@pytest.mark.parametrize("before", [b"", GET % b"", GET % b"" + PART], ids=["new", "answered", "pipelined half a head"])
def test_who_sends_nothing_more_is_closed_in_silence(before: bytes) -> None:
    with guarded() as app, app.connect(before) as connection:
        assert not before or is_answered(connection)
        assert app.wait_until_cut(connection, b"") == b""


def test_who_does_not_take_the_reply_is_cut() -> None:
    with guarded() as app, app.connect(GET % b"large"):
        until(lambda: app.time.put_forward(10) or app.num_left)


def test_who_waits_for_its_reply_is_not_cut_however_long_it_takes() -> None:
    with guarded() as app, app.connect(GET % b"held") as connection:
        until(lambda: app.num_held)
        app.time.put_forward(10_000)
        assert app.asked(b"") == b"HTTP/1.1 200"
        app.time.call(app.release.set)
        assert is_answered(connection)


def test_the_one_that_waits_longest_for_its_client_makes_room_and_a_whole_request_never_does() -> None:
    with guarded(max_connections=4) as app, ExitStack() as opened:

        def connect(sent: bytes) -> socket.socket:
            return opened.enter_context(app.connect(sent))

        held = connect(GET % b"held")
        until(lambda: app.num_held == 1)
        body = connect(LONG.replace(b" / ", b" /body "))
        until(lambda: app.num_held == 2)
        first, second = connect(PART), connect(PART)
        third = connect(PART)
        assert read_all(first) == b"", "the longest without a whole head"
        fourth = connect(PART)
        assert read_all(second) == b""
        more_held = [connect(GET % b"held") for _ in range(2)]
        assert (read_all(third), read_all(fourth)) == (b"", b"")
        until(lambda: app.num_held == 4)
        more_held.append(connect(GET % b"held"))
        assert read_all(body) == b"", "no head is missing now"
        until(lambda: app.num_held == 5)
        assert read_all(connect(PART)) == b"", "nor anything else: there is no room"
        app.time.call(app.release.set)
        assert all(is_answered(one) for one in [held, *more_held])


def test_a_crowd_that_holds_requests_up_leaves_the_new_ones_time_for_a_head() -> None:
    with guarded(max_connections=4) as app, ExitStack() as opened:
        crowd = [opened.enter_context(app.connect(LONG.replace(b" / ", b" /body "))) for _ in range(4)]
        until(lambda: app.num_held == 4)
        new = [opened.enter_context(app.connect()) for _ in range(2)]
        assert (read_all(crowd[0]), read_all(crowd[1])) == (b"", b"")
        for one in new:
            one.sendall(GET % b"")
            assert is_answered(one)


def test_one_of_another_address_is_read_before_most_of_the_many_who_sent_first() -> None:
    with guarded() as app, ExitStack() as opened:
        many = [opened.enter_context(app.connect()) for _ in range(200)]
        one = opened.enter_context(app.connect(b"", "127.0.0.2"))
        assert app.asked(b"") == b"HTTP/1.1 200", "all before it are accepted"
        app.asked_by.clear()
        stands_still, sent = threading.Event(), threading.Event()
        app.time.call(lambda: (stands_still.set(), sent.wait(WAIT_S)))
        assert stands_still.wait(WAIT_S)
        for connection in (*many, one):
            connection.sendall(GET % b"")
        sent.set()
        assert all(is_answered(connection) for connection in (*many, one))
    assert app.asked_by.index("127.0.0.2") < len(many) / 2


def test_a_crowd_of_one_address_makes_room_for_another_address() -> None:
    with guarded(max_connections=4) as app, ExitStack() as opened:
        other = opened.enter_context(app.connect(PART, "127.0.0.2"))
        crowd = [opened.enter_context(app.connect(PART)) for _ in range(4)]
        assert read_all(crowd[0]) == b"", "though the other waits longest"
        other.sendall(b"alhost\r\n\r\n")
        assert is_answered(other)


def test_many_at_once_are_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with guarded(max_connections=3, burst=2) as app, ExitStack() as opened:
        for _ in range(60):
            opened.enter_context(app.connect(PART))
            assert app.asked(b"") == b"HTTP/1.1 200"
    [line] = caplog.messages
    assert line == "more than 3 connections: those that wait longest for their client are closed, 1 so far"


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "status"),
    [(b"", b"http/1.1 400"), (GET % b"", b"http/1.1 400"), (CHUNKED, b"")],
    ids=["at first", "later", "in the body of a request that has its reply"],
)
def test_nonsense_is_refused_with_safe_headers_once_and_leaves_no_traceback(
    before: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with guarded() as app, app.connect(before) as connection:
        assert not before or is_answered(connection)
        connection.sendall(b"\x00nonsense\r\n\r\n")
        reply = read_all(connection).lower()
    assert reply[:12] == status
    if status:
        assert b"cache-control: no-store\r\n" in reply
        assert b"x-content-type-options: nosniff\r\n" in reply
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize(
    "behind", [b"nonsense\r\n", b"1\r\n \r\n" * 300, b"0\r\n" + b"a:\r\n" * 1_000], ids=["no chunk", "tiny", "trailers"]
)
def test_a_body_that_is_refused_before_its_request_is_looked_at_has_one_reply_and_leaves_no_traceback(
    behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with guarded() as app:
        for _ in range(5):
            with app.connect(CHUNKED + behind) as connection:
                reply = read_all(connection)
                assert reply.startswith(b"HTTP/1.1 4")
                assert reply.count(b"HTTP/1.1 ") == 1
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize(
    ("num_files", "max_connections", "burst"),
    [(64, 32, 4), (256, 128, 8), (1_024, 512, 8), (8_192, 1_024, 8), (1_000_000, 1_024, 8)],
)
def test_connections_leave_half_of_the_files_and_more_than_a_burst_needs(
    num_files: int, max_connections: int, burst: int
) -> None:
    limits = limits_for(num_files)
    assert (limits.max_connections, limits.burst) == (max_connections, burst)


def test_the_file_limit_is_raised_as_far_as_it_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_024), hard))
        assert raise_file_limit() == min(MAX_FILES, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert raise_file_limit() == min(MAX_FILES, hard), "and stays there"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
