"""Headers for one host of pictures: which are taken, and where they go."""

from __future__ import annotations

import json
import logging

import pytest

from backend.errors import SettingsError
from backend.images.host_headers import read_host_headers
from backend.settings import load_settings
from backend.urls import Origin
from tests.backend.images.conftest import fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Answer, Site, redirect, reply

REFERER = "https://example.com/"


def referer_only(peer: object, request: object) -> Answer:
    wanted = request.headers.get("referer") == REFERER  # type: ignore[attr-defined]
    return (reply(png()) if wanted else reply(b"<html>", status=403))(peer, request)  # type: ignore[return-value,arg-type]


def test_a_host_that_wants_a_referer_says_so_and_gets_it_from_the_setting(site: Site) -> None:
    site.routes["/a.png"] = referer_only  # type: ignore[assignment]
    url = site.url("/a.png", "img.example.com")
    error = refusal(url)
    assert error.kind == "forbidden"
    assert "hot-link protection" in str(error)
    assert "PRELABEL_PICTURE_HEADERS" in str(error)
    assert "signed address has expired" in str(error)
    headers = json.dumps({"img.example.com": {"Referer": REFERER, "user-agent": "Mozilla/5.0"}})
    assert fetch(url, policy(picture_headers=headers)).picture.rgb
    assert site.requests[-1].headers["user-agent"] == "Mozilla/5.0"
    assert "accept" in site.requests[-1].headers


def test_headers_go_to_their_host_only_and_stay_behind_at_a_redirect(site: Site) -> None:
    site.routes |= {"/a": redirect(site.url("/b", "other.example.com")), "/b": reply(png())}
    headers = json.dumps({"img.example.com": {"Referer": REFERER, "X-Key": "c4n4ry"}})
    fetch(site.url("/a", "img.example.com"), policy(picture_headers=headers))
    assert ["x-key" in request.headers for request in site.requests] == [True, False]
    assert ["referer" in request.headers for request in site.requests] == [True, False]


@pytest.mark.parametrize(
    ("named", "host", "port", "sent"),
    [
        ("img.example.com", "img.example.com", 443, True), ("IMG.Example.com", "img.example.com", 80, True),
        ("img.example.com", "img2.example.com", 443, False), ("img.example.com", "a.img.example.com", 443, False),
        ("*.example.com", "img2.example.com", 443, True), ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False), ("*.example.com", "evilexample.com", 443, False),
        ("img.example.com:8443", "img.example.com", 8443, True),
        ("img.example.com:8443", "img.example.com", 443, False),
        ("例子.测试", "xn--fsqu00a.xn--0zwm56d", 443, True), ("10.1.2.3", "10.1.2.3", 80, True),
        ("[2001:db8::1]", "2001:db8::1", 443, True),
    ],
)  # fmt: skip
def test_a_host_is_found_by_its_name(named: str, host: str, port: int, sent: bool) -> None:
    found = read_host_headers(json.dumps({named: {"Referer": REFERER}}))
    assert bool(found.of(Origin("https", host, port))) is sent


def test_the_most_exact_name_counts() -> None:
    text = '{"*.a.com": {"X": "1"}, "*.b.a.com": {"X": "2"}, "c.b.a.com": {"X": "3"}, "c.b.a.com:81": {"X": "4"}}'
    found = read_host_headers(text)
    hosts = [("z.a.com", 80), ("z.b.a.com", 80), ("c.b.a.com", 80), ("c.b.a.com", 81)]
    assert [found.of(Origin("http", *place))["X"] for place in hosts] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Referer: c4n4ry", "no JSON object"), ('["c4n4ry"]', "no JSON object"), ('{"a.com": "c4n4ry"}', "an object"),
        ('{"a.com": {"Referer": 7}}', '"Referer" of "a.com" must be a text'),
        ('{"a.com": {"Referer": "c4n4ry\\r\\nX: 1"}}', "printable ASCII"),
        ('{"a.com": {"Referer": "图c4n4ry"}}', "%XX"),
        ('{"a.com": {"Re ferer": "c4n4ry"}}', "has no name"), ('{"a.com": {"Host": "c4n4ry"}}', "prelabel's own"),
        ('{"a.com": {"Connection": "c4n4ry"}}', "prelabel's own"), ('{"a.com": {"proxy-Authorization": "c"}}', "own"),
        ('{"a.com": {"Transfer-Encoding": "c4n4ry"}}', "own"), ('{"a.com": {"Range": "c4n4ry"}}', "own"),
        ('{"a.com": {"X": "1", "x": "c4n4ry"}}', "twice"), ('{"a.com": {}, "A.com": {"X": "c4n4ry"}}', "twice"),
        ('{"a.com": {}, "a.com": {}}', "twice"), ('{"https://a.com": {}}', "no host name"),
        ('{"a.com/x": {}}', "no host"),
        ('{"u@a.com": {}}', "no host"), ('{"*": {}}', "no host"), ('{"*.com": {}}', "no host"), ('{"": {}}', "no host"),
        ('{"labels.example": {"Authorization": "c4n4ry"}}', "LABEL_STUDIO_API_KEY only"),
        ('{"*.example.org": {"cookie": "c4n4ry"}}', "LABEL_STUDIO_API_KEY only"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_refuses_to_start_without_showing_a_value(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        policy(
            picture_headers=text,
            label_studio_url="http://labels.example:8080",
            label_studio_public_url="https://shop.example.org",
        )
    assert told in str(caught.value)
    assert "PRELABEL_PICTURE_HEADERS" in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


def test_values_are_in_no_log_and_no_repr(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.routes["/a.png"] = reply(b"sorry", status=403)
    headers = json.dumps({"img.example.com": {"X-Key": "c4n4ry"}})
    rules = policy(picture_headers=headers)
    with caplog.at_level(logging.DEBUG):
        error = refusal(site.url("/a.png", "img.example.com"), rules)
    settings = load_settings({"picture_headers": headers})
    assert site.requests[0].headers["x-key"] == "c4n4ry"
    assert "c4n4ry" not in f"{error} {rules!r} {settings!r} {caplog.text}"
