"""The API process's side of the engine: starts its process, submits requests, notices its death, starts it again.

Death is the end of the process, or its silence while it has work. What waited is submitted to the next process; what
was on the device runs again one by one, and a request that was aboard two deaths is failed by name. A model that
cannot be loaded is final (`LoadFailed`): starting again would not help. A restart loads the same model again, and there
a failure is a death like any other: what has been loaded once can be, when others have left the card. A start that ends
or hangs without a word while a part of it is tried out goes on without that part, and so do faults and hangs that come
again and again.
Imports no torch. All methods run on one event loop; two daemon threads do the blocking reads and writes of the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import queue
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from typing import Any

from backend.engine import process
from backend.engine.api import EngineStatus
from backend.engine.messages import (
    EXIT_DEVICE,
    PART_AT_WORK,
    Cancel,
    Failed,
    Finished,
    FromEngine,
    GenerateRequest,
    LoadFailed,
    Loading,
    Part,
    Ready,
    Running,
    Shutdown,
    StartAgain,
    Stats,
    Submit,
    ToEngine,
)
from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from backend.reasons import Reason

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    submit: Submit
    future: asyncio.Future[Finished]
    is_running: bool = False
    num_deaths: int = 0


_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""How a process ends that others end, the system for want of memory among them."""
_SUSPECTS: tuple[Part, ...] = ("graphs", "kernels")
"""What is left out after a second fault or hang in a row, one after the other: it may be their cause."""


def _ended(exitcode: int | None, by_itself: bool) -> str:
    said = f"the engine process ended with exit code {exitcode}"
    if by_itself and exitcode == -signal.SIGKILL:
        said += ": it was killed, as the system does when this machine's memory is full (`dmesg` says so)"
    if exitcode == EXIT_DEVICE:
        said += ": the device failed, the log says how"
    return said


_starting = threading.Lock()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A process started in this block does not run the program's main module again, as spawned ones do: the engine
    needs nothing of it, and a server's script without `if __name__ == "__main__"` would start its server once more."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


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
        self._outgoing: queue.SimpleQueue[tuple[Connection, ToEngine] | None] = queue.SimpleQueue()
        self._supervisor: asyncio.Task[None] | None = None
        self._process: Any = None
        self._connection: Connection | None = None
        self._starts_again = False
        self._has_served = False
        self._refused = ""

    @property
    def status(self) -> EngineStatus:
        num_running = sum(pending.is_running for pending in self._pending.values())
        return replace(self._status, num_running=num_running, num_queued=len(self._pending) - num_running)

    @property
    def _has_work(self) -> bool:
        """Whether an answer is owed. One that has come is no work, though who waits for it has not woken up yet."""
        return any(not pending.future.done() for pending in self._pending.values())

    async def start(self) -> None:
        if self._supervisor is None:
            await self._set(EngineStatus("loading", stage="starting"))
            threading.Thread(target=self._write, name="engine-writer", daemon=True).start()
            self._supervisor = asyncio.create_task(self._supervise_safely(), name="engine-supervisor")

    async def wait_ready(self, timeout_s: float) -> Ready:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._status.state == "ready" or self._status.is_gone)
        except TimeoutError:
            status = self._status
            done = f"{status.stage} {status.fraction:.0%}"
            raise EngineNotReady(f"the model is still {status.state} ({done}); try again in a minute") from None
        if self._status.ready is None:
            raise EngineDead(f"the model could not be loaded: {self._status.message or self._status.state}")
        return self._status.ready

    async def generate(self, request: GenerateRequest) -> Finished:
        self._status.require_ready()
        if len(self._pending) >= self._options.max_queue:
            raise EngineBusy(f"{len(self._pending)} requests are waiting already")
        self._next_id += 1
        asked = {field.name: getattr(request, field.name) for field in fields(request)}
        submit = Submit(**asked, request_id=self._next_id)
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
        self._fail_all(EngineDead("the engine was closed"))
        try:
            await asyncio.wait([self._supervisor])
            await asyncio.to_thread(self._end_process)
        except asyncio.CancelledError:  # our caller's patience is over: the thread then ends at once
            if self._process is not None:
                self._process.kill()
            raise
        finally:
            self._outgoing.put(None)

    # -- supervision ---------------------------------------------------------------------------------------------

    async def _supervise_safely(self) -> None:
        try:
            await self._supervise()
        except Exception as error:  # a job's border: nobody awaits this task, so it must say it itself
            log.exception("the engine's supervisor failed")
            await self._give_up(f"the engine cannot be supervised: {type(error).__name__}; restart prelabel")

    async def _supervise(self) -> None:
        """Run engine processes one after the other until one fails to load or they die too often."""
        restarts = 0
        while True:
            connection = self._start_process()
            if restarts:
                log.warning("engine process %d started after a death", self._process.pid)
            served_s, silence = await self._listen(connection)
            connection.close()
            if self._status.is_gone:
                return
            by_itself = await asyncio.to_thread(self._end_process)
            if self._status.is_gone:
                return
            part = self._part_to_blame() if silence or self._process.exitcode not in _FROM_OUTSIDE else None
            message = self._refused or silence or _ended(self._process.exitcode, by_itself)
            self._refused = ""
            if part:
                await self._go_on_without(part, message)
            if self._starts_again:
                self._starts_again = False
                continue
            log.error("%s; %d requests wait for the next one", message, len(self._pending))
            self._note_death()
            restarts = 1 if served_s > self._limits.stable_s else restarts + 1
            if restarts > self._limits.max_restarts:
                often = f"the engine process died {restarts} times in a row; see the log, restart prelabel"
                await self._give_up(f"{often}. The last time {message}")
                return
            if restarts > 1 and (silence or self._process.exitcode == EXIT_DEVICE):
                left = [suspect for suspect in _SUSPECTS if suspect not in dict(self._options.without)]
                for suspect in left[:1]:
                    self._leave_out(suspect, message)
            await self._set(EngineStatus("restarting", message=message, num_restarts=self._status.num_restarts + 1))
            await asyncio.sleep(self._limits.restart_backoff_s * 2 ** (restarts - 1))

    def _part_to_blame(self) -> Part | None:
        """What is tried out by a process that is loading and has not said what is wrong, if there is any left."""
        if self._status.state != "loading" or self._starts_again or self._refused:
            return None
        part = PART_AT_WORK.get(self._status.stage)
        return None if part in dict(self._options.without) else part

    async def _go_on_without(self, part: Part, why: str) -> None:
        self._starts_again = True
        self._leave_out(part, why)
        said = f"it starts again without {part}: {why}"
        await self._set(replace(self._status, stage="starting", fraction=0.0, message=said))

    def _leave_out(self, part: Part, why: str) -> None:
        log.warning("the engine starts again without %s: %s", part, why)
        self._options = replace(self._options, without=(*self._options.without, (part, why)))

    async def _give_up(self, message: str) -> None:
        await self._set(EngineStatus("failed", message=message, num_restarts=self._status.num_restarts))
        self._fail_all(EngineDead(message))

    def _start_process(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        connection, theirs = context.Pipe()
        # daemon: ended with the interpreter, which would otherwise wait for an engine that nobody closed
        self._process = context.Process(
            target=self._entry, args=(theirs, self._options), name="prelabel-engine", daemon=True
        )
        with _without_main():
            self._process.start()
        theirs.close()
        self._connection = connection
        return connection

    async def _listen(self, connection: Connection) -> tuple[float, str]:
        """Handle messages until the pipe closes, loading stands still, or a process with work falls silent.

        Returns for how many seconds the process served, and what to say of its silence if it was ended for that.
        """
        loop = asyncio.get_running_loop()
        incoming: asyncio.Queue[FromEngine | None] = asyncio.Queue()

        def read() -> None:
            message: FromEngine | None = None
            while True:
                try:
                    message = connection.recv()
                except Exception as error:  # the pipe is closed, or this is no message: either way it is of no use
                    if not isinstance(error, EOFError | OSError):
                        log.exception("a message of the engine could not be read")
                    message = None
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    loop.call_soon_threadsafe(incoming.put_nowait, message)
                if message is None:
                    return

        # a daemon thread: an executor's would keep the interpreter from ending while it waits for the engine
        reader = threading.Thread(target=read, name="engine-reader", daemon=True)
        reader.start()
        ready_at: float | None = None
        was_idle = True
        silence = ""
        while True:
            limit_s = self._limits.hang_s
            if ready_at is None:
                is_tuning = self._status.stage in PART_AT_WORK
                limit_s = self._limits.tune_s if is_tuning else self._limits.load_s
            try:
                async with asyncio.timeout(limit_s):
                    message = await incoming.get()
            except TimeoutError:
                if ready_at is None:
                    if self._part_to_blame() is None:
                        await self._give_up(
                            f"loading stood still at {self._status.stage} {self._status.fraction:.0%} for "
                            f"{limit_s:.0f} s and was ended; look at the network, the disks and `dmesg`, and start "
                            "prelabel again"
                        )
                elif was_idle or not self._has_work:  # silence counts only when there was work all the time
                    was_idle = not self._has_work
                    continue
                at = f" at {self._status.stage}" if ready_at is None else ""
                silence = f"the engine said nothing for {limit_s:.0f} s{at} and was ended"
                log.error("%s", silence)
                self._process.kill()
                await asyncio.to_thread(reader.join, self._limits.close_s)  # else it reads from what is closed next
                break
            if message is None:
                break
            if isinstance(message, Ready):
                ready_at = loop.time()
            await self._handle(message)
            was_idle = not self._has_work
        return (0.0 if ready_at is None else loop.time() - ready_at), silence

    async def _handle(self, message: FromEngine) -> None:
        match message:
            case Loading():
                at = {field.name: getattr(message, field.name) for field in fields(Loading)}
                await self._set(replace(self._status, state="loading", **at))
            case Ready():
                self._options = replace(self._options, model=message.source or self._options.model)
                self._has_served = True
                num_restarts = self._status.num_restarts
                await self._set(EngineStatus("ready", "ready", 1.0, message, num_restarts=num_restarts))
                for pending in self._pending.values():  # accepted before a restart
                    self._send(pending.submit)
            case LoadFailed() if self._has_served:
                self._refused = f"the model could not be loaded again: {message.message}"
            case LoadFailed():
                await self._give_up(message.message)
            case StartAgain() if message.without not in dict(self._options.without):
                await self._go_on_without(message.without, message.why)
            case StartAgain():
                pass  # it has had its chance: what follows is a death like any other
            case Running():
                for request_id in message.request_ids:
                    if request_id in self._pending:
                        self._pending[request_id].is_running = True
            case Stats():
                self._status = replace(self._status, stats=message)
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
            reason: Reason = "generation_failed" if message.kind == "internal" else message.kind
            pending.future.set_exception(GenerationFailed(f"{message.kind}: {message.message}", reason))

    def _note_death(self) -> None:
        """Charge the death to what was on the device: it runs again without neighbours, or fails the second time."""
        for pending in self._pending.values():
            if not pending.is_running:
                continue
            pending.is_running = False
            pending.num_deaths += 1
            pending.submit = replace(pending.submit, alone=True)
            if pending.num_deaths >= self._limits.max_attempts and not pending.future.done():
                error = EngineDead(f"the engine died {pending.num_deaths} times while it worked on this request")
                pending.future.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)

    async def _set(self, status: EngineStatus) -> None:
        async with self._changed:
            self._status = status
            self._changed.notify_all()

    def _send(self, message: ToEngine) -> None:
        if self._connection is not None:
            self._outgoing.put((self._connection, message))

    def _write(self) -> None:
        while (item := self._outgoing.get()) is not None:
            connection, message = item
            try:
                connection.send(message)
            except Exception as error:  # the engine is gone; the supervisor notices. This thread must outlive it.
                log.debug("a message was not sent: %s", type(error).__name__)

    def _end_process(self) -> bool:
        """Return whether it ended without us."""
        if self._process is None:
            return True
        self._process.join(self._limits.close_s)
        if not self._process.is_alive():
            return True
        self._process.kill()
        self._process.join()
        return False
