"""How long an answer is waited for. A request may stand behind hundreds of others, or wait while the engine is started
again, which takes minutes: so its limit begins anew when another is answered, and when it becomes another.

Belongs to one event loop. Imports no torch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 5.0
"""How often it is looked whether the limit is another one now."""


class AnswerLimit:
    """`limit_s` says for how many seconds nobody may be answered, as things are."""

    def __init__(self, limit_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._answered_at = -math.inf

    def answered(self) -> None:
        """Somebody was."""
        self._answered_at = asyncio.get_running_loop().time()

    async def wait_for(self, answer: asyncio.Future[T]) -> T:
        """Return or raise what `answer` does. Raises TimeoutError, whose text is for people; `answer` goes on then."""
        clock = asyncio.get_running_loop().time
        began, limit_s = clock(), self._limit_s()
        try:
            while not answer.done():
                if (now_s := self._limit_s()) != limit_s:
                    began, limit_s = clock(), now_s
                left_s = max(began, self._answered_at) + limit_s - clock()
                if left_s <= 0:
                    raise TimeoutError(f"no answer within {limit_s:.0f} s")
                await asyncio.wait([answer], timeout=min(left_s, LOOK_S))
            return answer.result()
        finally:
            if answer.done() and not answer.cancelled():
                answer.exception()  # else asyncio complains where who waits is cancelled at the same moment
