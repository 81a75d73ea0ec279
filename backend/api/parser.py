"""Run the readers of `requests` where they cannot stall the event loop, nor each other.

`json.loads` holds the GIL: 13 MB of tasks would stop /health for 0.4 s, 68 MB for 2.6 s, and Label Studio gives it
1 s. A thread has the same lock, and eight bodies of 1 MiB made of `[],` stopped /health for 1.6 s from threads. So only
a small body is read on the loop; others go to one of two processes, which are limited in memory: the larger ones have
one of their own, and in the other the smaller goes first. A faster parser in a thread is not enough: typed decoding by
msgspec 0.23 takes a third of the time, but all of it with the GIL. Nor does it see a key that is there twice, or what
is not UTF-8 in a field it skips.
Raises what the readers raise, and EngineBusy when a process died or is too slow.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import heapq
import itertools
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import ParamSpec, TypeVar

from backend.errors import EngineBusy

P = ParamSpec("P")
T = TypeVar("T")

MAX_INSTANT_BYTES = 2**15
"""Bodies up to this size are parsed on the loop: a millisecond, a hundredth of a second with a new label config."""
MODERATE_BYTES = 2 * 2**20
"""Bodies up to this size share a process, and a room of `bodies`, with none that is larger: 0.3 s of work at worst."""
LATER_S_PER_BYTE = 0.5 / 2**20
"""A moderate body lets smaller ones go first that come this much later; so it waits for no endless row of them."""
MAX_MEMORY_BYTES = 4 * 2**30
PARSE_S = 60.0
END_S = 2.0


class BodyParser:
    """`limit_s`: for one body, its turn included."""

    def __init__(self, limit_s: float = PARSE_S) -> None:
        self._moderate = _Lane(limit_s)
        self._large = _Lane(limit_s)

    async def run(self, num_bytes: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `read(*args, **kwargs)`; `num_bytes` is the size of the body among them."""
        if num_bytes <= MAX_INSTANT_BYTES:
            return read(*args, **kwargs)
        lane = self._moderate if num_bytes <= MODERATE_BYTES else self._large
        return await lane.run(num_bytes, functools.partial(read, *args, **kwargs))

    def warm_up(self) -> None:
        """Start the processes now, so that the first request does not wait for them."""
        self._moderate.open_pool().submit(os.getpid)
        self._large.open_pool().submit(os.getpid)

    def close(self) -> None:
        """End the processes, and return when they have ended, or END_S later."""
        for sentinel in (*self._moderate.close(), *self._large.close()):
            wait([sentinel], END_S)


class _Lane:
    """A process that reads one body after the other."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._pool: ProcessPoolExecutor | None = None
        self._is_busy = False
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    async def run(self, num_bytes: int, read: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limit_s):
                await self._turn(num_bytes)
                try:
                    return await loop.run_in_executor(self.open_pool(), _uncollected, read)
                except (BrokenProcessPool, asyncio.CancelledError):
                    self.close()
                    raise
                finally:
                    self._next()
        except (BrokenProcessPool, TimeoutError):
            raise EngineBusy(
                "The request could not be read; it may be too large. Select fewer tasks at once."
            ) from None

    async def _turn(self, num_bytes: int) -> None:
        if self._is_busy:
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            place = loop.time() + LATER_S_PER_BYTE * min(num_bytes, MODERATE_BYTES)
            heapq.heappush(self._waiting, (place, next(self._order), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # its turn came in the same moment
                    self._next()
                raise
        self._is_busy = True

    def _next(self) -> None:
        self._is_busy = False
        while self._waiting and not self._is_busy:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():  # else nobody waits for it any more
                self._is_busy = True
                turn.set_result(None)

    def open_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not "fork": the parent has threads, and a forked child would inherit their locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_limit_process)
        return self._pool

    def close(self) -> list[int]:
        """End the process; the result becomes ready, for `wait`, when it has ended."""
        if self._pool is None:
            return []
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in processes:  # a parse cannot be interrupted, and nobody waits for it any more
            process.terminate()
        return [process.sentinel for process in processes]


def _uncollected(read: Callable[[], T]) -> T:
    """JSON holds no circles: looking for some in millions of lists would take three quarters of the time."""
    gc.disable()
    try:
        return read()
    finally:
        gc.enable()


def _limit_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end this process, and its queue would be waited on for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
