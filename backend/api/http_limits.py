"""Limits that h11 does not have, on what it parses on the event loop before anything of a request is looked at.

A head of 60 KB in lines of four bytes takes it 20 ms, and so do trailers after a body in chunks: a thousand clients
that send one each would leave nothing else answered for half a minute. Chunks of one byte take 25 µs each. So what h11
has not made an event of, a head or trailers, may have MAX_LINES, and it is given so little at a time that it never
holds many more; and the first MAX_TINY_CHUNKS of a body may be of any size, with them chunks hold MIN_CHUNK_BYTES on
average.
"""

from __future__ import annotations

from typing import Any

import h11

from backend.errors import BadRequest, HeadersTooLarge

MAX_HEADERS = 100
MAX_HEADERS_BYTES = 32 * 1024
MAX_HEAD_BYTES = MAX_HEADERS_BYTES + 16 * 1024
"""With the address that is asked for."""
MAX_LINES = MAX_HEADERS + 1
PIECE_BYTES = 2_048
MAX_TINY_CHUNKS = 256
MIN_CHUNK_BYTES = 512


class LimitedHttp(h11.Connection):
    """The server's end. `refusal`: what to tell a client that went beyond a limit of ours; None until then."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self.refusal: BadRequest | None = None
        self._ahead = bytearray()
        """What has come and h11 was not given yet."""
        self._left_of_body = 0
        """Of one with a Content-Length: in it there is nothing to parse."""
        self._num_chunks = 0
        self._num_bytes = 0

    def receive_data(self, data: bytes) -> None:
        self._ahead += data

    def next_event(self) -> Any:
        """Raises h11.RemoteProtocolError for what is beyond our limits, too."""
        event = super().next_event()
        while event is h11.NEED_DATA and self._ahead:
            num_bytes = self._left_of_body or PIECE_BYTES
            super().receive_data(bytes(self._ahead[:num_bytes]))
            del self._ahead[:num_bytes]
            event = super().next_event()
            if event is h11.NEED_DATA:
                self._check_lines()
        self._count(event)
        return event

    def _check_lines(self) -> None:
        begun, _ = self.trailing_data
        if begun.count(b"\n") > MAX_LINES:
            self._refuse(headers_too_large())

    def _count(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._num_chunks = self._num_bytes = 0
            self._left_of_body = next((int(value) for name, value in event.headers if name == b"content-length"), 0)
        elif isinstance(event, h11.Data):
            self._left_of_body = max(0, self._left_of_body - len(event.data))
            self._num_chunks += event.chunk_end
            self._num_bytes += len(event.data)
            if self._num_chunks > max(MAX_TINY_CHUNKS, self._num_bytes // MIN_CHUNK_BYTES):
                self._refuse(BadRequest(
                    f"The chunks of the request body are too small. Send at least {MIN_CHUNK_BYTES} bytes in each, "
                    "or the body as a whole with its Content-Length."
                ))  # fmt: skip

    def _refuse(self, error: BadRequest) -> None:
        self.refusal = error
        raise h11.RemoteProtocolError(str(error))


def headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge("The request has too many or too long headers.")
