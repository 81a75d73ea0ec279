"""A limit that h11 does not have: chunks of one byte take 25 µs each of the event loop, 40,000 of them in one read, so
that eight clients that send them would leave nothing else answered.

The first MAX_TINY_CHUNKS of a body may be of any size; with them, chunks hold MIN_CHUNK_BYTES on average.
"""

from __future__ import annotations

from typing import Any

import h11

MAX_TINY_CHUNKS = 256
MIN_CHUNK_BYTES = 512


class ChunkLimit(h11.Connection):
    """`refusal`: what to tell a client whose chunks are too small; "" until there is one."""

    refusal = ""
    _num_chunks = 0
    _num_bytes = 0

    def next_event(self) -> Any:
        """Raises h11.RemoteProtocolError for a body in too small chunks, too."""
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
