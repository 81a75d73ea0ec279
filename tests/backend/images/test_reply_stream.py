"""What of a reply is parsed on the event loop has an end, whatever a host writes to be slow."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from backend.errors import ImageError
from backend.images import ImageFetcher, Limits
from backend.images.reply_stream import MAX_LINES
from tests.backend.images.conftest import everything_is_loopback, fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Site, raw

MANY = 20 * MAX_LINES
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PNG = png()
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PNG), PNG)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * MANY + b"Content-Length: 0\r\n\r\n", "lines", id="lines"),
        pytest.param(b"HTTP/1.1 200 OK\n" + b"a:\n" * MANY, "lines", id="lines without an end"),
        pytest.param(b"HTTP/1.1 404 No\r\n" + b"a:\r\n" * MANY + b"\r\n", "lines", id="lines of a refusal"),
        pytest.param(b"HTTP/1.1 302 There\r\nLocation: b\r\n" + b"a:\r\n" * MANY, "lines", id="of a redirect"),
        pytest.param(b"HTTP/1.1 103 Soon\r\n\r\n" * MANY, "lines", id="announcements"),
        pytest.param(b"HTTP/1.1 100 Go\n\n" * MANY + WHOLE, "lines", id="announcements, and a picture"),
        pytest.param(CHUNKED + b"1\r\nx\r\n" * MANY, "tiny pieces", id="chunks of a byte"),
        pytest.param(CHUNKED + (b"40\r\n" + b"x" * 64 + b"\r\n") * MANY, "tiny pieces", id="chunks of 64 bytes"),
    ],
)
def test_a_reply_that_is_written_to_be_slow_is_refused_by_name(site: Site, reply: bytes, said: str) -> None:
    site.routes["/a.png"] = raw(reply)
    error = refusal(site.url("/a.png"))
    assert (error.kind, error.retryable) == ("unreachable", False)
    assert said in str(error)
    assert "127.0.0.1" in str(error)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(WHOLE, id="usual"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5 + WHOLE, id="announced"),
        pytest.param(WHOLE.replace(b"OK\r\n", b"OK\r\n" + b"Set-Cookie: a=b\r\n" * 200), id="many cookies"),
        pytest.param(WHOLE.replace(b"OK\r\n", b"OK\r\nX: " + b"a" * 30_000 + b"\r\n"), id="a long line"),
        pytest.param(WHOLE.replace(b"\r\n", b"\n", 3), id="ends of lines as Unix writes them"),
    ],
)
def test_a_picture_of_any_usual_reply_is_read(site: Site, reply: bytes) -> None:
    site.routes["/a.png"] = raw(reply)
    assert fetch(site.url("/a.png")).picture.rgb


def test_a_picture_may_be_made_of_line_ends_and_come_in_chunks_of_a_usual_size(site: Site) -> None:
    """What is no picture is refused as such, so all of it was read."""
    body = b"\n" * 1_000_000
    site.routes["/a.png"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert refusal(site.url("/a.png"), policy(limits=Limits())).kind == "not_an_image"
    pieces = b"".join(b"%x\r\n%s\r\n" % (1_000, b"\n" * 1_000) for _ in range(1_000))
    site.routes["/a.png"] = raw(CHUNKED + b"1\r\n\n\r\n" * 200 + pieces + b"0\r\n\r\n")
    assert refusal(site.url("/a.png"), policy(limits=Limits())).kind == "not_an_image"


@pytest.mark.parametrize("num_bytes", [20 * 2**20, 40 * 2**20])
def test_the_event_loop_goes_on_while_one_read_is_inflated(site: Site, num_bytes: int) -> None:
    body = gzip.compress(bytes(num_bytes))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    site.routes["/a.png"] = raw(head % len(body) + body)
    error, rounds = asyncio.run(_refusal_and_rounds(site.url("/a.png")))
    assert rounds > 100
    assert error.kind == ("not_an_image" if num_bytes < Limits().max_bytes else "too_large")


async def _refusal_and_rounds(url: str) -> tuple[ImageError, int]:
    """How often the loop went around meanwhile."""
    fetcher = ImageFetcher(policy(limits=Limits()), resolver=everything_is_loopback)
    rounds = 0
    fetching = asyncio.ensure_future(fetcher.fetch(url))
    while not fetching.done():
        rounds += 1
        await asyncio.sleep(0 if rounds < 200 else 0.01)
    await fetcher.aclose()
    error = fetching.exception()
    assert isinstance(error, ImageError)
    return error, rounds
