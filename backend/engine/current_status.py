"""What is said of the engine now, and who waits for something else to be said.

A load that counts bytes and gets none is told to stand still, once a second. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from backend.engine.api import EngineState, EngineStatus
from backend.engine.messages import BY_TENSORS
from backend.engine.options import EngineLimits
from backend.pages.engine_words import Why
from backend.pages.words import Words
from model_loader.patience import TOLD_S

_words = Words("en")
log = logging.getLogger(__name__)


class CurrentStatus:
    """`now` may be replaced where nobody waits for what is new in it."""

    def __init__(self, limits: EngineLimits) -> None:
        self.now = EngineStatus("stopped")
        self._limits = limits
        self._changed = asyncio.Condition()
        self._stall: asyncio.TimerHandle | None = None

    async def wait_for(self, is_it: Callable[[EngineStatus], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: is_it(self.now))

    async def set(self, status: EngineStatus) -> None:
        async with self._changed:
            if self.now.stalled_s and status.state == "loading":
                log.info("loading goes on after %.0f s of silence", self.now.stalled_s)
            self.now = status
            if self._stall is not None:
                self._stall.cancel()
            if status.state == "loading" and status.counts_bytes:
                loop = asyncio.get_running_loop()
                stall_s = self._limits.tensor_stall_s if status.stage in BY_TENSORS else self._limits.stall_s
                self._stall = loop.call_later(stall_s, self._stands_still, loop.time())
            self._changed.notify_all()

    def not_ready(self, state: EngineState, *why: Why, stage: str = "", num_more: int = 0) -> EngineStatus:
        """What to `set` where no model is loaded. `num_more`: restarts."""
        num_restarts = self.now.num_restarts + num_more
        return EngineStatus(state, stage, message=_words.why(why), why=why, num_restarts=num_restarts)

    def _stands_still(self, since: float) -> None:
        """No bytes have come `since`: the pace that was told last is none any more."""
        loop, was_told = asyncio.get_running_loop(), self.now.stalled_s > 0
        self.now = replace(self.now, bytes_per_s=0.0, left_s=None, stalled_s=loop.time() - since)
        if not was_told:
            log.warning("%s", _words.stage(self.now.stage, stalled_s=self.now.stalled_s))
        self._stall = loop.call_later(TOLD_S, self._stands_still, since)
