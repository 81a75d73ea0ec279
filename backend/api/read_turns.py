"""Whose bytes are parsed next: that of a thousand connections which all send at once keeps nothing else waiting.

asyncio handles in one round whatever has come by then, and parsing one head or the trailers of a body takes up to some
milliseconds. Here a round has an end, and addresses take turns: who comes from another waits for one of each, not for
all. In between the loop goes on with what is under way. Nothing is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

ROUND_S = 0.002
"""Of CPU for parsing in one round of the loop; what has begun is not cut."""

Parse = Callable[[], None]


class ReadTurns:
    """Use it from one event loop. `clock`: seconds of CPU that the loop's thread has had."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._waiting: dict[str, deque[Parse]] = {}
        self._spent_s = 0.0
        self._is_round = False

    def take(self, address: str, parse: Parse) -> None:
        """Call `parse`: now, or in a turn of `address`."""
        if self._waiting or self._spent_s >= ROUND_S:
            self._waiting.setdefault(address, deque()).append(parse)
        else:
            self._run(parse)

    def _run(self, parse: Parse) -> None:
        if not self._is_round:
            self._is_round = True
            asyncio.get_running_loop().call_soon(self._next_round)
        begin = self._clock()
        try:
            parse()
        finally:
            self._spent_s += self._clock() - begin

    def _next_round(self) -> None:
        self._is_round, self._spent_s = False, 0.0
        while self._waiting and self._spent_s < ROUND_S:
            address, turns = next(iter(self._waiting.items()))
            del self._waiting[address]
            parse = turns.popleft()
            if turns:
                self._waiting[address] = turns  # behind all others
            self._run(parse)
