"""The API process's side of the engine: takes requests, and says how it is.

Its process is `supervisor`'s to start, to listen to and to start again. All methods run on one event loop. Imports no
torch.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from backend.engine import process
from backend.engine.answer_limit import AnswerLimit
from backend.engine.api import EngineStatus
from backend.engine.child import Entry
from backend.engine.messages import Cancel, Finished, GenerateRequest, Ready, Shutdown
from backend.engine.options import EngineLimits, EngineOptions
from backend.engine.pending import PendingRequests
from backend.engine.supervisor import Supervisor
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from backend.pages.engine_words import Why
from backend.pages.words import Words

_words = Words("en")


class EngineClient:
    """Implements `backend.engine.api.Engine` over a process beside this one."""

    def __init__(
        self,
        options: EngineOptions,
        limits: EngineLimits | None = None,
        entry: Entry = process.main,
    ) -> None:
        """`entry` is what the process runs; tests put a fake there that dies on request."""
        self._limits = limits or EngineLimits()
        self._max_queue = options.max_queue
        self._pending = PendingRequests()
        self._answers = AnswerLimit(self._answer_limit)
        self._supervisor = Supervisor(entry, options, self._limits, self._pending, self._answers.answered)
        self._current = self._supervisor.current
        self._supervising: asyncio.Task[None] | None = None

    @property
    def status(self) -> EngineStatus:
        num_running = self._pending.num_running
        num_queued = len(self._pending) - num_running
        why = self._supervisor.ended
        ended = _words.why(why)
        return replace(self._current.now, num_running=num_running, num_queued=num_queued, ended=ended, ended_why=why)

    async def start(self) -> None:
        if self._supervising is None:
            await self._current.set(EngineStatus("loading", stage="starting"))
            self._supervising = asyncio.create_task(self._supervisor.run(), name="engine-supervisor")

    async def wait_ready(self, timeout_s: float) -> Ready:
        try:
            async with asyncio.timeout(timeout_s):
                await self._current.wait_for(lambda status: status.state == "ready" or status.is_gone)
        except TimeoutError:
            status = self._current.now
            done = f"{status.stage} {status.fraction:.0%}"
            raise EngineNotReady(f"the model is still {status.state} ({done}); try again in a minute") from None
        status = self._current.now
        if status.ready is None:
            raise EngineDead(f"the model could not be loaded: {status.message or status.state}")
        return status.ready

    async def generate(self, request: GenerateRequest) -> Finished:
        self._current.now.require_ready()
        if len(self._pending) >= self._max_queue:
            raise EngineBusy(f"too many requests are waiting already ({len(self._pending)})")
        submit, answer = self._pending.add(request)
        self._supervisor.send(submit)
        try:
            return await self._answers.wait_for(answer)
        except TimeoutError as error:
            self._supervisor.send(Cancel(submit.request_id))
            raise GenerationFailed(str(error)) from None
        except asyncio.CancelledError:
            self._supervisor.send(Cancel(submit.request_id))
            raise
        finally:
            self._pending.forget(submit.request_id)

    async def close(self) -> None:
        if self._supervising is None:
            return
        await self._current.set(self._current.not_ready("stopped", Why("engine_closed")))
        self._supervisor.send(Shutdown())
        self._supervising.cancel()
        self._pending.fail_all(EngineDead("the engine was closed"))
        try:
            await asyncio.wait([self._supervising])
            await asyncio.to_thread(self._supervisor.end)
        except asyncio.CancelledError:  # our caller's patience is over: the thread then ends at once
            self._supervisor.kill()
            raise

    def _answer_limit(self) -> float:
        """For how many seconds nobody may be answered. While it is started again nobody is: that has its own limits, of
        hours where the card or the hub is waited for, and who waits is told how it ended."""
        if (ready := self._current.now.ready) is None:
            return math.inf
        return self._limits.cpu_request_s if ready.device == "cpu" else self._limits.request_s
