"""The Authorization header for Label Studio, for both kinds of access token.

A legacy token is sent as it is. A personal access token is a JWT that only buys short-lived access tokens at
`/api/token/refresh` (label_studio_sdk/tokens/client_ext.py); one is kept until shortly before it expires. Knows no
HTTP: `refresh` is given. Raises what `refresh` raises.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable

Refresh = Callable[[str], Awaitable[str]]
"""Personal access token -> access token."""

_SPARE_S = 30.0
_UNKNOWN_LIFETIME_S = 60.0


class ApiKey:
    def __init__(self, api_key: str, refresh: Refresh) -> None:
        self._api_key = api_key
        self._claims = jwt_claims(api_key)
        self._refresh = refresh
        self._access = ""
        self._expires_at = 0.0
        self._lock = asyncio.Lock()

    @property
    def can_refresh(self) -> bool:
        return self._claims is not None and self._claims.get("token_type") != "access"

    async def header(self) -> str | None:
        """Return the header's value, or None without an API key."""
        if not self._api_key:
            return None
        if self._claims is None:
            return f"Token {self._api_key}"
        if not self.can_refresh:
            return f"Bearer {self._api_key}"
        async with self._lock:
            if time.time() > self._expires_at - _SPARE_S:
                self._access = await self._refresh(self._api_key)
                self._expires_at = _expiry(self._access)
            return f"Bearer {self._access}"

    def forget(self, header: str) -> None:
        """Label Studio refused `header`: buy a new access token next time."""
        if header == f"Bearer {self._access}":
            self._expires_at = 0.0


def jwt_claims(token: str) -> dict[str, object] | None:
    """Return the claims of a JWT, unverified, or None if `token` is not one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _expiry(access: str) -> float:
    expires_at = (jwt_claims(access) or {}).get("exp")
    if isinstance(expires_at, int | float):
        return float(expires_at)
    return time.time() + _SPARE_S + _UNKNOWN_LIFETIME_S
