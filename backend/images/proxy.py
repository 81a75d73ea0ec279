"""The way to the public internet through an HTTP proxy, with the rules about addresses kept.

prelabel looks the name up and checks every address itself, and asks the proxy for a connection to a checked *address*
(CONNECT 93.184.216.34:443); TLS and the Host header keep the name. So the proxy never looks a name up for us, and a
name that means a private address there is refused here. It needs names of the internet to be known on this machine:
where only the proxy knows them, or names are answered with a proxy's stand-in addresses, no picture can be checked, and
none is fetched. Networks of PRELABEL_ALLOWED_NETWORKS and Label Studio are reached without it.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import httpcore

from backend.errors import ImageError, SettingsError
from backend.urls import parse_http_url

MAX_HEAD_BYTES = 16 * 1024
_SUCCESS = range(200, 300)


class ProxyFailed(httpcore.ConnectError):
    """What PRELABEL_PROXY did not do, as a sentence; `again`: whether it may work a second time."""

    def __init__(self, sentence: str, *, again: bool) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.again = again


@dataclass(frozen=True, slots=True)
class Proxy:
    """`authorization` is a whole header value, "" for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    async def connect(
        self,
        network: httpcore.AsyncNetworkBackend,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
        port: int,
        timeout: float,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to `address` through the proxy. Raises ProxyFailed, and httpcore's timeouts and errors."""
        try:
            stream = await network.connect_tcp(self.host, self.port, timeout)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise ProxyFailed("The proxy of PRELABEL_PROXY could not be reached.", again=True) from None
        try:
            await stream.write(self._request(address, port), timeout)
            self._check(await _head(stream, timeout), port)
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _request(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bytes:
        place = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _check(self, head: bytes, port: int) -> None:
        words = head.split(b"\r\n", 1)[0].split(b" ", 2)
        status = int(words[1]) if words[0].startswith(b"HTTP/") and len(words) > 1 and words[1].isdigit() else 0
        if status in _SUCCESS:
            return
        if status == 407:
            raise ProxyFailed(
                "The proxy of PRELABEL_PROXY asks for a login: write it as http://USER:PASSWORD@HOST:PORT.", again=False
            )
        if status in (400, 403, 405, 501):
            raise ProxyFailed(
                f"The proxy of PRELABEL_PROXY does not open connections to addresses on port {port} (HTTP {status}): "
                "let it allow CONNECT there.",
                again=False,
            )
        if status:
            raise ProxyFailed(f"The proxy of PRELABEL_PROXY could not reach the host (HTTP {status}).", again=True)
        raise ProxyFailed("PRELABEL_PROXY does not answer as an HTTP proxy does.", again=False)


def read_proxy(url: str) -> Proxy | None:
    """Read the setting; None if it is empty. Raises SettingsError, whose text holds no password."""
    if not url.strip():
        return None
    try:
        parts = urlsplit(url.strip())
        user, password = parts.username, parts.password
        origin = parse_http_url(f"http://{parts.netloc.rpartition('@')[2]}").origin
    except (ValueError, ImageError):
        raise SettingsError("PRELABEL_PROXY is no address: write http://HOST:PORT.") from None
    if parts.scheme.lower() in ("socks4", "socks4a", "socks5", "socks5h", "socks"):
        raise SettingsError(
            "PRELABEL_PROXY: SOCKS is not supported. Write the address of the same proxy's HTTP port, http://HOST:PORT."
        )
    if parts.scheme.lower() != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError("PRELABEL_PROXY must be http://HOST:PORT (the proxy itself is spoken to without TLS).")
    if not parts.netloc.rpartition("]")[2].rpartition("@")[2].rpartition(":")[1]:
        raise SettingsError("PRELABEL_PROXY names no port: write http://HOST:PORT, such as http://127.0.0.1:7890.")
    return Proxy(origin.host, origin.port, _basic(user, password))


def _basic(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")


async def _head(stream: httpcore.AsyncNetworkStream, timeout: float) -> bytes:
    """The reply's head. Nothing follows it: on the connection behind it, we speak first."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await stream.read(4_096, timeout)
        if not piece or len(head) > MAX_HEAD_BYTES or b"\r\n\r\n" in head:
            raise ProxyFailed("PRELABEL_PROXY does not answer as an HTTP proxy does.", again=False)
        head += piece
    return head
