"""Read a request body within its limits: size, time, encoding and number at once.

A refused body is not read: the answer goes out with `Connection: close`, at once or when the client is done sending a
small one (`middleware` does both).
Raises PayloadTooLarge, UnsupportedBody, BadRequest, BodyTimeout, EngineBusy, ClientGone. Knows nothing of JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive

from backend.api.parser import MAX_PLAIN_BYTES, PARSE_S
from backend.errors import BadRequest, BodyTimeout, EngineBusy, PayloadTooLarge, UnsupportedBody


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`max_large` bodies above MAX_PLAIN_BYTES are held in memory at once; others wait up to `slot_wait_s`.

    `parse_s`: for one of them, once all of it is here.
    """

    max_bytes: int
    read_s: float = 30.0
    max_large: int = 4
    slot_wait_s: float = 20.0
    parse_s: float = PARSE_S


class BodyReader:
    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._large = asyncio.Semaphore(limits.max_large)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the whole body; a place for a large one is held until the block ends."""
        declared = _check_headers(request, self._limits.max_bytes)
        large = declared is None or declared > MAX_PLAIN_BYTES
        if large:
            await self._take_place()
        try:
            yield await self._receive(request.receive)
        finally:
            if large:
                self._large.release()

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(self._limits.slot_wait_s):
                await self._large.acquire()
        except TimeoutError:
            raise EngineBusy("Several large requests are being read. Try again in a moment.") from None

    async def _receive(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        num_bytes = 0
        try:
            async with asyncio.timeout(self._limits.read_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    num_bytes += len(chunk)
                    if num_bytes > self._limits.max_bytes:
                        raise _too_large(self._limits.max_bytes)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            text = f"The request body did not arrive within {self._limits.read_s:g} s."
            raise BodyTimeout(text) from None


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
