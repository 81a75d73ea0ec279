"""Many files of a bulk run, read and decoded in a few threads: each call of a thread takes several, if they wait.

A call for each picture would cost more than a small picture's decoding does, because thread and event loop wake each
other for it. A file that hangs (a network folder) holds up one thread, and nothing that this thread has done before;
when all threads hang, every file waits and times out. Belongs to one event loop. Raises what `read` raises, and
TimeoutError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from backend.images.decode import FetchedImage

MAX_AT_ONCE = 8
"""Files that one call of a thread takes."""
PATIENCE_S = 0.05
"""After so long a thread that is busy with one file is not waited for."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """One file and who waits for it. A thread sets `result`, the event loop `told`."""

    path: Path
    told: asyncio.Future[None]
    result: FetchedImage | Exception | None = None


class FileReader:
    """Uses up to `num_threads` of `threads` at once."""

    def __init__(
        self,
        threads: Executor,
        num_threads: int,
        read: Callable[[Path], FetchedImage],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._threads = threads
        self._num_threads = num_threads
        self._read = read
        self._patience_s = patience_s
        self._queue: deque[_Waiting] = deque()
        self._done: deque[_Waiting] = deque()
        self._num_running = 0
        self._helper: asyncio.TimerHandle | None = None

    async def read(self, path: Path, timeout_s: float) -> FetchedImage:
        waiting = _Waiting(path, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._use_threads()
        try:
            async with asyncio.timeout(timeout_s):
                await waiting.told
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
        if self._num_running and self._helper is None:
            self._helper = asyncio.get_running_loop().call_later(self._patience_s, self._help)

    def _help(self) -> None:
        """A thread is busy for long: perhaps with one file."""
        self._helper = None
        self._tell()
        if self._queue and self._num_running < self._num_threads:
            self._use_one_more()
        self._use_threads()

    def _use_one_more(self) -> None:
        self._num_running += 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._read_some)
        call.add_done_callback(self._ended)

    def _read_some(self) -> None:
        """In a thread. Takes one file after the other, so that another thread finds those it has not begun."""
        for _ in range(MAX_AT_ONCE):
            try:
                waiting = self._queue.popleft()
            except IndexError:
                return
            if waiting.told.cancelled():  # nobody waits any more
                continue
            try:
                waiting.result = self._read(waiting.path)
            except Exception as error:  # a job's border: it is raised where the file is waited for
                waiting.result = error
            self._done.append(waiting)

    def _ended(self, call: asyncio.Future[None]) -> None:
        self._num_running -= 1
        self._tell()
        if call.cancelled():  # the threads are being shut down
            self.close()
        else:
            self._use_threads()

    def _tell(self) -> None:
        while self._done:
            waiting = self._done.popleft()
            if not waiting.told.done():
                waiting.told.set_result(None)

    def close(self) -> None:
        """Begin nothing any more: whoever still waits is cancelled."""
        if self._helper is not None:
            self._helper.cancel()
        self._num_threads = 0
        while self._queue:
            self._queue.popleft().told.cancel()
