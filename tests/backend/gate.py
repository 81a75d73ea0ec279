"""An engine that holds every request until it is told to let some go, so that a test decides what is done when."""

from __future__ import annotations

import asyncio

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

    async def generate(self, request: GenerateRequest) -> Finished:
        turn = self.num_asked
        self.num_asked += 1
        try:
            while turn >= self.num_allowed:
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finished = await super().generate(request)
        self.num_done += 1
        return finished

    def open(self) -> None:
        self.num_allowed = 10**9
