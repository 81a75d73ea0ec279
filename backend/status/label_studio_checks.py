"""Label Studio as prelabel is told to reach it: address, API key, and where pictures may come from.

`written_checks` judge what is written alone, `label_studio_checks` ask. Nothing here raises.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from backend.errors import ImageError, SettingsError
from backend.images.addresses import Resolver, is_public, stand_in_network, system_resolver
from backend.label_studio.address import LabelStudioAddresses, Site, proxy_that_sees_the_key, site_of
from backend.label_studio.probe import CALL_S, Probe, Trouble, expiry
from backend.predict.named_addresses import NamedAddresses
from backend.settings import Settings, env_name
from backend.status.check import Check, CheckName, bad, doubtful, good, unused
from backend.urls import parse_http_url

ENDS_SOON_S = 7 * 86_400.0


def written_checks(settings: Settings) -> list[Check]:
    """What is wrong with the addresses as they are written, and who else reads the key on the way; nothing else."""
    found = proxy_checks(settings.label_studio_url) if settings.label_studio_api_key.get_secret_value() else []
    for field in ("label_studio_url", "label_studio_public_url"):
        url: str = getattr(settings, field)
        if not url:
            continue
        try:
            parse_http_url(url)
        except ImageError as error:
            reason = str(error).partition(": ")[2].rstrip(".")
            found.append(bad("address", "address_unreadable", setting=env_name(field), url=url, reason=reason))
            continue
        site = site_of(url)
        if site != url.rstrip("/"):
            found.append(bad("address", "address_page", setting=env_name(field), url=url, site=site))
    return found


def proxy_checks(url: str) -> list[Check]:
    if not (variable := proxy_that_sees_the_key(url)):
        return []
    return [doubtful("address", "address_proxy", url=url, variable=variable, host=urlsplit(url).hostname or "")]


def label_studio_checks(
    settings: Settings,
    *,
    call_s: float = CALL_S,
    resolve: Resolver = system_resolver,
    clock: Callable[[], float] = time.time,
) -> list[Check]:
    """Address, API key and networks, in this order. Takes as long as three calls and a name look-up at most."""
    url, api_key = settings.label_studio_url, settings.label_studio_api_key.get_secret_value()
    written = written_checks(settings)
    if wrong := [check for check in written if check.verdict == "bad"]:
        return [*wrong, unused("token", "token_unchecked")]
    if not url:
        return [unused("address", "address_unset"), unused("token", "token_unset")]
    try:
        with Probe(url, extra_ca_file=settings.extra_ca_file, call_s=call_s) as probe:
            checks = _asked(probe, api_key, clock)
    except SettingsError as error:
        return [bad("address", "address_unreadable", setting="PRELABEL_EXTRA_CA_FILE", url=url, reason=str(error))]
    if checks[0].verdict == "good" and written:
        checks[0] = written[0]
    return [*checks, *network_checks(settings, resolve)]


def _asked(probe: Probe, api_key: str, clock: Callable[[], float]) -> list[Check]:
    try:
        address = good("address", "address_good", url=probe.url, version=probe.version())
    except Trouble as trouble:
        return [_troubled("address", trouble), unused("token", "token_unchecked")]
    if not api_key:
        return [address, unused("token", "token_unset")]
    try:
        user = probe.owner(api_key)
    except Trouble as trouble:
        if trouble.code.startswith("address"):
            return [_troubled("address", trouble), unused("token", "token_unchecked")]
        return [address, _troubled("token", trouble)]
    expires_at = expiry(api_key)
    if expires_at is not None and expires_at - clock() < ENDS_SOON_S:
        days = str(max(0, int((expires_at - clock()) // 86_400)))
        return [address, doubtful("token", "token_ends", user=user, days=days)]
    return [address, good("token", "token_good", user=user)]


def _troubled(name: CheckName, trouble: Trouble) -> Check:
    return Check(name, "bad", trouble.code, trouble.values)


def network_checks(settings: Settings, resolve: Resolver = system_resolver) -> Sequence[Check]:
    """Which pictures would be fetched: Label Studio's own always, whichever of its addresses a task has."""
    allowed = settings.allowed_networks
    known = LabelStudioAddresses(settings.label_studio_url, settings.label_studio_public_url)
    NamedAddresses(settings.data_dir, known)
    site = Site.at(settings.label_studio_url)
    if allowed:
        return [good("networks", "networks_listed", networks=", ".join(str(network) for network in allowed))]
    if others := known.others:
        return [good("networks", "networks_public_url", public=", ".join(others), url=site.url)]
    host = site.origin.host
    private = next((a for a in _addresses(host, site.origin.port, resolve) if not is_public(a)), None)
    if private is None:
        return [good("networks", "networks_public")]
    if (stand_in := stand_in_network(private)) is not None:
        named = {"host": host, "ip": str(private), "network": str(stand_in)}
        return [doubtful("networks", "networks_stand_in", **named)]
    size = 24 if private.version == 4 else 64
    network = str(ipaddress.ip_network((private, size), strict=False))
    return [unused("networks", "networks_private", host=host, ip=str(private), network=network)]


def _addresses(host: str, port: int, resolve: Resolver) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(text.partition("%")[0]) for text in resolve(host, port)]
    except (OSError, ValueError):  # that there is no such host is told of the address
        return []
