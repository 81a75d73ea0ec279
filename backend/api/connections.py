"""Connections: how long a client may take for its part of an exchange, and how many there may be.

uvicorn waits for ever until a head is whole and until a reply is taken, and accepts until the process has no file left.
Here both have a time, and beyond `max_connections` whoever has kept the server waiting longest makes room, first of
the address that has most of them. Its own `limit_concurrency` would not: it refuses whole requests, those of /livez
too, and leaves half a head alone. What has come is parsed in turns (`read_turns`).
Not covered: bodies, which have their time in `bodies`; TLS; Ray Serve, which has connections of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from backend.api.access import HELD, address_of
from backend.api.http_limits import LimitedHttp
from backend.api.passwords import MAX_HELD
from backend.api.read_turns import ReadTurns
from backend.api.responses import SAFE_HEADERS, error_code, refusal
from backend.errors import BadRequest
from backend.logs import Seldom
from backend.settings import LOOPBACK, Network

log = logging.getLogger(__name__)

MAX_FILES = 8_192
MAX_CONNECTIONS = 1_024
MAX_BURST = 8
MAX_WAITING = 4_096
"""Connections that the system holds for us while we are busy."""
READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`head_s`: from a connection, or the first byte after a reply, to a whole head. `idle_s`: from a reply to that
    byte. `reply_s`: from the first byte of replies that the client does not take until it has taken all of them.

    `burst`: as many are accepted in one turn of the event loop; for a moment three times as many stand beside
    `max_connections`.
    """

    max_connections: int = MAX_CONNECTIONS
    burst: int = MAX_BURST
    head_s: float = 10.0
    idle_s: int = 15
    reply_s: float = 60.0

    @property
    def max_held(self) -> int:
        """Of those, how many may wait to be told that their password is wrong: most are for those who know it."""
        return min(MAX_HELD, self.max_connections // 4)


def limits_for(num_files: int) -> ConnectionLimits:
    """At most half of the files that this process may open; the rest is for store, pictures, engine, Label Studio."""
    return ConnectionLimits(min(MAX_CONNECTIONS, num_files // 2), max(1, min(MAX_BURST, num_files // 16)))


def raise_file_limit() -> int:
    """Let this process open as many files as it may, at most MAX_FILES or what it could before; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class ServerConfig(uvicorn.Config):
    """`grace_s`: for requests under way when the server is told to stop. `proxies`: whose X-Forwarded-For is believed,
    and of which only what they have added."""

    def __init__(
        self, app: ASGIApp, limits: ConnectionLimits, grace_s: int, proxies: Iterable[Network] = (LOOPBACK,)
    ) -> None:
        super().__init__(
            app, http=Connection, ws="none", log_config=None, access_log=False, server_header=False,
            backlog=limits.burst, timeout_keep_alive=limits.idle_s, timeout_graceful_shutdown=grace_s,
            forwarded_allow_ips=[str(network) for network in proxies],
        )  # fmt: skip
        self.limits = limits
        self.idle: dict[Connection, None] = {}
        self.unread: dict[Connection, None] = {}
        self.owing: dict[Connection, None] = {}
        """Connections that owe no reply, those of them that have sent what is not looked at yet, and those that owe
        one, each in the order in which they began to."""
        self.addresses: Counter[str] = Counter()
        """How many connections each has."""
        self.read_turns = ReadTurns()
        many = f"more than {limits.max_connections} connections"
        self.made_room = Seldom(log, f"{many}: those that wait longest for their client are closed, %d so far")
        self.left_unread = Seldom(log, f"replies that their client does not take in {limits.reply_s:g} s: %d so far")


class ListeningServer(uvicorn.Server):
    """uvicorn knows one number for the connections of a round and for those that wait: more may wait."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(MAX_WAITING)


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """One connection. What it does between the requests is uvicorn's. Buffered, because it may then say how much is
    read at a time: the loop goes on to the next connection after as much, and would take 256 KiB."""

    config: ServerConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: LimitedHttp = LimitedHttp()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = address_of({"client": self.client})
        self.config.addresses[self._address] += 1
        self._waits_for_turn = False
        transport.set_write_buffer_limits(high=0)  # `pause_writing` tells of every byte that waits for the client
        self._head_timer: asyncio.TimerHandle | None = None
        self._reply_timer: asyncio.TimerHandle | None = None
        self._await_head()
        self._sort_in()
        if len(self.connections) > self.config.limits.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._head_timer, self._reply_timer)
        self._sort_out()
        self.config.addresses[self._address] -= 1
        if not self.config.addresses[self._address]:
            del self.config.addresses[self._address]

    def get_buffer(self, sizehint: int) -> bytearray:
        self._read = bytearray(READ_BYTES)
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self._read)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is None and not self._owes_reply:
            self._await_head()

    def handle_events(self) -> None:
        """What has come is parsed in a turn of its address; until then the client may wait with more."""
        if not self._waits_for_turn:
            self._waits_for_turn = True
            self.config.read_turns.take(self._address, self._parse)
        if self._waits_for_turn:
            self.transport.pause_reading()
            self._sort_in()

    def _parse(self) -> None:
        self._waits_for_turn = False
        if self.transport.is_closing():
            return
        super().handle_events()
        if self._owes_reply:
            _cancel(self._head_timer)
            self._head_timer = None
        self._sort_in()
        if not (self._waits_for_turn or self.flow.read_paused):
            self.transport.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._sort_out()
        self._sort_in()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reply_timer = self.loop.call_later(self.config.limits.reply_s, self._reply_is_late)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._reply_timer)

    def send_400_response(self, msg: str) -> None:
        error = self.conn.refusal or BadRequest("This is no HTTP request that prelabel understands.")
        self._refuse(error.http_status, error_code(error), str(error))

    @property
    def _owes_reply(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_held_up(self) -> bool:
        return self.cycle.more_body or self.flow.write_paused or HELD in self.cycle.scope["state"]

    def _sort_in(self) -> None:
        config = self.config
        kind = config.owing if self._owes_reply else config.unread if self._waits_for_turn else config.idle
        if self not in kind:  # else it has its place
            self._sort_out()
            kind[self] = None

    def _sort_out(self) -> None:
        for kind in (self.config.idle, self.config.unread, self.config.owing):
            kind.pop(self, None)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.config.limits.head_s, self._head_is_late)

    def _head_is_late(self) -> None:
        begun, _ = self.conn.trailing_data
        if self._waits_for_turn:  # not the client: what it sent is not looked at yet
            self._await_head()
        elif begun:
            self._refuse(408, "head_timeout", f"No whole request came within {self.config.limits.head_s:g} s.")
        else:
            self.transport.close()

    def _reply_is_late(self) -> None:
        self.config.left_unread.happened()
        self.transport.abort()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a head; where more wait for the rest of a request, for their
        reply to be taken, or to be told that their password is wrong, the longest of those: else a crowd of them would
        leave no time for a head to those that are new. Of the address that has most, if it has one of them. No other is
        cut, but of an address that has more what is not looked at yet: else there is no room for the new one."""
        config = self.config
        crowd = max(config.addresses, key=config.addresses.__getitem__)
        unread = next((one for one in config.unread if one._address == crowd != self._address), self)
        longest = self._longest(crowd) or self._longest(None) or unread
        self.config.made_room.happened()
        longest.transport.abort()
        longest._sort_out()  # now: the loop closes it later, and others may need room before
        self.connections.discard(longest)

    def _longest(self, address: str | None) -> Connection | None:
        """Of those that wait for their client, of `address` or of all."""

        def those(connections: Iterable[Connection]) -> Iterator[Connection]:
            return (one for one in connections if one is not self and (address is None or one._address == address))

        idle = [*those(self.config.idle)]
        held_up = [*itertools.islice((one for one in those(self.config.owing) if one._is_held_up), len(idle) + 1)]
        return next(iter(held_up if len(held_up) > len(idle) else idle), None)

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else a reply has begun, or was given
            reply = refusal(status, code, message)
            headers = [*reply.raw_headers, *SAFE_HEADERS, (b"connection", b"close")]
            head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
            for event in (head, h11.Data(data=bytes(reply.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # it has its reply, and would fail at giving another
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()


def log_accept_errors_seldom(loop: asyncio.AbstractEventLoop) -> None:
    """The loop tries again once a second; of its own it would log a traceback for each of `burst` tries."""
    failed = Seldom(log, "no connection can be accepted, as many files are open as ulimit -n allows: %d tries so far")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context["message"] == "socket.accept() out of system resource":
            failed.happened()
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
