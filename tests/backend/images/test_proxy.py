"""Pictures through an HTTP proxy, a small real one, and what a proxy's stand-in addresses are called."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from backend.errors import SettingsError
from backend.images.proxy import read_proxy
from tests.backend.images.conftest import PATIENT, policy, refusal
from tests.backend.images.conftest import fetch as fetch_by
from tests.backend.images.pictures import png
from tests.backend.images.site import Site, redirect, reply
from tests.limits import WAIT_S

PUBLIC = "93.184.216.34"


@dataclass
class LocalProxy:
    """Leads every connection to `site`, or answers each CONNECT with `answer`. `heads`: what it was asked."""

    site: Site
    answer: bytes = b""
    heads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self._server.server_address[1]}"

    def targets(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(WAIT_S)
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(4_096)
        self.heads.append(head.decode())
        if self.answer:
            peer.sendall(self.answer)
            return
        with socket.create_connection(("127.0.0.1", self.site.port), timeout=WAIT_S) as beyond:
            peer.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=_copy, args=(beyond, peer))
            back.start()
            _copy(peer, beyond)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(site: Site) -> Iterator[LocalProxy]:
    proxy = LocalProxy(site)
    yield proxy
    proxy.close()


def public(host: str, port: int) -> Sequence[str]:
    return [PUBLIC]


def test_the_proxy_is_asked_for_the_checked_address_and_the_host_for_its_name(site: Site, proxy: LocalProxy) -> None:
    site.routes["/a.png"] = reply(png())
    assert fetch_by("http://img.example.com/a.png", policy(proxy_url=proxy.url()), resolver=public).picture.rgb
    assert proxy.targets() == [f"{PUBLIC}:80"]
    assert "img.example.com" not in proxy.heads[0]
    assert site.requests[0].headers["host"] == "img.example.com"


def test_tls_goes_through_it_and_is_checked_by_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("img.example.com").configure_cert(context)
    site = Site({"/a.png": reply(png())}, context)
    proxy = LocalProxy(site)
    rules = policy(proxy_url=proxy.url(), extra_ca_file=tmp_path / "ca.pem")
    try:
        assert fetch_by("//img.example.com/a.png", rules, resolver=public).picture.rgb
        assert "certificate" in str(refusal("https://other.example.com/a.png", rules, resolver=public))
    finally:
        proxy.close()
        site.close()
    assert set(proxy.targets()) == {f"{PUBLIC}:443"}


def test_an_ipv6_address_is_written_in_brackets(site: Site, proxy: LocalProxy) -> None:
    site.routes["/a.png"] = reply(png())
    fetch_by("http://a.com/a.png", policy(proxy_url=proxy.url()), resolver=lambda *_: ["2606:4700:4700::1111"])
    assert proxy.targets() == ["[2606:4700:4700::1111]:80"]


def test_a_login_is_sent_to_the_proxy_only(site: Site, proxy: LocalProxy) -> None:
    site.routes["/a.png"] = reply(png())
    rules = policy(proxy_url=proxy.url("me:p%40ss@"))
    fetch_by("http://a.com/a.png", rules, resolver=public)
    assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in proxy.heads[0]
    assert "proxy-authorization" not in site.requests[0].headers
    assert "p%40ss" not in repr(rules)
    assert "bWU6" not in repr(rules)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.2", "169.254.169.254", "::1", "198.18.0.23"])
def test_what_is_refused_without_a_proxy_is_refused_with_one(site: Site, proxy: LocalProxy, address: str) -> None:
    rules = policy(proxy_url=proxy.url(), allowed_networks=())
    assert refusal("http://a.com/a.png", rules, resolver=lambda *_: [address]).kind == "private_address"
    site.routes["/a"] = redirect("http://inside.example.com/b")
    known = {"a.com": PUBLIC, "inside.example.com": address}
    assert refusal("http://a.com/a", rules, resolver=lambda host, _: [known[host]]).kind == "private_address"
    assert proxy.targets() == [f"{PUBLIC}:80"]


def test_allowed_networks_and_label_studio_are_reached_without_it(site: Site, proxy: LocalProxy) -> None:
    site.routes |= {"/a.png": reply(png()), "/data/upload/1/a.png": reply(png())}
    fetch_by(site.url("/a.png"), policy(proxy_url=proxy.url()))
    fetch_by("/data/upload/1/a.png", policy(proxy_url=proxy.url(), label_studio_url=site.url(), allowed_networks=()))
    assert proxy.heads == []


def test_a_name_that_only_the_proxy_knows_is_refused_with_the_reason(proxy: LocalProxy) -> None:
    error = refusal("http://a.com/a.png", policy(proxy_url=proxy.url()), resolver=lambda *_: [])
    assert "a.com cannot be found. PRELABEL_PROXY is not asked for names" in str(error)
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("answer", "told", "retryable", "times"),
    [
        (b"HTTP/1.1 407 Login\r\n\r\n", "asks for a login", False, 1),
        (b"HTTP/1.1 403 No\r\n\r\n", "allow CONNECT", False, 1),
        (b"HTTP/1.1 405 No\r\n\r\n", "allow CONNECT", False, 1),
        (b"HTTP/1.1 502 Bad\r\n\r\n", "could not reach the host (HTTP 502)", True, 3),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer as an HTTP proxy", False, 1),
        (b"\x05\xff", "does not answer as an HTTP proxy", False, 1),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "does not answer as an HTTP proxy", False, 1),
    ],
)
def test_what_the_proxy_does_not_do_is_told(
    proxy: LocalProxy, answer: bytes, told: str, retryable: bool, times: int
) -> None:
    proxy.answer = answer
    error = refusal("http://a.com/a.png", policy(proxy_url=proxy.url()), resolver=public)
    assert (error.kind, error.retryable) == ("unreachable", retryable)
    assert told in str(error)
    assert "PRELABEL_PROXY" in str(error)
    assert len(proxy.heads) == times


def test_a_proxy_that_is_not_there_is_named(proxy: LocalProxy) -> None:
    proxy.close()
    error = refusal("http://a.com/a.png", policy(proxy_url=proxy.url(), limits=PATIENT), resolver=public)
    assert (str(error), error.retryable) == ("The proxy of PRELABEL_PROXY could not be reached.", True)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("socks5://127.0.0.1:1080", "SOCKS is not supported"), ("socks5h://u:c4n4ry@a:1", "HTTP port"),
        ("https://127.0.0.1:443", "without TLS"), ("127.0.0.1:7890", "http://HOST:PORT"), ("http://", "no address"),
        ("http://127.0.0.1", "no port"), ("http://u:c4n4ry@127.0.0.1", "no port"), ("http://a:99999", "no address"),
        ("http://a:1/path", "http://HOST:PORT"), ("http://[::1", "no address"), ("ftp://a:1", "http://HOST:PORT"),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_refuses_to_start(url: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        policy(proxy_url=url)
    assert told in str(caught.value)
    assert "PRELABEL_PROXY" in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


def test_no_proxy_is_the_default() -> None:
    assert read_proxy(" ") is None
    assert policy().proxy is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.18.0.23", "198.18.0.0/15"), ("198.19.255.1", "198.18.0.0/15"), ("::ffff:198.18.0.5", "198.18.0.0/15"),
        ("fc00::1a", "fc00::/18"), ("fdfe:dcba:9876::5", "fdfe:dcba:9876::/64"),
    ],
)  # fmt: skip
def test_a_proxys_stand_in_address_is_called_that_with_what_helps(address: str, network: str) -> None:
    error = refusal("https://img.alicdn.com/a.jpg", policy(allowed_networks=()), resolver=lambda *_: [address])
    assert error.kind == "private_address"
    for words in ("img.alicdn.com was looked up as", "fake-ip", f"add {network} to PRELABEL_ALLOWED_NETWORKS"):
        assert words in str(error)


@pytest.mark.parametrize("address", ["10.0.0.1", "198.51.100.1", "fd00::1"])
def test_other_private_addresses_are_not_called_that(address: str) -> None:
    error = refusal("https://img.alicdn.com/a.jpg", policy(allowed_networks=()), resolver=lambda *_: [address])
    assert "is not on the public internet" in str(error)
