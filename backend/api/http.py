"""uvicorn's HTTP/1.1, with a limit it does not have: chunks of one byte take 25 µs each of the event loop, 40,000 of
them in one read, so that eight clients that send them would leave nothing else answered.

The first MAX_TINY_CHUNKS of a body may be of any size; with them, chunks hold MIN_CHUNK_BYTES on average.
"""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_TINY_CHUNKS = 256
MIN_CHUNK_BYTES = 512


class _Connection(h11.Connection):
    refusal = ""
    _num_chunks = 0
    _num_bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_chunks = self._num_bytes = 0
        elif isinstance(event, h11.Data):
            self._num_chunks += event.chunk_end
            self._num_bytes += len(event.data)
            if self._num_chunks > max(MAX_TINY_CHUNKS, self._num_bytes // MIN_CHUNK_BYTES):
                self.refusal = (
                    f"The chunks of the request body are too small. Send at least {MIN_CHUNK_BYTES} bytes in each, "
                    "or the body as a whole with its Content-Length."
                )
                raise h11.RemoteProtocolError(self.refusal)
        return event


class Http(H11Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: _Connection = _Connection(h11.SERVER)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(self.conn.refusal or msg)
        else:  # the request was answered before its body was read
            self.transport.close()
