"""Run the readers of `requests` where they cannot stall the event loop.

`json.loads` holds the GIL: 13 MB of tasks would stop /health for 0.4 s, 68 MB for 2.6 s, and Label Studio gives it
1 s. So the body of a single task is read on the loop, a small one in a thread, and a large one in a process of its own,
which is limited in memory. A faster parser in a thread is not enough: typed decoding by msgspec 0.23 takes a third of
the time, but all of it with the GIL. Beside 115 MiB on two busy cores the slowest /health then took 1.9 s, beside this
process 0.4 s. Nor does it see a key that is there twice, or what is not UTF-8 in a field it skips.
Raises what the readers raise, and EngineBusy when the parser process died or is too slow.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from backend.errors import EngineBusy

P = ParamSpec("P")
T = TypeVar("T")

MAX_INSTANT_BYTES = 2**15
"""Bodies up to this size are parsed on the loop: a millisecond, a hundredth of a second with a new label config."""
MAX_PLAIN_BYTES = 2**20
"""Bodies up to this size are parsed in a thread (about 30 ms of GIL a MiB), larger ones in another process."""
MAX_MEMORY_BYTES = 4 * 2**30
PARSE_S = 60.0


class BodyParser:
    def __init__(self, limit_s: float = PARSE_S) -> None:
        self._limit_s = limit_s
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, num_bytes: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `read(*args, **kwargs)`; `num_bytes` is the size of the body among them."""
        if num_bytes <= MAX_INSTANT_BYTES:
            return read(*args, **kwargs)
        if num_bytes <= MAX_PLAIN_BYTES:
            return await asyncio.to_thread(read, *args, **kwargs)
        loop = asyncio.get_running_loop()
        pool = self._open_pool()
        try:
            async with asyncio.timeout(self._limit_s):
                return await loop.run_in_executor(pool, functools.partial(read, *args, **kwargs))
        except (BrokenProcessPool, TimeoutError):
            self.close()
            raise EngineBusy(
                "The request could not be read; it may be too large. Select fewer tasks at once."
            ) from None

    def warm_up(self) -> None:
        """Start the process now, so that the first large request does not wait for it."""
        self._open_pool().submit(os.getpid)

    def close(self) -> None:
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in processes:  # a parse cannot be interrupted, and nobody waits for it any more
            process.terminate()

    def _open_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not "fork": the parent has threads, and a forked child would inherit their locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_limit_process)
        return self._pool


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
