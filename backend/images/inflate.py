"""Undo a reply's Content-Encoding with a cap on what comes out.

We ask for no encoding; some servers send gzip or deflate all the same. A bomb is counted after decoding and stops at
the cap, whatever its ratio. Raises InflateError (unknown encoding, broken stream) and TooLong.
"""

from __future__ import annotations

import zlib

_PIECE_BYTES = 256 * 1024


class InflateError(Exception):
    pass


class TooLong(Exception):
    pass


class Collector:
    """Collects a body up to `max_bytes`; `encoding` is the reply's Content-Encoding ("" for none)."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._inflater = _inflater(encoding.strip().lower())

    def feed(self, data: bytes) -> None:
        if self._inflater is None:
            self._append(data)
            return
        try:
            while data and not self._inflater.eof:
                self._append(self._inflater.decompress(data, _PIECE_BYTES))
                data = self._inflater.unconsumed_tail
        except zlib.error:
            raise InflateError("its compression is broken") from None

    def finish(self) -> bytes:
        if self._inflater is not None and not self._inflater.eof:
            raise InflateError("its compression is cut off")
        return bytes(self._body)

    def _append(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._max_bytes:
            raise TooLong
        self._body += data


def _inflater(encoding: str) -> zlib._Decompress | None:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return zlib.decompressobj()
    raise InflateError("its Content-Encoding was not asked for")
