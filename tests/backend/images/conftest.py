from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Sequence

import httpcore
import pytest

from backend.errors import ImageError
from backend.images import FetchedImage, ImageFetcher, ImagePolicy, Limits
from tests.backend.images.site import Site

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Limits(connect_s=0.5, first_byte_s=0.5, total_s=3.0, queue_s=5.0, retry_wait_s=0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def other_site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def everything_is_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def policy(**changes: object) -> ImagePolicy:
    """A policy that lets loopback in, with short limits."""
    return ImagePolicy(**{"allowed_networks": LOOPBACK, "limits": QUICK, **changes})  # type: ignore[arg-type]


def fetch(
    url: object,
    rules: ImagePolicy | None = None,
    *,
    task_id: int | None = None,
    resolver: Callable[[str, int], Sequence[str]] = everything_is_loopback,
    network: httpcore.AsyncNetworkBackend | None = None,
) -> FetchedImage:
    """Fetch once, in an event loop and a fetcher of its own."""

    async def run() -> FetchedImage:
        fetcher = ImageFetcher(rules or policy(), resolver=resolver, network=network)
        try:
            return await fetcher.fetch(url, task_id=task_id)
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


def refusal(url: object, rules: ImagePolicy | None = None, **more: object) -> ImageError:
    """Fetch what must fail, and return why."""
    with pytest.raises(ImageError) as caught:
        fetch(url, rules, **more)  # type: ignore[arg-type]
    return caught.value
