"""What happens around every request: an id, a look at who asks, one log line, and an answer whatever went wrong.

Pure ASGI, because a handler must see the client's disconnect itself. Covered: HTTP. Not covered: the bytes before a
complete request head, see `connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend import logs
from backend.api.access import HELD, OPEN_PATHS, Access, address_of
from backend.api.address_turns import AddressTurns
from backend.api.bodies import ClientGone
from backend.api.http_limits import MAX_HEADERS, MAX_HEADERS_BYTES, headers_too_large
from backend.api.responses import SAFE_HEADERS, error_response, refusal
from backend.errors import EngineBusy, HeadersTooLarge, PrelabelError
from backend.metrics import Metrics

log = logging.getLogger("backend.http")

MAX_DRAINED_BYTES = 64 * 1024
DRAIN_S = 0.5
SHOWN_PATH_CHARS = 200
SHOWN_METHOD_CHARS = 20
_SLOW_S = 1.0
STRANGERS_A_ROUND = 4
"""Of their requests, each of half a millisecond: as many as connections are accepted and read in a round under load."""
_QUIET_PATHS = frozenset({"/health", "/livez", "/metrics", "/status", "/status.json"})


class Edge:
    """Wraps the app. `routes` are the paths that may appear in metrics; any other is counted as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, access: Access, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._access = access
        self._routes = routes
        self._strangers = AddressTurns(a_round=STRANGERS_A_ROUND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = logs.request_id.set(secrets.token_hex(4))
        try:
            await self._answer(scope, receive, send)
        finally:
            logs.request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send)
        started = time.monotonic()
        try:
            if await self._may_ask(scope):
                await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = exchange.status or 499
        except asyncio.CancelledError:  # by the server, which stops and waits no longer
            await exchange.refuse(scope, EngineBusy("prelabel is stopping; ask again when it runs again"))
        except PrelabelError as error:
            log.info("refused %s: %s", _shown(scope), error)
            await exchange.refuse(scope, error)
        except Exception:
            log.exception("%s failed", _shown(scope))
            await exchange.refuse(scope, None)
        finally:
            self._record(scope, exchange.status, time.monotonic() - started)

    async def _may_ask(self, scope: Scope) -> bool:
        """Wait for the turn of who may be a stranger, and refuse who is one: a thousand of their connections may ask at
        once, and again as soon as they are answered. A few go on in each round of the loop, of the address that has had
        least, and of an open path and of all that is refused by turns; between two of them those who may ask are looked
        at. A connection that waits may make room for others."""
        refused: PrelabelError | None = None
        try:
            _check_size(scope)
            await self._access.check(scope)
        except PrelabelError as error:
            refused = error
        is_open = refused is None and scope["path"] in OPEN_PATHS
        if refused is None and not is_open:
            return True
        state = scope.setdefault("state", {})
        state[HELD] = True
        await self._strangers.take(f"{is_open} {address_of(scope)}")
        if refused is not None:
            raise refused
        del state[HELD]
        return True

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path, method = scope["path"], scope["method"]
        route = path if path in self._routes else "other"
        method = method if method in {"GET", "HEAD", "POST"} else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        quiet = path in _QUIET_PATHS and status == 200 and seconds < _SLOW_S
        log.log(logging.DEBUG if quiet else logging.INFO, "%s -> %d in %.3f s", _shown(scope), status, seconds)


class _Exchange:
    """One request and its answer: knows whether the body was read to its end and whether the answer has begun."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        length = _header(scope, b"content-length") or b"0"
        chunked = _header(scope, b"transfer-encoding") is not None
        self._body_read = length == b"0" and not chunked
        self._is_small = not chunked and length.isdigit() and int(length) <= MAX_DRAINED_BYTES
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *SAFE_HEADERS]
            headers.append((b"x-request-id", logs.request_id.get().encode()))
            if self.status == HeadersTooLarge.http_status or (self.status >= 400 and not self._body_read):
                # What is left of the body must not be taken for the next request, nor be waited for.
                headers.append((b"connection", b"close"))
                await self._drain()
            message = {**message, "headers": headers}
        await self._send(message)

    async def _drain(self) -> None:
        """Let a client finish sending a small body: in the middle of it, it would see a reset and not our answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._is_small and not self._body_read:
                    if (await self.receive())["type"] == "http.disconnect":
                        return

    async def refuse(self, scope: Scope, error: PrelabelError | None) -> None:
        if self.status:
            return  # the answer has begun; the server cuts the connection
        if error is None:
            response = refusal(500, "internal", "prelabel failed on this request; its log says why.")
        else:
            response = error_response(error)
        await response(scope, self.receive, self.send)


def _shown(scope: Scope) -> str:
    """Method and path for the log: who has no password may ask with as long ones as a head may have."""
    return f"{scope['method'][:SHOWN_METHOD_CHARS]} {scope['path'][:SHOWN_PATH_CHARS]}"


def _check_size(scope: Scope) -> None:
    """The HTTP parser limits a head that comes in parts; one that comes at once must be measured here."""
    headers = scope["headers"]
    num_bytes = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or num_bytes > MAX_HEADERS_BYTES:
        raise headers_too_large()


def _header(scope: Scope, name: bytes) -> bytes | None:
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None
