"""Request headers that one host of pictures wants, such as the Referer without which it answers 403.

The setting is one JSON object: host -> header -> value. A host is a name, a name with a port, or `*.` and a name for
every host below it; the most exact one counts. Values may be secrets: they go to that host alone, are no part of any
message, and a redirect to another host takes none along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.errors import ImageError, SettingsError
from backend.urls import Origin, parse_http_url

MAX_HOSTS = 1_000
MAX_HEADERS = 20
MAX_VALUE_CHARS = 4_096
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e]*")
# Of the connection, or of how the picture is asked for: a host's reply could not be read with another.
_OURS = frozenset({
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "expect", "host", "content-length", "content-type", "content-encoding",
    "accept-encoding", "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
})  # fmt: skip
_CREDENTIALS = frozenset({"authorization", "cookie"})
_EXAMPLE = '{"img.example.com": {"Referer": "https://example.com/"}}'


@dataclass(frozen=True, slots=True)
class HostHeaders:
    """`by_host`: what the setting names, in lower-case ASCII, to its headers."""

    by_host: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def of(self, origin: Origin) -> Mapping[str, str]:
        return next((self.by_host[name] for name in _names_of(origin) if name in self.by_host), {})


def read_host_headers(text: str, label_studio: Iterable[Origin] = ()) -> HostHeaders:
    """Read the setting. `label_studio`: where no other credentials than the API key may go.

    Raises SettingsError, which names host and header and never a value.
    """
    if not text.strip():
        return HostHeaders()
    hosts = _object(text)
    if len(hosts) > MAX_HOSTS:
        raise _wrong(f"it names more than {MAX_HOSTS:,} hosts")
    by_host: dict[str, Mapping[str, str]] = {}
    for written, headers in hosts.items():
        name = _host(written)
        if name in by_host:
            raise _wrong(f'it names the host "{name}" twice')
        by_host[name] = _headers(name, headers)
    found = HostHeaders(by_host)
    for origin in label_studio:
        if wrong := next((header for header in found.of(origin) if header.lower() in _CREDENTIALS), None):
            raise _wrong(f'"{wrong}" would go to Label Studio at {origin.host}, which gets LABEL_STUDIO_API_KEY only')
    return found


def _names_of(origin: Origin) -> Iterable[str]:
    """The names that a setting may have for it, the most exact first."""
    for host in (origin.host, *_above(origin.host)):
        yield f"{host}:{origin.port}"
        yield host


def _above(host: str) -> Iterable[str]:
    labels = host.split(".")
    return ("*." + ".".join(labels[at:]) for at in range(1, len(labels)))


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _wrong("it is no JSON object, or has a key twice") from None
    if not isinstance(document, dict):
        raise _wrong("it is no JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)


def _host(written: str) -> str:
    wildcard = "*." if written.startswith("*.") else ""
    try:
        target = parse_http_url(f"http://{written.removeprefix('*.')}")
    except ImageError:
        target = None
    if target is None or target.path != "/" or "/" in written or (wildcard and "." not in target.origin.host):
        raise _wrong("a host in it is no host name: write img.example.com, img.example.com:8080 or *.example.com")
    port = f":{target.origin.port}" if re.search(r":[0-9]+$", written.rpartition("]")[2]) else ""
    return f"{wildcard}{target.origin.host}{port}"


def _headers(host: str, headers: object) -> Mapping[str, str]:
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS:
        raise _wrong(f'"{host}" must have an object of at most {MAX_HEADERS} headers')
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise _wrong(f'a header of "{host}" has no name that HTTP knows')
        if name.lower() in _OURS:
            raise _wrong(f'"{name}" of "{host}" is prelabel\'s own to send')
        if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
            raise _wrong(f'"{name}" of "{host}" must be a text of printable ASCII characters (encode others as %XX)')
    if len({name.lower() for name in headers}) != len(headers):
        raise _wrong(f'"{host}" has a header twice')
    return {name: value.strip() for name, value in headers.items()}


def _wrong(reason: str) -> SettingsError:
    return SettingsError(f"PRELABEL_PICTURE_HEADERS cannot be used: {reason}. Example: {_EXAMPLE}")
