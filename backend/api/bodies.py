"""Read a request body within its limits: size, number of values, time, encoding, and what all hold at once.

A refused body is not read: the answer goes out with `Connection: close`, at once or when the client is done sending a
small one (`middleware` does both).
Raises PayloadTooLarge, UnsupportedBody, BadRequest, BodyTimeout, EngineBusy, ClientGone. Knows nothing of JSON but the
bytes between two values.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive

from backend.api.parser import MODERATE_BYTES, PARSE_S
from backend.errors import BadRequest, BodyTimeout, EngineBusy, PayloadTooLarge, UnsupportedBody

BYTES_PER_VALUE = 8
"""What a value of the largest body takes at least, its key included; in Label Studio's tasks it is 12 and more."""
MIN_VALUES = 2**16


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`moderate_bytes`: what all bodies up to MODERATE_BYTES may hold together; larger ones `large_bodies` times
    `max_bytes`. `parse_s`: for one body, once all of it is here."""

    max_bytes: int
    read_s: float = 30.0
    moderate_bytes: int = 256 * 2**20
    large_bodies: int = 4
    parse_s: float = PARSE_S

    @property
    def max_values(self) -> int:
        """Most commas, lists and objects in one body: millions of `[],` take a hundred times the memory of a text."""
        return max(MIN_VALUES, self.max_bytes // BYTES_PER_VALUE)


class BodyReader:
    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._moderate = _Room(limits.moderate_bytes)
        self._large = _Room(limits.large_bodies * limits.max_bytes)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the whole body; it is counted among what all hold until the block ends."""
        declared = _check_headers(request, self._limits.max_bytes)
        room = self._large if declared is None or declared > MODERATE_BYTES else self._moderate
        body = _Body(asyncio.timeout(self._limits.read_s))
        try:
            yield await self._receive(request.receive, body, room)
        finally:
            room.leave(body)

    async def _receive(self, receive: Receive, body: _Body, room: _Room) -> bytes:
        try:
            async with body.timer:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    room.add(body, message.get("body", b""))
                    self._check(body)
                    more = message.get("more_body", False)
        except TimeoutError:
            if body.gave_way:
                raise _busy() from None
            raise BodyTimeout(f"The request body did not arrive within {self._limits.read_s:g} s.") from None
        return room.whole(body)

    def _check(self, body: _Body) -> None:
        if body.gave_way:
            raise _busy()
        if body.num_bytes > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        if body.num_values > self._limits.max_values:
            raise PayloadTooLarge(
                f"The request body holds more than {self._limits.max_values:,} values (texts, numbers, lists and "
                "objects). Select fewer tasks at once, or raise PRELABEL_MAX_BODY_BYTES."
            )


class _Body:
    """What has come of one body."""

    def __init__(self, timer: asyncio.Timeout) -> None:
        self.timer = timer
        self.chunks: list[bytes] = []
        self.num_bytes = 0
        self.num_values = 0
        self.gave_way = False


class _Room:
    """What several bodies hold together. Where it is too much, the largest that is still arriving gives way: clients
    that send half a body and wait keep nobody out whose body is smaller."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._arriving: set[_Body] = set()

    def add(self, body: _Body, chunk: bytes) -> None:
        if body.gave_way:
            return
        self._arriving.add(body)
        body.chunks.append(chunk)
        body.num_bytes += len(chunk)
        # Those inside texts are counted as well: telling them apart would take ten times as long.
        body.num_values += chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")
        self._num_bytes += len(chunk)
        if self._num_bytes > self._max_bytes:
            largest = max(self._arriving, key=lambda other: other.num_bytes)
            self.leave(largest)
            largest.gave_way = True
            if not largest.timer.expired():
                largest.timer.reschedule(asyncio.get_running_loop().time())

    def whole(self, body: _Body) -> bytes:
        self._arriving.discard(body)
        content = b"".join(body.chunks)
        body.chunks.clear()
        return content

    def leave(self, body: _Body) -> None:
        self._arriving.discard(body)
        self._num_bytes -= body.num_bytes
        body.num_bytes = 0
        body.chunks.clear()


def _check_headers(request: Request, max_bytes: int) -> int | None:
    """Return the declared length, None for a chunked body. Refuse what need not be read to be refused."""
    headers = request.headers
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedBody("Compressed request bodies are not supported. Send the JSON as it is.")
    lengths = headers.getlist("content-length")
    if "transfer-encoding" in headers:
        if lengths:
            raise BadRequest("A request must not have both Content-Length and Transfer-Encoding.")
        return None
    # The HTTP parser has made sure that there is one, and that it is a number.
    declared = int(lengths[0]) if lengths else 0
    if declared > max_bytes:
        raise _too_large(max_bytes)
    return declared


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is larger than {max_bytes:,} bytes. "
        "Select fewer tasks at once, or raise PRELABEL_MAX_BODY_BYTES."
    )


def _busy() -> EngineBusy:
    return EngineBusy("Several large requests are being read. Try again in a moment.")
