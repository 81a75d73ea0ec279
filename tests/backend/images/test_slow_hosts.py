"""Sources that answer late, drip, or never answer, and what they do to others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import replace

import pytest

from backend.errors import ImageError
from backend.images import ImageFetcher
from tests.backend.images.conftest import PATIENT, everything_is_loopback, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Request, Site, drip, raw, reply, silence
from tests.limits import WAIT_S, eventually, until

SHORT_SILENCE = replace(PATIENT, first_byte_s=0.1)
SHORT_IN_ALL = replace(PATIENT, total_s=0.3)


def test_a_host_that_never_answers_is_given_up(site: Site) -> None:
    site.routes["/a.png"] = silence()
    error = refusal(site.url("/a.png"), policy(limits=SHORT_SILENCE))
    assert (error.kind, error.retryable) == ("timeout", True)


def test_a_drip_is_given_up_although_bytes_keep_coming(site: Site) -> None:
    """It is not tried again, which silence is: so often here that this test would not end."""
    site.routes["/a.png"] = drip(b"x" * 1_000_000, 0, site.stop)
    limits = replace(PATIENT, first_byte_s=0.3, min_bytes_per_s=10**12, num_retries=10**6)
    error = refusal(site.url("/a.png"), policy(limits=limits))
    assert (error.kind, error.retryable) == ("timeout", True)
    assert "slowly" in str(error)


def test_a_drip_of_headers_is_given_up(site: Site) -> None:
    def write(peer: socket.socket, _: Request) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        while not site.stop.wait(0.05):
            peer.sendall(b"X: 1\r\n")

    site.routes["/a.png"] = write
    assert refusal(site.url("/a.png"), policy(limits=SHORT_IN_ALL)).kind == "timeout"


def test_a_body_that_stops_in_the_middle_is_given_up(site: Site) -> None:
    def write(peer: socket.socket, request: Request) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + png())
        silence()(peer, request)

    site.routes["/a.png"] = write
    assert refusal(site.url("/a.png"), policy(limits=SHORT_SILENCE)).kind == "timeout"


def test_a_steady_but_long_transfer_ends_at_the_total_limit(site: Site) -> None:
    site.routes["/a.png"] = drip(b"x" * 100_000, 0.05, site.stop)
    error = refusal(site.url("/a.png"), policy(limits=SHORT_IN_ALL))
    assert (error.kind, "in time" in str(error)) == ("timeout", True)


def test_a_resolver_that_hangs_is_given_up(site: Site) -> None:
    def hang(host: str, port: int) -> list[str]:
        site.stop.wait(WAIT_S)
        return ["127.0.0.1"]

    limits = replace(PATIENT, connect_s=0.1, num_retries=0)
    assert refusal("http://slow-dns.example.com/", policy(limits=limits), resolver=hang).kind == "timeout"


def test_endless_headers_are_refused(site: Site) -> None:
    site.routes["/a.png"] = raw(b"HTTP/1.1 200 OK\r\n" + b"X-Pad: " + b"y" * 200_000 + b"\r\n\r\n")
    assert refusal(site.url("/a.png")).kind == "unreachable"


def test_a_hundred_dead_hosts_do_not_hold_up_a_live_one(site: Site, other_site: Site) -> None:
    """The live host answers while some of the dead ones are waited for and the others wait for their turn."""
    other_site.routes["/a.png"] = silence()
    site.routes["/a.png"] = reply(png())
    limits = replace(PATIENT, max_total=10, max_unproven=6)

    async def run() -> list[object]:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        live = site.url("/a.png", host="live.example.com")
        await fetcher.fetch(live)
        dead = [
            asyncio.create_task(fetcher.fetch(other_site.url("/a.png", f"dead{n}.example.com"), project=f"{n}"))
            for n in range(100)
        ]
        await eventually(lambda: len(other_site.requests) == limits.max_unproven)
        for n in range(20):
            await fetcher.fetch(f"{live}?{n}")
        assert not any(task.done() for task in dead)
        await fetcher.aclose()
        return list(await asyncio.gather(*dead, return_exceptions=True))

    assert all(isinstance(outcome, ImageError) for outcome in asyncio.run(run()))
    assert other_site.most_at_once == limits.max_unproven


def test_one_host_gets_at_most_four_connections(site: Site) -> None:
    lock, gate = threading.Lock(), threading.Event()
    at_work = most_at_work = 0

    def answer(peer: socket.socket, request: Request) -> None:
        nonlocal at_work, most_at_work
        with lock:
            at_work += 1
            most_at_work = max(most_at_work, at_work)
        gate.wait(WAIT_S)
        with lock:
            at_work -= 1
        reply(png())(peer, request)

    site.routes["/a.png"] = answer

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        fetching = [asyncio.create_task(fetcher.fetch(site.url(f"/a.png?{n}"))) for n in range(30)]
        await eventually(lambda: at_work >= PATIENT.max_per_host)
        gate.set()
        await asyncio.gather(*fetching)
        await fetcher.aclose()

    asyncio.run(run())
    assert len(site.requests) == 30
    assert most_at_work == PATIENT.max_per_host == 4


def test_what_a_person_waits_for_does_not_queue_behind_bulk_work_of_the_same_host(site: Site) -> None:
    site.routes["/slow.png"] = silence()
    site.routes["/a.png"] = reply(png())

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        bulk = [asyncio.create_task(fetcher.fetch(site.url(f"/slow.png?{n}"))) for n in range(PATIENT.max_per_host)]
        await eventually(lambda: len(site.requests) == PATIENT.max_per_host)
        shared = asyncio.create_task(fetcher.fetch(site.url("/a.png")))
        await fetcher.fetch(site.url("/a.png"), interactive=True)
        assert not any(task.done() for task in (*bulk, shared))
        await fetcher.aclose()
        await asyncio.gather(*bulk, shared, return_exceptions=True)

    asyncio.run(run())


def test_waiting_for_a_turn_has_a_limit(site: Site) -> None:
    site.routes["/a.png"] = silence()

    async def run() -> None:
        limits = replace(PATIENT, max_per_host=1, queue_s=0.1)
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        first = asyncio.create_task(fetcher.fetch(site.url("/a.png?1")))
        await eventually(lambda: len(site.requests) == 1)
        with pytest.raises(ImageError, match="Too many pictures are being fetched"):
            await fetcher.fetch(site.url("/a.png?2"))
        await fetcher.aclose()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())


def test_the_callers_own_patience_ends_the_wait_and_the_transfer(site: Site) -> None:
    site.routes["/a.png"] = silence()

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        with pytest.raises(ImageError, match="not there in time") as caught:
            await fetcher.fetch(site.url("/a.png"), timeout_s=0.1)
        assert (caught.value.kind, caught.value.retryable) == ("timeout", True)
        await eventually(lambda: site.num_open == 0)
        await fetcher.aclose()

    asyncio.run(run())


def test_a_connection_is_given_back_after_each_failure(site: Site) -> None:
    """More failures than connections: the pool must not run dry."""
    site.routes["/slow"] = silence()
    site.routes["/cut"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nxx")
    site.routes["/a.png"] = reply(png())
    limits = replace(SHORT_SILENCE, max_total=3, max_unproven=3, num_retries=0)

    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        urls = [site.url(f"/{path}?{n}") for n in range(8) for path in ("slow", "cut", "missing")]
        outcomes = await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
        assert all(isinstance(outcome, ImageError) for outcome in outcomes)
        for _ in range(100):  # on a busy machine the limit of silence may be too short for any one of them
            with contextlib.suppress(ImageError):
                await fetcher.fetch(site.url("/a.png"))
                break
        else:
            raise AssertionError("no connection was left")
        await fetcher.aclose()

    asyncio.run(run())
    until(lambda: site.num_open == 0)
