"""A connection to a host whose replies are written to be slow: what is parsed of them has an end.

Their heads are parsed on the event loop, 64 KiB before anything else goes on: five thousand that only announce another
(1xx), or a head of 20,000 lines, kept everybody waiting for seconds. So a head is read in small pieces, and it has
MAX_LINES, with those that announce it. Knows nothing of bodies. Raises ImageError besides what the connection does.
"""

from __future__ import annotations

import re
import ssl
from typing import Any

import httpcore

from backend.errors import ImageError

MAX_LINES = 256
_PIECE_BYTES = 2_048
_END = re.compile(rb"\n\r?\n")
"""Of a head, as h11 finds it."""
_ANNOUNCES = re.compile(rb"HTTP/\d\.\d 1")


class ReplyStream(httpcore.AsyncNetworkStream):
    """`stream`, which leads to `host`."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._head: bytearray | None = None
        """What has come of it; None while none is expected."""
        self._num_lines = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._head is None:
            return await self._stream.read(max_bytes, timeout)
        data = await self._stream.read(min(max_bytes, _PIECE_BYTES), timeout)
        self._look(self._head, data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head, self._num_lines = bytearray(), 0  # of the reply to this
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return ReplyStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._host)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _look(self, head: bytearray, data: bytes) -> None:
        head += data
        while end := _END.search(head):
            self._num_lines += head.count(b"\n", 0, end.end())
            is_last = not _ANNOUNCES.match(head)
            del head[: end.end()]
            if is_last:
                self._head = None
                break
        if self._num_lines + (0 if self._head is None else head.count(b"\n")) > MAX_LINES:
            raise ImageError("unreachable", f"{self._host} begins its reply with more than {MAX_LINES} lines.")
