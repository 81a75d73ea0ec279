"""`RayEngine`: the `Engine` of an API process whose engines are the replicas of a Ray Serve deployment.

Ray Serve chooses the replica with the least to do, starts a dead one again and waits for one that is free. A request
that was aboard a replica's death runs once more on another; one that two died of fails by name, as with one engine.
Every wait has a limit, which begins anew when somebody is answered. Belongs to one event loop. Imports ray only for its
exceptions.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Protocol

from backend.engine.answer_limit import AnswerLimit
from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Ready
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed, one_line
from backend.ray.board import Board
from backend.ray.wire import Refusal, Reply, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RayLimits:
    """`request_s` and `cpu_request_s` are those of `EngineLimits`, over all tries of a request; `load_s` is the same
    while no replica is ready: each may wait for its card or the hub for 12 h, and then loads. `max_attempts`: how many
    replicas may die of it. `max_elsewhere`: how often another replica is asked because one cannot take it now."""

    request_s: float = 600.0
    cpu_request_s: float = 6000.0
    load_s: float = 16 * 3600.0
    max_attempts: int = 2
    max_elsewhere: int = 8
    pause_s: float = 0.25
    poll_s: float = 0.1


class Handle(Protocol):
    """What is used of a `ray.serve.handle.DeploymentHandle`."""

    @property
    def generate(self) -> Any:
        """`.remote(request)` gives something to await for a Reply, with a `cancel()`."""
        ...


class RayEngine:
    def __init__(
        self, handle: Handle, max_queue: int, limits: RayLimits | None = None, *, num_replicas: int = 1
    ) -> None:
        self._handle = handle
        self._max_queue = max_queue
        self._limits = limits or RayLimits()
        self._board = Board(num_wanted=num_replicas)
        self._answers = AnswerLimit(self._answer_limit)
        self._num_pending = 0
        self._closed = False

    def note(self, report: Report) -> None:
        """A replica says how it is."""
        self._board.note(report)

    @property
    def status(self) -> EngineStatus:
        status = self._board.status
        if self._closed:
            return replace(status, state="stopped", message="closed", num_queued=0, num_running=0)
        num_running = min(status.num_running, self._num_pending)
        return replace(status, num_running=num_running, num_queued=self._num_pending - num_running)

    async def start(self) -> None:
        """The replicas start by themselves."""

    async def wait_ready(self, timeout_s: float) -> Ready:
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            status = self.status
            if status.ready is not None:
                return status.ready
            if status.is_gone:
                raise EngineDead(f"the model could not be loaded: {status.message or status.state}")
            if asyncio.get_running_loop().time() >= until:
                done = f"{status.stage} {status.fraction:.0%}"
                raise EngineNotReady(f"the model is still {status.state} ({done}); try again in a minute")
            await asyncio.sleep(min(self._limits.poll_s, timeout_s))

    async def generate(self, request: GenerateRequest) -> Finished:
        self.status.require_ready()
        if self._num_pending >= self._max_queue:
            raise EngineBusy(f"too many requests are waiting already ({self._num_pending})")
        self._num_pending += 1
        asking = asyncio.create_task(self._ask(request))
        try:
            finished = await self._answers.wait_for(asking)
        except TimeoutError as error:
            raise GenerationFailed(str(error)) from None
        finally:
            self._num_pending -= 1
            if asking.cancel():
                await asyncio.wait([asking])
        self._answers.answered()
        return finished

    def _answer_limit(self) -> float:
        if (ready := self.status.ready) is None:
            return self._limits.load_s
        return self._limits.cpu_request_s if ready.device.endswith("cpu") else self._limits.request_s

    async def close(self) -> None:
        """Requests under way end by themselves; Ray Serve ends the replicas."""
        self._closed = True

    async def _ask(self, request: GenerateRequest) -> Finished:
        num_deaths = num_elsewhere = 0
        while True:
            reply = await self._ask_one(request)
            if isinstance(reply, Finished):
                return reply
            if reply is None:
                num_deaths += 1
                if num_deaths >= self._limits.max_attempts:
                    raise EngineDead(f"{num_deaths} engine replicas died while they worked on this request")
            elif not reply.ask_another or num_elsewhere >= self._limits.max_elsewhere:
                raise reply.error()
            else:
                num_elsewhere += 1
            if self._closed:
                raise EngineDead("the engine was closed")
            await asyncio.sleep(self._limits.pause_s * (num_deaths + num_elsewhere))

    async def _ask_one(self, request: GenerateRequest) -> Reply | None:
        """None: the replica died meanwhile."""
        from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError, WorkerCrashedError
        from ray.serve.exceptions import (
            BackPressureError,
            DeploymentUnavailableError,
            ReplicaUnavailableError,
            RequestCancelledError,
        )

        response = self._handle.generate.remote(request)
        try:
            reply: Reply = await response
            return reply
        except asyncio.CancelledError:
            response.cancel()
            raise
        except (RayActorError, WorkerCrashedError, OutOfMemoryError, ReplicaUnavailableError) as error:
            log.warning("an engine replica died: %s", one_line(error))
            return None
        except BackPressureError:
            raise EngineBusy("every engine replica has as many requests as it takes") from None
        except DeploymentUnavailableError:
            raise EngineDead("Ray Serve could not start the engine replicas; see  serve status") from None
        except RequestCancelledError:  # by Ray Serve, which takes its replica down
            return Refusal("EngineNotReady", "the replica was taken down", 1.0, ask_another=True)
        except (RayTaskError, RayError) as error:
            log.error("an engine replica has failed: %s", one_line(error))
            raise GenerationFailed("internal: an engine replica has failed; its log says more") from None
