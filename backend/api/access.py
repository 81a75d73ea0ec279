"""Who may ask this backend: the password, or without one the name it was asked by; and whose web page asks.

Raises Unauthorized and Forbidden. Knows nothing of what is asked but its path.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import Scope

from backend.api.host_names import HostNames
from backend.api.origin import site_of
from backend.api.passwords import MAX_HELD, WrongPasswords, is_right
from backend.errors import Forbidden, Unauthorized
from backend.settings import Credentials, Settings

OPEN_PATHS = frozenset({"/livez"})
"""Docker's health check has no password. Everything else needs it, /health too: from a 401 there Label Studio
concludes that the password in its model settings is wrong, and says so."""

MAX_ADDRESS_CHARS = 64
"""Of an address that is none: a proxy may write what it likes."""
HELD = "held"
"""In the state of a request whose refusal may wait: nobody needs its connection."""


class Access:
    """`max_held`: refusals that wait at a time."""

    def __init__(self, settings: Settings, max_held: int = MAX_HELD) -> None:
        self._credentials = settings.credentials
        self._names = HostNames(settings)
        self._wrong = WrongPasswords(max_held)

    async def check(self, scope: Scope) -> None:
        """Return at once for who may ask; after too many wrong passwords from one address, refuse another late."""
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_PATHS:
            if self._credentials is None:
                self._names.check(headers.getlist("host"))
            else:
                await self._check_password(self._credentials, scope, headers)
        _check_site(scope["method"], headers)

    async def _check_password(self, expected: Credentials, scope: Scope, headers: Headers) -> None:
        given = headers.getlist("authorization")
        header = given[0].encode("latin-1") if len(given) == 1 else None
        if is_right(expected.user, expected.password, header):
            return
        if given:  # a browser's first request has none, nor have Label Studio's webhooks
            scope.setdefault("state", {})[HELD] = True
            await self._wrong.hold(address_of(scope))
        raise Unauthorized("Enter the user name and password of this backend in Label Studio's model settings.")


def address_of(scope: Scope) -> str:
    """Whose turn a request of who may be a stranger takes: the client's address; of IPv6 its network of 64 bits, all of
    which one client may have."""
    named = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(named)
    except ValueError:
        return named[:MAX_ADDRESS_CHARS]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


def _check_site(method: str, headers: Headers) -> None:
    """Refuse what a web page of another site has a person's browser send: a browser on the same machine reaches a
    backend that listens on loopback, and sends a password it remembers. Label Studio's server is no browser."""
    if method not in ("GET", "HEAD") and site_of(headers) == "foreign":
        raise Forbidden("This request comes from a web page of another site.")
