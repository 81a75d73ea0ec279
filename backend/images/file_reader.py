"""Many files of a bulk run, read and decoded in a few threads: each call of a thread takes several, if they wait.

A call for each picture would cost more than a small picture's decoding does, because thread and event loop wake each
other for it. One file that hangs (a network folder) holds up only itself: what its thread has done before it is there
for those who wait, and other threads go on with the rest. Belongs to one event loop. Raises what `read` raises, and
TimeoutError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from backend.images.decode import FetchedImage

MAX_AT_ONCE = 8
"""Files that one call of a thread takes."""
PATIENCE_S = 0.05
"""After so long a thread that is busy with one file is not waited for."""


class _Waiting:
    """One file and who waits for it. A thread sets `result`, the event loop `told`."""

    __slots__ = ("path", "result", "told")

    def __init__(self, path: Path, told: asyncio.Future[None]) -> None:
        self.path = path
        self.told = told
        self.result: FetchedImage | Exception | None = None


class FileReader:
    """Uses up to `num_threads` of `threads` at once."""

    def __init__(self, threads: Executor, num_threads: int, read: Callable[[Path], FetchedImage]) -> None:
        self._threads = threads
        self._num_threads = num_threads
        self._read = read
        self._queue: deque[_Waiting] = deque()
        self._num_running = 0
        self._helper: asyncio.TimerHandle | None = None

    async def read(self, path: Path, timeout_s: float) -> FetchedImage:
        waiting = _Waiting(path, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._use_threads()
        try:
            async with asyncio.timeout(timeout_s):
                await waiting.told
        except TimeoutError:
            if waiting.result is None:
                raise
        finally:
            waiting.told.cancel()
        if isinstance(waiting.result, Exception):
            raise waiting.result
        assert waiting.result is not None
        return waiting.result

    def _use_threads(self) -> None:
        """One thread, and another for each MAX_AT_ONCE files that wait, or if they wait for long."""
        while self._num_running < min(self._num_threads, -(-len(self._queue) // MAX_AT_ONCE)):
            self._use_one_more()
        if self._queue and self._helper is None and self._num_running < self._num_threads:
            self._helper = asyncio.get_running_loop().call_later(PATIENCE_S, self._help)

    def _help(self) -> None:
        self._helper = None
        if self._queue and self._num_running < self._num_threads:
            self._use_one_more()

    def _use_one_more(self) -> None:
        self._num_running += 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._read_some)
        call.add_done_callback(self._tell)

    def _read_some(self) -> list[_Waiting]:
        """In a thread. Takes one file after the other, so that another thread finds those it has not begun."""
        done: list[_Waiting] = []
        while len(done) < MAX_AT_ONCE:
            try:
                waiting = self._queue.popleft()
            except IndexError:
                break
            if waiting.told.cancelled():  # nobody waits any more
                continue
            try:
                waiting.result = self._read(waiting.path)
            except Exception as error:  # a job's border: it is raised where the file is waited for
                waiting.result = error
            done.append(waiting)
        return done

    def _tell(self, call: asyncio.Future[list[_Waiting]]) -> None:
        self._num_running -= 1
        if call.cancelled():  # the threads are being shut down
            for waiting in self._queue:
                waiting.told.cancel()
            return
        for waiting in call.result():
            if not waiting.told.done():
                waiting.told.set_result(None)
        if self._queue:
            self._use_threads()
