"""The client of a supervised engine process, with a fake in place of the model."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest, Picture
from backend.engine.options import EngineLimits, EngineOptions
from label_config.schema import LabelSchema, RatingField
from tests.backend.engine import fake_process
from tests.limits import TEST_S, WAIT_S

SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")


LIMITS = EngineLimits(
    start_s=WAIT_S,
    load_s=WAIT_S,
    request_s=WAIT_S,
    close_s=WAIT_S,
    hang_s=TEST_S,
    max_restarts=2,
    restart_backoff_s=0.01,
)


HANG_S = 10 * TEST_S


HANG = replace(LIMITS, request_s=100 * HANG_S, hang_s=HANG_S)


def request(instruction: str) -> GenerateRequest:
    return GenerateRequest(SCHEMA, instruction, Picture(1, 1, b"\0\0\0"))


@asynccontextmanager
async def running(options: EngineOptions | None = None, limits: EngineLimits = LIMITS) -> AsyncIterator[EngineClient]:
    client = EngineClient(options or EngineOptions(model="fake"), limits, fake_process.main)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time can be put forward: what waits for a moment of it waits no longer."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def run_with_clock(test: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Clock) as runner:
        clock = runner.get_loop()
        assert isinstance(clock, Clock)
        runner.run(test(clock))
