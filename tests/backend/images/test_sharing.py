"""Many tasks with one picture, cancelled callers, and closing."""

from __future__ import annotations

import asyncio
import threading

import pytest

from backend.errors import ImageError
from backend.images import FetchedImage, ImageFetcher
from tests.backend.images.conftest import everything_is_loopback, policy
from tests.backend.images.pictures import png
from tests.backend.images.site import Answer, Site, reply, silence
from tests.limits import WAIT_S, eventually


def held(gate: threading.Event) -> Answer:
    """Answers with a picture once `gate` opens."""
    return lambda peer, request: (gate.wait(WAIT_S), reply(png())(peer, request))[1]


def test_tasks_that_share_a_picture_fetch_it_once(site: Site) -> None:
    gate = threading.Event()
    site.routes["/a.png"] = held(gate)

    async def run() -> list[FetchedImage]:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        waiting = [asyncio.create_task(fetcher.fetch(site.url("/a.png"))) for _ in range(20)]
        await eventually(lambda: len(site.requests) == 1)
        gate.set()
        fetched = await asyncio.gather(*waiting)
        await fetcher.aclose()
        return fetched

    assert len({id(fetched) for fetched in asyncio.run(run())}) == 1
    assert len(site.requests) == 1


def test_a_later_task_fetches_it_again(site: Site) -> None:
    site.routes["/a.png"] = reply(png())

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        await fetcher.fetch(site.url("/a.png"))
        await fetcher.fetch(site.url("/a.png"))
        await fetcher.aclose()

    asyncio.run(run())
    assert len(site.requests) == 2


def test_one_caller_leaving_does_not_disturb_the_others(site: Site) -> None:
    gate = threading.Event()
    site.routes["/a.png"] = held(gate)

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        leaving, staying = (asyncio.create_task(fetcher.fetch(site.url("/a.png"))) for _ in range(2))
        await eventually(lambda: len(site.requests) == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.set()
        assert (await staying).picture.rgb
        await fetcher.aclose()

    asyncio.run(run())
    assert len(site.requests) == 1


def test_the_transfer_ends_when_the_last_caller_leaves(site: Site) -> None:
    site.routes["/a.png"] = silence()

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        task = asyncio.create_task(fetcher.fetch(site.url("/a.png")))
        await eventually(lambda: len(site.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        site.routes["/a.png"] = reply(png())
        assert (await fetcher.fetch(site.url("/a.png"))).picture.rgb
        await fetcher.aclose()

    asyncio.run(run())


def test_all_callers_of_a_failed_fetch_get_the_error(site: Site) -> None:
    async def run() -> list[object]:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        outcomes = await asyncio.gather(*(fetcher.fetch(site.url("/x")) for _ in range(5)), return_exceptions=True)
        await fetcher.aclose()
        return list(outcomes)

    assert [isinstance(outcome, ImageError) and outcome.kind for outcome in asyncio.run(run())] == ["not_found"] * 5
    assert len(site.requests) == 1


def test_closing_ends_what_is_under_way_and_refuses_what_comes_later(site: Site) -> None:
    site.routes["/a.png"] = silence()

    async def run() -> None:
        fetcher = ImageFetcher(policy(), resolver=everything_is_loopback)
        task = asyncio.create_task(fetcher.fetch(site.url("/a.png")))
        await eventually(lambda: len(site.requests) == 1)
        await fetcher.aclose()
        for late in (task, fetcher.fetch(site.url("/a.png"))):
            with pytest.raises(ImageError, match="stopping") as caught:
                await late
            assert caught.value.retryable
        await fetcher.aclose()

    asyncio.run(run())
