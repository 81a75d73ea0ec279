"""Under which names a backend without a password answers.

A web page can have its own host name lead to any address, this machine's too. To a browser such a page then is one of
ours: it may read every reply, and its Origin equals Host. But it cannot choose the name, so that tells: who asks for a
name that strangers may own is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from backend.errors import Forbidden
from backend.settings import Settings
from backend.urls import host_of

SHOWN_CHARS = 100


class HostNames:
    """`localhost` and addresses of this machine's own network; PRELABEL_HOST and PRELABEL_ALLOWED_HOSTS; and with
    PRELABEL_ALLOW_NO_AUTH, which says that others on a private network are meant to ask, the names of such a network:
    those without a dot, those under .internal, which the public DNS never has, and addresses."""

    def __init__(self, settings: Settings) -> None:
        self._known = {settings.host.lower(), "localhost", *settings.allowed_hosts}
        self._private = settings.allow_no_auth

    def check(self, given: Sequence[str]) -> None:
        """Raise Forbidden unless there is one Host header, and it has a name of ours."""
        name = host_of(given[0]) if len(given) == 1 else ""
        if name not in self._known and not _is_loopback(name) and not (self._private and _is_private(name)):
            asked = given[0][:SHOWN_CHARS] if given else ""
            raise Forbidden(
                f'Nobody told this backend that it is called "{asked}", and it has no password. Set BASIC_AUTH_PASS '
                "and enter it in Label Studio's model settings, or name the host in PRELABEL_ALLOWED_HOSTS."
            )


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_loopback


def _is_private(name: str) -> bool:
    return bool(name) and ("." not in name or name.endswith(".internal") or _address(name) is not None)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
