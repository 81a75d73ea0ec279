"""The API process's side of the engine: starts its process, submits requests, notices its death, starts it again.

Requests that were under way when the engine died are submitted again once; a request that was aboard two deaths is
failed by name. A model that cannot be loaded is final (`LoadFailed`): starting again would not help.
Imports no torch. All methods run on one event loop; two threads do the blocking reads and writes of the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from backend.engine import process
from backend.engine.api import EngineStatus, GenerateRequest
from backend.engine.messages import (
    Cancel,
    Failed,
    Finished,
    FromEngine,
    LoadFailed,
    Loading,
    Ready,
    Shutdown,
    Submit,
    ToEngine,
)
from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    submit: Submit
    future: asyncio.Future[Finished]
    attempts: int = 1


class EngineClient:
    """Implements `backend.engine.api.Engine` over a spawned process."""

    def __init__(
        self,
        options: EngineOptions,
        limits: EngineLimits | None = None,
        entry: Callable[[Connection, EngineOptions], None] = process.main,
    ) -> None:
        """`entry` is what the process runs; tests put a fake there that dies on request."""
        self._options = options
        self._entry = entry
        self._limits = limits or EngineLimits()
        self._status = EngineStatus("stopped")
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._changed = asyncio.Condition()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="engine-sender")
        self._supervisor: asyncio.Task[None] | None = None
        self._process: Any = None
        self._connection: Connection | None = None

    @property
    def status(self) -> EngineStatus:
        return replace(self._status, num_running=len(self._pending))

    async def start(self) -> None:
        if self._supervisor is None:
            await self._set(EngineStatus("loading", stage="starting"))
            self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def wait_ready(self, timeout_s: float) -> Ready:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._status.state in ("ready", "failed", "stopped"))
        except TimeoutError:
            status = self._status
            done = f"{status.stage} {status.fraction:.0%}"
            raise EngineNotReady(f"the model is still {status.state} ({done}); try again in a minute") from None
        if self._status.ready is None:
            raise EngineDead(f"the model could not be loaded: {self._status.message or self._status.state}")
        return self._status.ready

    async def generate(self, request: GenerateRequest) -> Finished:
        if self._status.state in ("failed", "stopped"):
            raise EngineDead(f"the engine has stopped: {self._status.message or self._status.state}")
        if self._status.ready is None:
            raise EngineNotReady("the model is not ready yet", retry_after_s=30)
        if len(self._pending) >= self._options.max_queue:
            raise EngineBusy(f"{len(self._pending)} requests are waiting already")
        self._next_id += 1
        submit = Submit(
            request_id=self._next_id,
            schema=request.schema,
            instruction=request.instruction,
            picture=request.picture,
            sampling=request.sampling,
            text_max_chars=request.text_max_chars,
            interactive=request.interactive,
        )
        pending = _Pending(submit, asyncio.get_running_loop().create_future())
        self._pending[submit.request_id] = pending
        self._send(submit)
        try:
            async with asyncio.timeout(self._limits.request_s):
                return await pending.future
        except TimeoutError:
            self._send(Cancel(submit.request_id))
            raise GenerationFailed(f"no answer within {self._limits.request_s:.0f} s") from None
        except asyncio.CancelledError:
            self._send(Cancel(submit.request_id))
            raise
        finally:
            self._pending.pop(submit.request_id, None)

    async def close(self) -> None:
        if self._supervisor is None:
            return
        await self._set(EngineStatus("stopped", message="closed", num_restarts=self._status.num_restarts))
        self._send(Shutdown())
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor
        self._fail_all(EngineDead("the engine was closed"))
        await asyncio.to_thread(self._end_process)
        self._sender.shutdown(wait=False, cancel_futures=True)

    # -- supervision ---------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Run engine processes one after the other until one fails to load or they die too often."""
        for restarts in range(self._limits.max_restarts + 1):
            connection = self._start_process()
            if restarts:
                log.warning("engine process %d started after a death", self._process.pid)
            await self._listen(connection)
            await asyncio.to_thread(self._end_process)
            if self._status.state in ("failed", "stopped"):
                return
            code = self._process.exitcode
            message = f"the engine process ended with exit code {code}"
            log.error("%s; %d requests were under way", message, len(self._pending))
            self._drop_culprits()
            await self._set(EngineStatus("restarting", message=message, num_restarts=restarts + 1))
            await asyncio.sleep(self._limits.restart_backoff_s * 2**restarts)
        message = f"the engine process died {self._limits.max_restarts + 1} times; see the log, then restart prelabel"
        await self._set(EngineStatus("failed", message=message, num_restarts=self._limits.max_restarts))
        self._fail_all(EngineDead(message))

    def _start_process(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        self._process = context.Process(target=self._entry, args=(theirs, self._options), name="prelabel-engine")
        self._process.start()
        theirs.close()
        self._connection = connection
        return connection

    async def _listen(self, connection: Connection) -> None:
        """Handle messages until the pipe closes, or loading takes longer than its limit."""
        loop = asyncio.get_running_loop()
        reader = ThreadPoolExecutor(1, thread_name_prefix="engine-reader")
        try:
            while True:
                limit = None if self._status.ready else self._limits.load_s
                async with asyncio.timeout(limit):
                    message: FromEngine = await loop.run_in_executor(reader, connection.recv)
                await self._handle(message)
        except TimeoutError:
            await self._set(EngineStatus("failed", message=f"loading took over {self._limits.load_s:.0f} s"))
        except (EOFError, OSError):
            return
        finally:
            reader.shutdown(wait=False)

    async def _handle(self, message: FromEngine) -> None:
        match message:
            case Loading():
                stage = replace(self._status, state="loading", stage=message.stage, fraction=message.fraction)
                await self._set(stage)
            case Ready():
                await self._set(replace(self._status, state="ready", stage="ready", fraction=1.0, ready=message))
                for pending in self._pending.values():  # accepted before a restart
                    self._send(pending.submit)
            case LoadFailed():
                await self._set(EngineStatus("failed", message=message.message))
                self._fail_all(EngineDead(message.message))
            case Finished() | Failed():
                self._resolve(message)

    def _resolve(self, message: Finished | Failed) -> None:
        pending = self._pending.get(message.request_id)
        if pending is None or pending.future.done():
            return
        if isinstance(message, Finished):
            pending.future.set_result(message)
        elif message.kind == "cancelled":
            pending.future.set_exception(Cancelled(message.message))
        else:
            pending.future.set_exception(GenerationFailed(f"{message.kind}: {message.message}"))

    def _drop_culprits(self) -> None:
        """Give every request under way one more attempt; one that was aboard too many deaths is failed."""
        for pending in list(self._pending.values()):
            if pending.attempts >= self._limits.max_attempts and not pending.future.done():
                error = EngineDead(f"the engine died {pending.attempts} times while it worked on this request")
                pending.future.set_exception(error)
            pending.attempts += 1

    def _fail_all(self, error: Exception) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)

    async def _set(self, status: EngineStatus) -> None:
        async with self._changed:
            self._status = status
            self._changed.notify_all()

    def _send(self, message: ToEngine) -> None:
        connection = self._connection

        def send() -> None:
            with contextlib.suppress(OSError, ValueError):  # the engine is gone; the supervisor will notice
                if connection is not None:
                    connection.send(message)

        with contextlib.suppress(RuntimeError):  # the sender is shut down after close()
            self._sender.submit(send)

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.join(self._limits.close_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
