"""Label Studio's addresses: as people write them, and every one under which the same Label Studio is known.

It has several: the one prelabel reaches it at, the one in people's browsers, the one it calls itself in /setup and
writes into tasks, each with or without a path below the host; and addresses that begin with no host at all. Whatever
stands under any of them is asked for at the first, and only there goes the token. Resolves nothing.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from backend.errors import ImageError
from backend.urls import DEFAULT_PORTS, Origin, Target, parse_http_url

MAX_NAMED = 8
"""Addresses kept of those that /setup has named, the newest."""

# Pages and calls of Label Studio. One word alone (/projects) may be where somebody has put Label Studio itself.
_PAGE = re.compile(
    r"(.*?)/(?:projects/\d.*|projects/|user/(?:login|signup|account|user-account)\b.*|organization/.*|api/.*|"
    r"data/upload/.*|people/.*)",
    re.DOTALL,
)


def site_of(url: str) -> str:
    """The address of the Label Studio that `url` belongs to: without the page in it, query, fragment and last slash."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    page = _PAGE.fullmatch(parts.path)
    path = page[1] if page else parts.path
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def is_on_this_machine(url: str) -> bool:
    """Whether the host is a name or number of this machine itself; False where it is no address at all."""
    try:
        return _is_this_machine(urlsplit(url).hostname or "")
    except ValueError:
        return False


def proxy_that_sees_the_key(url: str) -> str:
    """The environment variable whose proxy calls to this Label Studio go through and can be read by, the API key among
    them; "" where there is none: https is a tunnel to it, and this machine is asked without it."""
    host = urlsplit(url).hostname if url.startswith("http://") else None
    if not host or is_on_this_machine(url) or proxy_bypass(host):
        return ""
    used = [name for scheme in ("http", "all") for name in os.environ if name.lower() == f"{scheme}_proxy"]
    return next((name for name in used if os.environ[name]), "")


def shown_url(url: str, public_url: str) -> str:
    """The address for links that people open, without password and last slash; "" where neither is one."""
    sites = (_readable(re.sub(r"//[^/?#]*@", "//", one, count=1)) for one in (public_url, url))
    return next((site.url for site in sites if site), "")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a Label Studio is. `base` is the path all of its own begin with: "" or "/base"."""

    origin: Origin
    base: str

    @classmethod
    def at(cls, url: str) -> Site:
        """Raises ImageError("blocked") for what is no http(s) address."""
        target = parse_http_url(url)
        return cls(target.origin, target.path.partition("?")[0].rstrip("/"))

    @property
    def url(self) -> str:
        return Target(self.origin, self.base).url

    def target(self, path: str) -> Target:
        """Where `path`, which begins with "/" and may be unescaped, is asked for."""
        return parse_http_url(self.url + path)

    def within(self, target: Target) -> str | None:
        """Path and query of `target` below this site; None if it is elsewhere."""
        if not _same_place(self.origin, target.origin) or not target.path.startswith(self.base + "/"):
            return None
        return target.path.removeprefix(self.base)


class LabelStudioAddresses:
    """One Label Studio. `url`: where prelabel reaches it, "" for nowhere; `public_url`: in people's browsers.

    Raises ImageError("blocked") for a `url` that is no http(s) address; another that is none is passed over.
    """

    def __init__(self, url: str = "", public_url: str = "") -> None:
        self.site: Site | None = Site.at(url) if url else None
        self._public = _readable(public_url)
        self._named: tuple[Site, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The servers of all of them."""
        return tuple(site.origin for site in self._by_length())

    @property
    def others(self) -> tuple[str, ...]:
        """All but the one where prelabel reaches it."""
        found = [site for site in (self._public, *self._named) if site is not None and site != self.site]
        return tuple(site.url for site in found)

    @property
    def named(self) -> tuple[str, ...]:
        """What /setup has named, newest last."""
        return tuple(site.url for site in self._named)

    def name(self, url: str) -> bool:
        """Label Studio calls itself so. Returns whether that is news; what cannot be read is none."""
        site = _readable(url)
        if site is None or site in (self.site, self._public, *self._named):
            return False
        self._named = (*self._named, site)[-MAX_NAMED:]
        return True

    def within(self, target: Target) -> str | None:
        """Path and query below Label Studio of what stands under any of its addresses; None for what does not."""
        found = (site.within(target) for site in self._by_length())
        return next((path for path in found if path is not None), None)

    def without_base(self, path: str) -> str:
        """`path`, which begins with "/" and names no host, without the path that one of the addresses has."""
        bases = (site.base for site in self._by_length() if site.base)
        base = next((base for base in bases if path.startswith(f"{base}/")), "")
        return path.removeprefix(base)

    def _by_length(self) -> list[Site]:
        """All of them, the most exact first."""
        known = [site for site in (self.site, self._public, *self._named) if site is not None]
        return sorted(known, key=lambda site: -len(site.base))


def _readable(url: str) -> Site | None:
    try:
        return Site.at(site_of(url.strip())) if url.strip() else None
    except ImageError:
        return None


def _same_place(one: Origin, other: Origin) -> bool:
    """Whether both name one server: this machine has several names, and http and https of a host are one site where
    neither names a port, because a proxy before Label Studio leads from one to the other."""
    if one.host != other.host and not (_is_this_machine(one.host) and _is_this_machine(other.host)):
        return False
    if all(origin.port == DEFAULT_PORTS[origin.scheme] for origin in (one, other)):
        return True
    return (one.scheme, one.port) == (other.scheme, other.port)


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
