"""Turns of the event loop: of the requests that want to go on at the same time, the project goes on that had least.

A request computes a little between two waits: a label config is looked up, extra params are checked, tasks become rows.
Each of these steps is short, but fifty requests at once make fifty of them, and asyncio would run all before it looks
at anything else. Here one step runs in each round of the loop, so that /health and other sockets
are looked at in between; and it is a step of the project which has had the least of the loop's time (`fair_shares`). A
project alone has all of it. A single long step is not made shorter.
Raises what the work raises.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from backend.fair_shares import FairShares

T = TypeVar("T")


class Turns:
    """Use it from one event loop. `clock`: seconds of CPU that the loop's thread has had."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._is_taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._shares = FairShares()

    async def run(self, project: str, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, each of its steps in a turn of `project`."""
        return await self._steps(project, work)

    @types.coroutine
    def _steps(self, project: str, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        try:
            while True:
                try:
                    yield from self._turn(project)
                except asyncio.CancelledError as cancelled:  # the work hears of it where it waits
                    error = cancelled
                begin = self._clock()
                try:
                    waits_for = work.send(None) if error is None else work.throw(error)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                finally:
                    self._shares.used(project, self._clock() - begin)
                error = None
                try:
                    yield waits_for
                except GeneratorExit:
                    raise
                except BaseException as raised:
                    error = raised
        finally:
            work.close()

    def _turn(self, project: str) -> Generator[Any, None, None]:
        """Wait for it, if another has this one."""
        if self._is_taken:
            comes = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(project, deque()).append(comes)
            yield from comes
        else:
            self._take(project)

    def _take(self, project: str) -> None:
        """This round of the loop is for `project`; the next is for whose turn it is then."""
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)
        self._shares.goes_on(project)

    def _next(self) -> None:
        self._is_taken = False
        while self._waiting and not self._is_taken:
            project = min(self._waiting, key=self._shares.had)
            comes = self._waiting[project].popleft()
            if not self._waiting[project]:
                del self._waiting[project]
            if not comes.done():  # else it was cancelled
                comes.set_result(None)
                self._take(project)
