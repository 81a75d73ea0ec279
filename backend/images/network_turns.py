"""Whose turn it is to use the network: so many transfers per host, so many in all, and projects in turns.

Hosts that never answered share only a part of the total, so that a hundred dead hosts cannot hold up a live one; and no
project has all of either, nor of a host, so that one whose pictures come slowly cannot hold up another.
Raises ImageError("timeout", retryable) when no turn comes in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from cachetools import LRUCache

from backend.errors import ImageError
from backend.fair_turns import FairTurns
from backend.images.policy import Limits

_MAX_PROVEN_HOSTS = 1024


class Turns:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = FairTurns()
        self._proven: LRUCache[str, bool] = LRUCache(_MAX_PROVEN_HOSTS)

    @asynccontextmanager
    async def take(self, project: str, host: str) -> AsyncIterator[None]:
        """Hold one turn of `project` for `host` while the block runs."""
        try:
            async with asyncio.timeout(self._limits.queue_s):
                end = await self._turns.begin(project, lambda: self._needs(project, host))
        except TimeoutError:
            raise ImageError("timeout", "Too many pictures are being fetched; try again.", retryable=True) from None
        try:
            yield
        finally:
            end()

    def mark_proven(self, host: str) -> None:
        """`host` answered."""
        self._proven[host] = True

    def mark_unproven(self, host: str) -> None:
        """`host` could not be reached or stayed silent."""
        self._proven.pop(host, None)

    def _needs(self, project: str, host: str) -> Iterator[tuple[str, int]]:
        limits = self._limits
        yield "any", limits.max_total
        yield f"any of {project}", limits.most_of_one_project(limits.max_total)
        yield f"host {host}", limits.max_per_host + 1
        yield f"host {host} of {project}", limits.max_per_host
        if host not in self._proven:
            yield "unproven", limits.max_unproven
            yield f"unproven of {project}", limits.most_of_one_project(limits.max_unproven)
