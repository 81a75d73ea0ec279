"""The password of a request, and how long a wrong one waits for its reply.

The right password is never kept waiting, whoever else guesses from the same address. So a guesser may take silence for
a no: what holds against that is the password's length, and `short_password` says when there is too little of it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac

from backend.settings import Settings

MIN_CHARS = 8
MAX_HEADER_BYTES = 8 * 1024
FREE_GUESSES = 10
"""From one address, before its wrong passwords wait. One is forgotten every FORGET_S."""
FORGET_S = 6.0
MAX_HOLD_S = 10.0
MAX_HELD = 256
"""Replies that wait at a time; above it, one more does not. Their connections make room for others (`connections`)."""
MAX_ADDRESSES = 1_024


def short_password(settings: Settings) -> str:
    """What to say of a password that is soon guessed; "" for none, and for one that is long enough."""
    password = settings.basic_auth_pass.get_secret_value()
    if not 0 < len(password) < MIN_CHARS:
        return ""
    return (
        f"BASIC_AUTH_PASS is soon guessed: it is shorter than {MIN_CHARS} characters. Set a longer one, for example "
        "from `openssl rand -hex 16`, and enter it in Label Studio's model settings."
    )


def is_right(user: str, password: str, header: bytes | None) -> bool:
    """Whether `header` is their Basic authorization."""
    given = _basic_pair(header)
    pair = f"{user}:{password}"
    # Label Studio's HTTP client sends Latin-1 where it can; others send UTF-8.
    right = hmac.compare_digest(given, pair.encode("utf-8"))
    right |= hmac.compare_digest(given, pair.encode("latin-1", "backslashreplace"))
    return right


class WrongPasswords:
    """Those of the last minutes, by address; the address that was quiet for longest is forgotten first."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._guesses: dict[str, tuple[float, float]] = {}
        self._num_held = 0

    async def hold(self, address: str) -> None:
        """Note one more from `address`, and return when it may be answered."""
        hold_s = self.note(address, asyncio.get_running_loop().time())
        if not hold_s or self._num_held >= self._max_held:
            return
        self._num_held += 1
        try:
            await asyncio.sleep(hold_s)
        finally:
            self._num_held -= 1

    def note(self, address: str, now: float) -> float:
        """Note one more; return for how many seconds its reply should wait."""
        num, at = self._guesses.pop(address, (0.0, now))
        num = min(max(0.0, num - (now - at) / FORGET_S) + 1, FREE_GUESSES + MAX_HOLD_S)
        self._guesses[address] = (num, now)
        if len(self._guesses) > MAX_ADDRESSES:
            del self._guesses[next(iter(self._guesses))]
        return max(0.0, num - FREE_GUESSES)


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
