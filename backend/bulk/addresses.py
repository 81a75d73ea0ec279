"""Addresses among the SOURCEs and in lists: which texts are some, and what of them may be shown. Pure."""

from __future__ import annotations

import re

from backend.logs import redact
from backend.signatures import HIDDEN, MARK_IN_LOGIN, unsigned_path

# An address without a scheme has a dot in its host; a folder at the root of a disk hardly ever has one.
_URL = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*://|https?:[/\\]{2}|//[^/\\\s]+\.[^/\\\s]+/)", re.IGNORECASE)
_BEGIN = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?[/\\]{2}")


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def public_source(source: str) -> str:
    """A path as it is; an address without user, password, signatures, query and fragment: it is shown and passed on."""
    if not is_url(source):
        return source
    if odd := MARK_IN_LOGIN.match(source.strip()):
        return odd[1] + HIDDEN
    begin = _BEGIN.match(source)
    scheme = begin[0].strip() if begin else ""
    address, *query = re.split(r"[?#]", source[begin.end() if begin else 0 :], maxsplit=1)
    host, slash, path = address.partition("/")
    if "@" in host:
        host = f"{HIDDEN}@{host.rpartition('@')[2]}"
    return redact(unsigned_path(f"{scheme}{host}{slash}{path}")) + (f"?{HIDDEN}" if query else "")
