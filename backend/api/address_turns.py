"""Turns of who may be strangers: a few requests are looked at in each round of the loop, of the addresses in a row.

Whose turn it was stands behind all that wait. So who waits, waits for one turn of each address that was there before,
however many new ones come: a stranger may have as many addresses as he likes, and what each has had says nothing.
Nothing is raised.
"""

from __future__ import annotations

import asyncio
from collections import deque


class AddressTurns:
    """Use it from one event loop. `a_round`: turns in each round of it."""

    def __init__(self, a_round: int) -> None:
        self._a_round = self._left = a_round
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, address: str) -> None:
        """Wait for a turn of `address`; what comes until the next wait is in it."""
        if self._left:
            self._take()
            return
        comes = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(comes)
        await comes

    def _take(self) -> None:
        if self._left == self._a_round:
            asyncio.get_running_loop().call_soon(self._next)
        self._left -= 1

    def _next(self) -> None:
        self._left = self._a_round
        while self._waiting and self._left:
            address = next(iter(self._waiting))
            turns = self._waiting.pop(address)
            comes = turns.popleft()
            if turns:
                self._waiting[address] = turns  # behind all others
            if not comes.done():  # else it was cancelled
                comes.set_result(None)
                self._take()
