"""Addresses among the SOURCEs and in lists: which texts are some, and what of them may be shown. Pure."""

from __future__ import annotations

import re

from backend.logs import HIDDEN, redact

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def public_source(source: str) -> str:
    """A path as it is; an address without user, password, query and fragment: it is shown and passed on."""
    if not is_url(source):
        return source
    scheme, rest = source.split("://", 1)
    address, *query = re.split(r"[?#]", rest, maxsplit=1)
    host, slash, path = address.partition("/")
    if "@" in host:
        host = f"{HIDDEN}@{host.rpartition('@')[2]}"
    return redact(f"{scheme}://{host}{slash}{path}") + (f"?{HIDDEN}" if query else "")
