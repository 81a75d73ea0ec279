"""Time that a test may put forward: deadlines, backoffs and the hour strike when the test says so, not by chance."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class SteeredTime:
    """Runs as usual, until it is put forward or held. Its loop's timers go by it."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._wall_held_at: float | None = None
        self._loop_held_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def wall(self) -> float:
        """Seconds since the epoch."""
        return (self._wall_held_at or time.time()) + self._ahead_s

    def monotonic(self) -> float:
        """The time of the event loop."""
        return (self._loop_held_at or time.monotonic()) + self._ahead_s

    def hold_wall(self) -> None:
        """From now on the hour only changes when it is put forward."""
        self._wall_held_at = time.time()

    @contextlib.contextmanager
    def hold_loop(self) -> Iterator[None]:
        """Within the block no timer of the loop strikes unless time is put forward."""
        self._loop_held_at = time.monotonic()
        try:
            yield
        finally:
            self._loop_held_at = None
            self.put_forward(0)

    def put_forward(self, seconds: float) -> None:
        """From any thread."""
        self._ahead_s += seconds
        self.call(lambda: None)  # it may sleep until an hour that has struck by now

    def call(self, what: Callable[[], object]) -> None:
        """Have it called soon on the loop, from any thread; forgotten if the loop has ended."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(what)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As `asyncio.run`."""
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            try:
                return runner.run(work)
            finally:
                self._loop = None

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = _Loop(self.monotonic)
        return self._loop


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock()
