from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import httpcore
import pytest

from backend.images import ImagePolicy
from backend.images.addresses import is_allowed, is_public
from tests.backend.images.conftest import fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Site, reply

NOT_PUBLIC = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "233.252.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:20::1", "2001:db8::1", "2002:a9fe:a9fe::1", "2002:7f00:1::", "3fff::1", "fd00:ec2::254", "fc00::1",
    "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "169.254.170.2", "169.254.0.23", "100.100.100.200",
    "100.96.0.96", "fd20:ce::254", "fe80::1", "fec0::1", "ff02::1", "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a9fe:a9fe",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
BESIDE_AZURES = ["168.63.129.15", "168.63.129.17"]


class Tripwire(httpcore.AsyncNetworkBackend):
    """Records where a connection was tried to, and never connects."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.tried.append((host, port))
        raise httpcore.ConnectError


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_special_address_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC + BESIDE_AZURES)
def test_an_internet_address_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_a_listed_network_is_allowed_on_any_port_and_nothing_beside_it() -> None:
    listed = (ipaddress.ip_network("10.1.0.0/16"),)
    assert is_allowed(ipaddress.ip_address("10.1.2.3"), 9000, listed)
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), 9000, listed)
    assert not is_allowed(ipaddress.ip_address("10.2.0.1"), 80, listed)
    assert not is_allowed(ipaddress.ip_address("2002:0a01:0203::"), 80, listed)


HIDDEN = {"localhost": "127.0.0.1", "metadata.google.internal": "169.254.169.254", "rebind.example.com": "10.0.0.1"}


@pytest.mark.parametrize(
    "url",
    [
        *(f"http://[{text}]/a.jpg" if ":" in text else f"http://{text}/a.jpg" for text in NOT_PUBLIC),
        *(f"https://{host}/a.jpg" for host in HIDDEN),
        "http://127.1/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/", "http://user@1.1.1.1/",
        "http://1.1.1.1:22/", "http://1.1.1.1:6379/", "http://1.1.1.1:8080/", r"http://127.0.0.1:6666\@1.1.1.1/",
        "http://[::ffff:7f00:1]/", "http://LOCALHOST./",
    ],
)  # fmt: skip
def test_a_forbidden_address_is_refused_before_any_byte_is_sent(url: str) -> None:
    tripwire = Tripwire()
    error = refusal(url, ImagePolicy(), resolver=lambda host, port: [HIDDEN[host]], network=tripwire)
    assert error.kind in ("private_address", "blocked")
    assert (error.retryable, tripwire.tried) == (False, [])


def test_a_host_with_one_bad_record_is_refused() -> None:
    tripwire = Tripwire()
    error = refusal("http://mixed.example.com/", ImagePolicy(), network=tripwire,
                    resolver=lambda host, port: ["1.1.1.1", "2606:4700:4700::1111", "::1"])  # fmt: skip
    assert (error.kind, tripwire.tried) == ("private_address", [])


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to() -> None:
    answers = [["1.1.1.1"], ["127.0.0.1"]]
    tripwire = Tripwire()
    rules = ImagePolicy(limits=policy(limits=policy().limits).limits)

    def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    error = refusal("http://rebind.example.com/a.jpg", rules, resolver=rebinding, network=tripwire)
    # The first attempt goes to the address that was checked; the retry resolves anew, and is refused anew.
    assert tripwire.tried == [("1.1.1.1", 80)]
    assert error.kind == "private_address"


def test_the_host_header_keeps_the_name(site: Site) -> None:
    site.routes["/a.png"] = reply(png())
    fetch(site.url("/a.png", host="pictures.example.com"))
    assert site.requests[0].headers["host"] == f"pictures.example.com:{site.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(site: Site) -> None:
    site.routes["/a.png"] = reply(png())
    fetched = fetch(site.url("/a.png", host="two.example.com"), resolver=lambda host, port: ["127.0.0.2", "127.0.0.1"])
    assert fetched.picture.rgb


def test_an_unknown_name_says_so() -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    error = refusal("http://nowhere.example.com/a.jpg", resolver=unknown)
    assert (error.kind, error.retryable, str(error)) == (
        "unreachable", True, "The host name nowhere.example.com cannot be found.",
    )  # fmt: skip


def test_environment_proxies_are_ignored(site: Site, other_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other_site.url())
    site.routes["/a.png"] = reply(png())
    fetch(site.url("/a.png"))
    assert other_site.num_connections == 0


def test_a_picture_on_an_ipv6_literal_sends_brackets_in_the_host_header() -> None:
    tripwire = Tripwire()
    refusal("http://[2606:4700:4700::1111]/a.jpg", ImagePolicy(limits=policy().limits), network=tripwire)
    assert set(tripwire.tried) == {("2606:4700:4700::1111", 80)}
