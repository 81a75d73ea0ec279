"""Whose turn it is to use the network: so many transfers per host, so many in all.

Hosts that never answered share only a part of the total, so that a hundred dead hosts cannot hold up a live one.
Raises ImageError("timeout", retryable) when no turn comes in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cachetools import LRUCache

from backend.errors import ImageError
from backend.images.policy import Limits

_MAX_PROVEN_HOSTS = 1024


class Turns:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = asyncio.Semaphore(limits.max_total)
        self._unproven = asyncio.Semaphore(limits.max_unproven)
        self._hosts: dict[str, tuple[asyncio.Semaphore, int]] = {}
        self._proven: LRUCache[str, bool] = LRUCache(_MAX_PROVEN_HOSTS)

    @asynccontextmanager
    async def take(self, host: str) -> AsyncIterator[None]:
        """Hold one turn for `host` while the block runs."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._limits.queue_s):
                    await held.enter_async_context(self._turn_of_host(host))
                    if host not in self._proven:
                        await held.enter_async_context(self._unproven)
                    await held.enter_async_context(self._total)
            except TimeoutError:
                raise ImageError("timeout", "Too many pictures are being fetched; try again.", retryable=True) from None
            yield

    def mark_proven(self, host: str) -> None:
        """`host` answered."""
        self._proven[host] = True

    def mark_unproven(self, host: str) -> None:
        """`host` could not be reached or stayed silent."""
        self._proven.pop(host, None)

    @asynccontextmanager
    async def _turn_of_host(self, host: str) -> AsyncIterator[None]:
        turn, num_users = self._hosts.get(host) or (asyncio.Semaphore(self._limits.max_per_host), 0)
        self._hosts[host] = (turn, num_users + 1)
        try:
            async with turn:
                yield
        finally:
            _, num_users = self._hosts[host]
            if num_users == 1:
                del self._hosts[host]
            else:
                self._hosts[host] = (turn, num_users - 1)
