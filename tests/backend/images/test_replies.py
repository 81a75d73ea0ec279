"""Status codes, redirects, wrong lengths and encodings, against a real server."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import replace

import pytest

from tests.backend.images.conftest import PATIENT, fetch, policy, refusal
from tests.backend.images.pictures import RED, noise, pixel, png, saved
from tests.backend.images.site import Answer, Site, in_turn, raw, redirect, reply

KILOBYTE = replace(PATIENT, max_bytes=1000)


def test_a_picture_is_fetched_with_its_facts(site: Site) -> None:
    data = png((64, 48))
    site.routes["/a.png"] = reply(data)
    fetched = fetch(site.url("/a.png"))
    assert (fetched.picture.width_px, fetched.picture.height_px, len(fetched.picture.rgb)) == (64, 48, 64 * 48 * 3)
    assert pixel(fetched.picture, 5, 5) == RED
    assert fetched.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "num_requests"),
    [
        (404, "not_found", False, 1),
        (410, "not_found", False, 1),
        (401, "forbidden", False, 1),
        (403, "forbidden", False, 1),
        (418, "unreachable", False, 1),
        (408, "unreachable", True, 3),
        (429, "unreachable", True, 3),
        (500, "unreachable", True, 3),
        (503, "unreachable", True, 3),
    ],
)
def test_a_status_has_its_meaning(site: Site, status: int, kind: str, retryable: bool, num_requests: int) -> None:
    site.routes["/a.png"] = reply(b"sorry", status=status)
    error = refusal(site.url("/a.png"))
    assert (error.kind, error.retryable, len(site.requests)) == (kind, retryable, num_requests)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(reply(status=503), id="503"),
        pytest.param(reply(status=429, Retry_After="0"), id="429"),
        pytest.param(lambda peer, request: peer.close(), id="hang up"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n\x89PNG"), id="cut off"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"), id="cut off chunk"),
        pytest.param(raw(b"nonsense\r\n\r\n"), id="nonsense"),
    ],
)
def test_a_passing_failure_is_tried_again(site: Site, failure: Answer) -> None:
    site.routes["/a.png"] = in_turn(failure, reply(png()))
    assert fetch(site.url("/a.png")).picture.rgb
    assert len(site.requests) == 2


def test_a_wrong_length_is_tried_again_once(site: Site) -> None:
    site.routes["/a.png"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + png())
    error = refusal(site.url("/a.png"))
    assert (error.kind, error.retryable, len(site.requests)) == ("unreachable", True, 2)


def test_a_retry_after_beyond_the_time_limit_ends_at_once(site: Site) -> None:
    site.routes["/a.png"] = reply(status=429, Retry_After="3600000")
    assert refusal(site.url("/a.png")).retryable
    assert len(site.requests) == 1


def test_a_body_without_length_and_a_chunked_body_are_read(site: Site) -> None:
    data = png()
    site.routes["/plain"] = raw(b"HTTP/1.0 200 OK\r\n\r\n" + data)
    site.routes["/chunked"] = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    )
    assert fetch(site.url("/plain")).sha256 == fetch(site.url("/chunked")).sha256 == hashlib.sha256(data).hexdigest()


class TestSize:
    def test_a_length_above_the_limit_is_refused_unread(self, site: Site) -> None:
        site.routes["/big"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        assert refusal(site.url("/big"), policy(limits=KILOBYTE)).kind == "too_large"
        assert len(site.requests) == 1

    def test_bytes_are_counted_when_there_is_no_length(self, site: Site) -> None:
        site.routes["/big"] = raw(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000)
        assert refusal(site.url("/big"), policy(limits=KILOBYTE)).kind == "too_large"

    def test_exactly_the_limit_is_accepted(self, site: Site) -> None:
        data = png() + b"\0" * (1000 - len(png()))
        site.routes["/fits"] = reply(data)
        assert fetch(site.url("/fits"), policy(limits=KILOBYTE)).sha256 == hashlib.sha256(data).hexdigest()

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    def test_a_compressed_bomb_is_counted_after_decoding(self, site: Site, encoding: str) -> None:
        bomb = gzip.compress(b"\0" * 50_000_000) if encoding == "gzip" else zlib.compress(b"\0" * 50_000_000)
        site.routes["/bomb"] = reply(bomb, Content_Encoding=encoding)
        assert len(bomb) < 60_000
        assert refusal(site.url("/bomb")).kind == "too_large"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_an_encoding_that_was_not_asked_for_is_undone(site: Site, encoding: str, compress: object) -> None:
    data = saved(noise(), "PNG")
    site.routes["/a.png"] = reply(compress(data), Content_Encoding=encoding)  # type: ignore[operator]
    assert fetch(site.url("/a.png")).sha256 == hashlib.sha256(data).hexdigest()
    assert site.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", b"x"), ("gzip", b"not gzip at all"), ("gzip", gzip.compress(png())[:-9])],
    ids=["unknown", "broken", "cut off"],
)
def test_an_encoding_that_cannot_be_undone_is_corrupt(site: Site, encoding: str, body: bytes) -> None:
    site.routes["/a.png"] = reply(body, Content_Encoding=encoding)
    assert refusal(site.url("/a.png")).kind == "corrupt"


class TestRedirects:
    def test_three_are_followed(self, site: Site) -> None:
        site.routes |= {"/1": redirect("/2"), "/2": redirect("3", 307), "/3": redirect(site.url("/4"), 308)}
        site.routes["/4"] = reply(png())
        assert fetch(site.url("/1")).picture.rgb
        assert site.paths() == ["/1", "/2", "/3", "/4"]

    def test_a_loop_ends(self, site: Site) -> None:
        site.routes["/1"] = redirect("/1")
        error = refusal(site.url("/1"))
        assert (error.kind, len(site.requests)) == ("unreachable", PATIENT.max_redirects + 1)

    @pytest.mark.parametrize(
        "location",
        ["file:///etc/passwd", "http://169.254.169.254/latest/", "http://10.0.0.1/", "http://user@127.0.0.1/",
         "ftp://127.0.0.1/a", "//[::1]/", "data:image/png;base64,AAAA"],
    )  # fmt: skip
    def test_one_to_a_forbidden_place_is_refused(self, site: Site, location: str) -> None:
        site.routes["/1"] = redirect(location)
        assert refusal(site.url("/1")).kind in ("blocked", "private_address")

    def test_one_to_nowhere_is_refused(self, site: Site) -> None:
        site.routes["/1"] = reply(status=302)
        assert refusal(site.url("/1")).kind == "unreachable"

    def test_one_to_a_chinese_path_is_followed(self, site: Site) -> None:
        site.routes["/1"] = redirect("/图 片.png")
        site.routes["/%E5%9B%BE%20%E7%89%87.png"] = reply(png())
        assert fetch(site.url("/1")).picture.rgb
