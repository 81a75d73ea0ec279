from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from backend.errors import SettingsError
from backend.images import ImageFetcher, ImagePolicy
from tests.backend.images.conftest import fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Site, redirect, reply

HOST = "pictures.example.com"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> ImagePolicy:
    """A policy that trusts the test's own authority."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return policy(extra_ca_file=tmp_path / "ca.pem")


@pytest.fixture
def serve() -> Iterator[Callable[[trustme.LeafCert], Site]]:
    sites = []

    def start(certificate: trustme.LeafCert) -> Site:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        sites.append(Site({"/a.png": reply(png())}, context))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


Serve = Callable[[trustme.LeafCert], Site]


def test_a_certificate_of_a_trusted_authority_is_accepted(
    authority: trustme.CA, trusted: ImagePolicy, serve: Serve
) -> None:
    site = serve(authority.issue_cert(HOST))
    assert fetch(site.url("/a.png", HOST), trusted).picture.rgb


def test_an_expired_certificate_is_refused(authority: trustme.CA, trusted: ImagePolicy, serve: Serve) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    site = serve(authority.issue_cert(HOST, not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday))
    error = refusal(site.url("/a.png", HOST), trusted)
    assert (error.kind, error.retryable) == ("unreachable", False)
    assert str(error) == f"The TLS certificate of {HOST} has expired."


def test_a_certificate_of_another_host_is_refused(authority: trustme.CA, trusted: ImagePolicy, serve: Serve) -> None:
    site = serve(authority.issue_cert("other.example.com"))
    assert "belongs to another host" in str(refusal(site.url("/a.png", HOST), trusted))


def test_the_name_is_checked_although_the_address_is_connected_to(
    authority: trustme.CA, trusted: ImagePolicy, serve: Serve
) -> None:
    """Two names on one address: a connection made for one must not serve the other unchecked."""
    site = serve(authority.issue_cert(HOST))
    assert fetch(site.url("/a.png", HOST), trusted)
    assert "belongs to another" in str(refusal(site.url("/a.png", "other.example.com"), trusted))
    assert "belongs to another" in str(refusal(site.url("/a.png", "127.0.0.1"), trusted))


def test_an_unknown_authority_is_refused(serve: Serve) -> None:
    site = serve(trustme.CA().issue_cert(HOST))
    error = refusal(site.url("/a.png", HOST))
    assert (error.kind, error.retryable, site.requests) == ("unreachable", False, [])
    assert "not trusted" in str(error)


def test_a_self_signed_certificate_is_refused(serve: Serve, tmp_path: Path) -> None:
    """A root certificate served as a leaf is what `openssl req -x509` makes."""
    root = trustme.CA()
    chain = tmp_path / "self.pem"
    chain.write_bytes(root.private_key_pem.bytes() + root.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    site = Site({"/a.png": reply(png())}, context)
    try:
        assert "self-signed" in str(refusal(site.url("/a.png", HOST)))
    finally:
        site.close()


def test_a_server_without_tls_is_unreachable(site: Site) -> None:
    assert refusal(site.url("/a.png", HOST).replace("http:", "https:")).kind == "unreachable"


def test_a_downgrade_to_http_is_refused(authority: trustme.CA, trusted: ImagePolicy, serve: Serve, site: Site) -> None:
    secure = serve(authority.issue_cert(HOST))
    secure.routes["/1"] = redirect(site.url("/a.png"))
    assert refusal(secure.url("/1", HOST), trusted).kind == "blocked"
    assert site.num_connections == 0


def test_an_upgrade_to_https_is_followed(authority: trustme.CA, trusted: ImagePolicy, serve: Serve, site: Site) -> None:
    secure = serve(authority.issue_cert(HOST))
    site.routes["/1"] = redirect(secure.url("/a.png", HOST))
    assert fetch(site.url("/1"), trusted).picture.rgb


def test_a_file_that_holds_no_authority_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        ImageFetcher(policy(extra_ca_file=tmp_path / "ca.pem"))
