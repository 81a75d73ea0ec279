"""The one parser of http(s) URLs: what it returns is what is connected to, so no two parsers can disagree.

Strict about everything that names the host (a URL read in two ways is how a private address slips through), lenient
about the path, where pictures have spaces and Chinese names. Resolves nothing. Raises ImageError(kind="blocked").
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

import idna

from backend.errors import ImageError

DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@%\s]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LOOKS_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Everything a URL may hold as it is, and "%" because what is already encoded stays so.
_SAFE = "%/:=&?~+!$,;'@()*[]|"


_NO_LINE_BREAKS = str.maketrans("", "", "\t\r\n")
_AROUND = "".join(map(chr, range(0x21))) + "\ufeff\u200b\u200c\u200d\u2060"  # blanks, and what Excel leaves around
_ESCAPED_AND = re.compile(r"&(?:amp|#38|#x26);", re.IGNORECASE)
_MANY_SLASHES = re.compile(r"(?:(https?):)?//+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """`host` is lower-case ASCII, without brackets or a final dot."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """`path` begins with "/", is pure ASCII and includes the query string, which may be a secret."""

    origin: Origin
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        is_default = self.origin.port == DEFAULT_PORTS[self.origin.scheme]
        return host if is_default else f"{host}:{self.origin.port}"

    @property
    def url(self) -> str:
        return f"{self.origin.scheme}://{self.host_header}{self.path}"

    @property
    def decoded_path(self) -> str:
        return unquote(self.path.partition("?")[0])


def as_browsers_read(text: str) -> str:
    """`text` with what a browser passes over put right: blanks around it, line breaks in it, backslashes for slashes,
    a missing scheme (`//host/...` is https), and `&amp;` where an address was copied out of a page's source.

    Says nothing about whether it is an address; `parse_http_url` reads what comes out.
    """
    text = text.strip().strip(_AROUND)
    if any(char in text for char in "\t\r\n"):  # a data: address may have megabytes, and seldom one of these
        text = text.translate(_NO_LINE_BREAKS)
    if text[:5].lower() == "data:":
        return text
    text = _ESCAPED_AND.sub("&", text)
    end = min((at for at in map(text.find, "?#") if at >= 0), default=len(text))
    head, rest = text[:end], text[end:]
    if not head.startswith("\\\\"):  # a folder of a Windows network
        head = head.replace("\\", "/")
    if match := _MANY_SLASHES.match(head):
        head = f"{match[1] or 'https'}://{head[match.end() :]}"
    return head + rest


def parse_http_url(text: str) -> Target:
    """Parse an absolute http(s) URL, or raise ImageError("blocked") saying what is wrong with it."""
    match = _URL.fullmatch(text)
    if match is None:
        raise _blocked("it is not an http or https address")
    scheme, authority, path, query = match[1].lower(), match[2], match[3] or "/", match[4] or ""
    if "\\" in authority + path:
        raise _blocked("it holds a backslash")
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise _blocked("it holds a control character")
    if "@" in authority:
        raise _blocked("it holds a user name or password before the host")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _blocked("its host name or port is malformed")
    port = int(parts[2]) if parts[2] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise _blocked("its port is out of range")
    return Target(Origin(scheme, _normal_host(parts[1]), port), _encoded(path + query))


def host_of(authority: str) -> str:
    """The host of `HOST` or `HOST:PORT`, written as in `Origin`; "" for what names none."""
    parts = _AUTHORITY.fullmatch(authority)
    try:
        return _normal_host(parts[1]) if parts else ""
    except ImageError:
        return ""


def join_location(base: Target, location: str) -> Target:
    """Return where a `Location` header leads: absolute, `//host/path`, `/path`, or relative to `base`."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", location):
        return parse_http_url(location)
    if location.startswith("//"):
        return parse_http_url(f"{base.origin.scheme}:{location}")
    if not location.startswith("/"):
        folder = base.path.partition("?")[0].rpartition("/")[0]
        location = f"{folder}/{location}"
    return parse_http_url(Target(base.origin, "").url + location)


def _normal_host(host: str) -> str:
    if host.startswith("["):
        return str(_ip_address(host[1:-1]))
    if not host.isascii():
        host = _ascii_host(host)
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    # 127.1, 0x7f.1, 2130706433 and 0177.0.0.1 are loopback to the system resolver: only plain a.b.c.d is an address.
    if _LOOKS_NUMERIC.fullmatch(labels[-1]):
        return str(_ip_address(host))
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _blocked("its host name is malformed")
    return host


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise _blocked("its host is an unusual way to write a number") from None


def _ascii_host(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _blocked("its host name is malformed") from None


def _encoded(path: str) -> str:
    try:
        return quote(path, safe=_SAFE)
    except UnicodeEncodeError:  # a lone surrogate from JSON
        raise _blocked("it holds a broken character") from None


def _blocked(reason: str) -> ImageError:
    return ImageError("blocked", f"The picture's address is refused: {reason}.")
