"""The password of a request. Knows nothing of who asks for what."""

from __future__ import annotations

import base64
import binascii
import hmac

MAX_HEADER_BYTES = 8 * 1024


def is_right(user: str, password: str, header: bytes | None) -> bool:
    """Whether `header` is their Basic authorization."""
    given = _basic_pair(header)
    pair = f"{user}:{password}"
    # Label Studio's HTTP client sends Latin-1 where it can; others send UTF-8.
    right = hmac.compare_digest(given, pair.encode("utf-8"))
    right |= hmac.compare_digest(given, pair.encode("latin-1", "backslashreplace"))
    return right


def _basic_pair(header: bytes | None) -> bytes:
    """Return b"user:password" of a Basic authorization header, b"" for anything else."""
    if header is None or len(header) > MAX_HEADER_BYTES:
        return b""
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
