"""The threads that decode pictures: whose picture is next goes by project, the one first that has had least of them.

A thread cannot be interrupted: whoever no longer waits for its picture leaves the thread to it until it is decoded.
Belongs to one event loop. Raises what the work raises, and TimeoutError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from backend.fair_turns import FairTurns
from backend.images.decode import FetchedImage


class DecodingThreads:
    def __init__(self, num_threads: int) -> None:
        self.executor = ThreadPoolExecutor(num_threads, thread_name_prefix="image-decode")
        self._needed = (("thread", num_threads),)
        self._turns = FairTurns()

    async def run(self, project: str, work: Callable[[], FetchedImage], timeout_s: float) -> FetchedImage:
        """Return what `work` does in a thread. `timeout_s`: for the wait and the work."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            end = await self._turns.begin(project, lambda: self._needed)
            call = self.executor.submit(work)
            call.add_done_callback(lambda _: _tell(loop, end))
            return await asyncio.wrap_future(call)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(end)
