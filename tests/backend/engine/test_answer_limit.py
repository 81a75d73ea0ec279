"""How long an answer is waited for, on a loop whose clock is put forward."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from backend.engine.answer_limit import LOOK_S, AnswerLimit


class Clocked(asyncio.SelectorEventLoop):
    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Waiting:
    """A request that waits under a limit of 600 s, 4 h while the engine is started again."""

    def __init__(self) -> None:
        self.limit_s = 600.0
        self.limit = AnswerLimit(lambda: self.limit_s)
        self.answer = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.limit.wait_for(self.answer))

    async def later(self, seconds: float) -> None:
        """Let so much time pass, and all that is due be done."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clocked)
        await asyncio.sleep(0)
        loop.ahead_s += seconds
        for _ in range(4):
            await asyncio.sleep(0)

    async def others_are_answered(self) -> None:
        for _ in range(10):
            await self.later(500)
            self.limit.answered()

    async def the_engine_is_started_again(self) -> None:
        await self.later(500)
        self.limit_s = 4 * 3600.0
        await self.later(LOOK_S)
        await self.later(3000)
        self.limit_s = 600.0
        await self.later(LOOK_S)


def run(test: Callable[[Waiting], Awaitable[None]]) -> None:
    async def go() -> None:
        await test(Waiting())

    with asyncio.Runner(loop_factory=Clocked) as runner:
        runner.run(go())


@pytest.mark.parametrize("happens", [Waiting.others_are_answered, Waiting.the_engine_is_started_again])
def test_who_waits_behind_others_or_for_another_process_is_waited_for(
    happens: Callable[[Waiting], Awaitable[None]],
) -> None:
    async def test(waiting: Waiting) -> None:
        await happens(waiting)
        await waiting.later(590)
        waiting.answer.set_result("answered")
        assert await waiting.task == "answered"

    run(test)


@pytest.mark.parametrize("happens", [Waiting.others_are_answered, Waiting.the_engine_is_started_again])
def test_an_engine_that_then_answers_nobody_is_not_waited_for_without_end(
    happens: Callable[[Waiting], Awaitable[None]],
) -> None:
    async def test(waiting: Waiting) -> None:
        await happens(waiting)
        await waiting.later(601)
        with pytest.raises(TimeoutError, match=r"^no answer within 600 s$"):
            await waiting.task
        assert not waiting.answer.done()

    run(test)
