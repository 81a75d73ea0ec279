"""Sources that answer late, drip, or never answer, and what they do to others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import replace

import pytest

from backend.errors import ImageError
from backend.images import ImageFetcher
from tests.backend.images.conftest import QUICK, everything_is_loopback, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Request, Site, drip, raw, reply, silence, wait_until

SHORT = replace(QUICK, connect_s=0.2, first_byte_s=0.2, total_s=0.6)


def test_a_host_that_never_answers_is_given_up(site: Site) -> None:
    site.routes["/a.png"] = silence()
    error = refusal(site.url("/a.png"), policy(limits=SHORT))
    assert (error.kind, error.retryable) == ("timeout", True)


def test_a_drip_is_given_up_although_bytes_keep_coming(site: Site) -> None:
    site.routes["/a.png"] = drip(png() * 10, 0.05, site.stop)
    error = refusal(site.url("/a.png"), policy(limits=SHORT))
    assert (error.kind, error.retryable, len(site.requests)) == ("timeout", True, 1)
    assert "slowly" in str(error)


def test_a_drip_of_headers_is_given_up(site: Site) -> None:
    def write(peer: object, _: object) -> None:
        drip_head = b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 100
        for byte in drip_head:
            if site.stop.wait(0.05):
                return
            peer.sendall(bytes([byte]))  # type: ignore[attr-defined]

    site.routes["/a.png"] = write
    assert refusal(site.url("/a.png"), policy(limits=SHORT)).kind == "timeout"


def test_a_body_that_stops_in_the_middle_is_given_up(site: Site) -> None:
    def write(peer: object, _: object) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + png())  # type: ignore[attr-defined]
        site.stop.wait(10)

    site.routes["/a.png"] = write
    assert refusal(site.url("/a.png"), policy(limits=SHORT)).kind == "timeout"


def test_a_steady_but_long_transfer_ends_at_the_total_limit(site: Site) -> None:
    patient = replace(SHORT, min_bytes_per_s=1, first_byte_s=5.0)
    site.routes["/a.png"] = drip(b"x" * 1000, 0.05, site.stop)
    error = refusal(site.url("/a.png"), policy(limits=patient))
    assert (error.kind, "in time" in str(error)) == ("timeout", True)


def test_a_resolver_that_hangs_is_given_up(site: Site) -> None:
    def hang(host: str, port: int) -> list[str]:
        site.stop.wait(1.0)
        return ["127.0.0.1"]

    error = refusal("http://slow-dns.example.com/", policy(limits=replace(SHORT, num_retries=0)), resolver=hang)
    assert error.kind == "timeout"


def test_endless_headers_are_refused(site: Site) -> None:
    site.routes["/a.png"] = raw(b"HTTP/1.1 200 OK\r\n" + b"X-Pad: " + b"y" * 200_000 + b"\r\n\r\n")
    assert refusal(site.url("/a.png")).kind == "unreachable"


def test_a_hundred_dead_hosts_do_not_hold_up_a_live_one(site: Site, other_site: Site) -> None:
    """The live host answers while most of the dead ones still wait for their turn."""
    other_site.routes["/a.png"] = silence()
    site.routes["/a.png"] = reply(png())
    limits = replace(QUICK, first_byte_s=0.4, total_s=1.0, queue_s=20.0, max_total=10, max_unproven=6)

    async def run() -> tuple[int, list[object]]:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        live = site.url("/a.png", host="live.example.com")
        await fetcher.fetch(live)
        dead = [
            asyncio.create_task(fetcher.fetch(other_site.url("/a.png", f"dead{n}.example.com"))) for n in range(100)
        ]
        await asyncio.sleep(0.1)
        for n in range(20):
            await fetcher.fetch(f"{live}?{n}")
        num_waiting = sum(not task.done() for task in dead)
        await fetcher.aclose()
        return num_waiting, await asyncio.gather(*dead, return_exceptions=True)

    num_waiting, outcomes = asyncio.run(run())
    assert num_waiting > 50
    assert all(isinstance(outcome, ImageError) for outcome in outcomes)
    assert other_site.most_at_once <= 2 * limits.max_unproven  # the site sees a hang-up a little later


def test_one_host_gets_at_most_four_connections(site: Site) -> None:
    def slowly(peer: socket.socket, request: Request) -> None:
        time.sleep(0.02)  # long enough for others to come in
        reply(png())(peer, request)

    site.routes["/a.png"] = slowly

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        await asyncio.gather(*(fetcher.fetch(site.url(f"/a.png?{n}")) for n in range(30)))
        await fetcher.aclose()

    asyncio.run(run())
    assert len(site.requests) == 30
    assert site.most_at_once <= QUICK.max_per_host


def test_what_a_person_waits_for_does_not_queue_behind_bulk_work_of_the_same_host(site: Site) -> None:
    site.routes["/slow.png"] = silence()
    site.routes["/a.png"] = reply(png())
    limits = replace(QUICK, first_byte_s=3.0)

    async def run() -> tuple[bool, bool]:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        bulk = [asyncio.create_task(fetcher.fetch(site.url(f"/slow.png?{n}"))) for n in range(QUICK.max_per_host)]
        await asyncio.to_thread(wait_until, lambda: len(site.requests) == QUICK.max_per_host)
        shared = asyncio.create_task(fetcher.fetch(site.url("/a.png")))
        await fetcher.fetch(site.url("/a.png"), interactive=True)
        waiting = (any(task.done() for task in bulk), shared.done())
        await fetcher.aclose()
        await asyncio.gather(*bulk, shared, return_exceptions=True)
        return waiting

    assert asyncio.run(run()) == (False, False)


def test_waiting_for_a_turn_has_a_limit(site: Site) -> None:
    site.routes["/a.png"] = silence()
    limits = replace(QUICK, max_per_host=1, queue_s=0.1, first_byte_s=0.5, total_s=0.5, num_retries=0)

    async def run() -> list[str]:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        urls = [site.url(f"/a.png?{n}") for n in range(2)]
        outcomes = await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
        await fetcher.aclose()
        return [str(outcome) for outcome in outcomes]

    assert asyncio.run(run())[1] == "Too many pictures are being fetched; try again."


def test_the_callers_own_patience_ends_the_wait_and_the_transfer(site: Site) -> None:
    site.routes["/a.png"] = silence()

    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=replace(QUICK, first_byte_s=5.0)), resolver=everything_is_loopback)
        with pytest.raises(ImageError, match="not there in time") as caught:
            await fetcher.fetch(site.url("/a.png"), timeout_s=0.1)
        assert (caught.value.kind, caught.value.retryable) == ("timeout", True)
        await fetcher.aclose()

    asyncio.run(run())
    assert len(site.requests) == 1


def test_a_connection_is_given_back_after_each_failure(site: Site) -> None:
    """More failures than connections: the pool must not run dry."""
    site.routes["/slow"] = silence()
    site.routes["/cut"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nxx")
    site.routes["/a.png"] = reply(png())
    limits = replace(QUICK, first_byte_s=0.05, total_s=0.1, max_total=3, max_unproven=3, num_retries=0)

    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        urls = [site.url(f"/{path}?{n}") for n in range(8) for path in ("slow", "cut", "missing")]
        outcomes = await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
        assert all(isinstance(outcome, ImageError) for outcome in outcomes)
        for _ in range(50):  # on a busy machine 0.1 s may be too short for any one of them
            with contextlib.suppress(ImageError):
                await fetcher.fetch(site.url("/a.png"))
                break
        else:
            raise AssertionError("no connection was left")
        await fetcher.aclose()

    asyncio.run(run())
    wait_until(lambda: site.num_open == 0)
