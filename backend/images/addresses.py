"""Which network addresses a picture may come from, and the connection that goes to the checked address and no other.

Covered: private, loopback, link-local, reserved and multicast addresses; the forms that hide one inside IPv6; DNS
rebinding (each new connection resolves once, checks every record, connects to a checked one while Host and SNI keep
the name). Not covered: a public address that forwards to a private one; use network rules for that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor

import httpcore

from backend.errors import ImageError
from backend.images.policy import Network
from backend.images.proxy import Proxy
from backend.images.reply_stream import ReplyStream

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""Host name and port -> its addresses (A and AAAA). Runs in a thread. Raises OSError."""

PUBLIC_PORTS = frozenset({80, 443})
_MAX_ADDRESSES_TRIED = 4
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# Label Studio's list (core/utils/io.py, validate_ip) without the two forms unwrapped below, what `is_global` of
# Python 3.11 still calls public, and the one public address that answers a machine about itself: Azure's wire server.
# The metadata servers of the other clouds lie in these networks. Written out because `is_global` changes.
DENIED: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "::/96",  # unspecified, loopback, and the deprecated IPv4-compatible form ::127.0.0.1
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b:1::/48",  # NAT64 inside one network
    "100::/64", "2001::/23",  # discard; Teredo, ORCHID, benchmarking
    "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",  # documentation, 6to4, documentation, segment routing
    "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
))  # fmt: skip


STAND_INS: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in (
    "198.18.0.0/15", "fc00::/18", "fdfe:dcba:9876::/64",
))  # fmt: skip
"""What proxies that answer DNS themselves hand out by default, to learn which name a connection is for."""


def is_public(address: Address) -> bool:
    """Say whether `address`, and the IPv4 address inside it if it holds one, is on the public internet."""
    address = _unmapped(address)
    if any(address in network for network in DENIED):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:  # DNS64 networks reach every IPv4 host this way
            return is_public(_last_32_bits(address))
        if (int(address) >> 32) & 0xFCFF_FFFF == 0x0000_5EFE:  # ISATAP, with or without the "universal" bits
            return is_public(_last_32_bits(address))
    return address.is_global


def is_allowed(address: Address, port: int, allowed: Iterable[Network]) -> bool:
    """Public addresses on the web's two ports, and listed networks on any port."""
    address = _unmapped(address)
    return any(address in network for network in allowed) or (port in PUBLIC_PORTS and is_public(address))


def system_resolver(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class NameNotFound(httpcore.ConnectError):
    """The resolver knows no address for the host."""


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for an HTTP pool. `allowed` None: to any address (the pool of Label Studio's own origin).

    `proxy`: the way to public addresses; those of `allowed` are reached without it.
    """

    def __init__(
        self,
        resolve: Resolver,
        threads: Executor,
        allowed: tuple[Network, ...] | None,
        network: httpcore.AsyncNetworkBackend,
        proxy: Proxy | None = None,
    ) -> None:
        self._resolve = resolve
        self._threads = threads
        self._allowed = allowed
        self._network = network
        self._proxy = proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve once, refuse if any record is bad, connect to the first that answers within `timeout` in all."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + (timeout or 60.0)
        addresses = await self._checked_addresses(host, port, deadline - clock())
        failure: Exception = httpcore.ConnectError("no address")
        for tried, address in enumerate(addresses):
            share_s = (deadline - clock()) / (len(addresses) - tried)  # one silent address must not use all the time
            if share_s <= 0:
                break
            try:
                if self._proxy is not None and not self._is_listed(address):
                    stream = await self._proxy.connect(self._network, address, port, share_s)
                else:
                    stream = await self._network.connect_tcp(str(address), port, share_s, local_address, socket_options)
                return ReplyStream(stream, host)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _is_listed(self, address: Address) -> bool:
        return any(_unmapped(address) in network for network in self._allowed or ())

    async def _checked_addresses(self, host: str, port: int, timeout_s: float) -> list[Address]:
        addresses = [_parsed(text) for text in await self._look_up(host, port, timeout_s)]
        if self._allowed is not None and not all(is_allowed(a, port, self._allowed) for a in addresses):
            raise _refused(host, port, addresses)
        return addresses[:_MAX_ADDRESSES_TRIED]

    async def _look_up(self, host: str, port: int, timeout_s: float) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, self._resolve, host, port)
        try:
            async with asyncio.timeout(timeout_s):
                found = await lookup
        except TimeoutError:
            raise httpcore.ConnectTimeout("name lookup") from None
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise NameNotFound
        return found

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def stand_in_network(address: Address) -> Network | None:
    """The network of a proxy's stand-in addresses that `address` is of; None for all others."""
    return next((network for network in STAND_INS if _unmapped(address) in network), None)


def _refused(host: str, port: int, addresses: list[Address]) -> ImageError:
    for address in addresses:
        if (network := stand_in_network(address)) is not None:
            return _stand_in_refused(host, _unmapped(address), network)
    if all(is_public(address) for address in addresses):
        reason = f"port {port} of {host} is not a web port (80 or 443)"
    else:
        reason = f"{host} is not on the public internet"
    return ImageError(
        "private_address",
        f"The picture's address is refused: {reason}. If pictures are meant to come from there, "
        "ask the administrator to add its network to PRELABEL_ALLOWED_NETWORKS.",
    )


def _stand_in_refused(host: str, address: Address, network: Network) -> ImageError:
    return ImageError(
        "private_address",
        f"The picture's address is refused: {host} was looked up as {address}, which a proxy on this machine or "
        "network hands out in place of the real one (fake-ip). Have the proxy answer with real addresses "
        "(redir-host, or the host in its fake-ip-filter), or, if it may lead wherever it likes, add "
        f"{network} to PRELABEL_ALLOWED_NETWORKS.",
    )


def _parsed(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])  # getaddrinfo adds %eth0 to a link-local address


def _unmapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address in _MAPPED:
        return _last_32_bits(address)
    return address


def _last_32_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
