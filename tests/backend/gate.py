"""An engine that holds every request until it is told to let some go, so that a test decides what is done when."""

from __future__ import annotations

import asyncio
import contextlib

from backend.engine.messages import Finished, GenerateRequest
from tests.backend.serving import ANSWER
from tests.fakes import FakeEngine


class GateEngine(FakeEngine):
    """Lets `num_allowed` requests through, in the order they came. `requests` are those let through."""

    def __init__(self, num_allowed: int = 0) -> None:
        super().__init__(ANSWER)
        self.num_allowed = num_allowed
        self.num_asked = 0
        self.num_done = 0
        self._held: dict[int, asyncio.Future[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def generate(self, request: GenerateRequest) -> Finished:
        self._loop = asyncio.get_running_loop()
        turn = self.num_asked
        self.num_asked += 1
        if turn >= self.num_allowed:
            self._held[turn] = self._loop.create_future()
            try:
                await self._held[turn]
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
            finally:
                del self._held[turn]
        finished = await super().generate(request)
        self.num_done += 1
        return finished

    def allow(self, num_allowed: int) -> None:
        """Let so many through in all. From any thread."""
        self.num_allowed = num_allowed
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its server has ended
                self._loop.call_soon_threadsafe(self._let_go)

    def open(self) -> None:
        self.allow(10**9)

    def _let_go(self) -> None:
        for turn, held in self._held.items():
            if turn < self.num_allowed and not held.done():
                held.set_result(None)
