from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Sequence

import httpcore
import pytest

from backend.errors import ImageError
from backend.images import FetchedImage, ImageFetcher, ImagePolicy, Limits
from tests.backend.images.site import Site
from tests.limits import WAIT_S

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
PATIENT = Limits(
    connect_s=WAIT_S, first_byte_s=WAIT_S, total_s=2 * WAIT_S, queue_s=WAIT_S, num_retries=2, retry_wait_s=0.01
)
"""No limit of time strikes: a test shortens the one it is about."""


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
    """A policy that lets loopback in."""
    return ImagePolicy(**{"allowed_networks": LOOPBACK, "limits": PATIENT, **changes})  # type: ignore[arg-type]


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
