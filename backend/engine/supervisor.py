"""Starts the engine's process, listens to it, notices its death, and starts it again.

Death is the end of the process, or its silence while it has work; `engine.pending` says what becomes of requests then.
A model that cannot be loaded is final (`LoadFailed`): starting again would not help. But a card that other programs
hold is waited for, a fault of the card is a death like any other, and so is any failure of a restart, which loads the
same model again: what has been loaded once can be. A restart that has another model is ended: its answers would be
taken for those of the first.
A start that ends or hangs without a word while a part of it is tried out goes on without that part, and so do faults
and hangs that come again and again.
Belongs to one event loop. Imports no torch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count

from backend.engine.api import EngineStatus
from backend.engine.child import OF_THE_DEVICE, EngineProcess, Entry, is_one_left, why_ended
from backend.engine.current_status import CurrentStatus
from backend.engine.messages import (
    LOOKS_AT_DISKS,
    MAY_TAKE_HOURS,
    PART_AT_WORK,
    Failed,
    Finished,
    FromEngine,
    LoadFailed,
    Loading,
    Part,
    Ready,
    Running,
    Shutdown,
    StartAgain,
    Stats,
    ToEngine,
)
from backend.engine.options import EngineLimits, EngineOptions
from backend.engine.own_code import running_code
from backend.engine.pending import PendingRequests
from backend.errors import EngineDead, one_line
from backend.pages.engine_words import Why
from backend.pages.words import Words
from backend.processes import FROM_OUTSIDE
from model_loader.patience import TOLD_S, Pauses

log = logging.getLogger(__name__)

_SUSPECTS: tuple[Part, ...] = ("graphs", "kernels")
"""What is left out after a second fault or hang in a row, or some within hours, one after the other: it may be their
cause."""
_WAITED_FOR = frozenset({"memory_taken", "card_busy", "load_card_held", "card_fabric"})
"""What a model is refused for that passes once other programs leave the card, or, as a machine starts, prepare it."""
_FAULTS = frozenset({"load_card_failed", "load_card_full"})
"""What a card does in one process, and perhaps not in the next."""
_words = Words("en")


class Supervisor:
    """`answered` is called when the engine has answered somebody. `ended`: why the process before this one did."""

    def __init__(
        self,
        entry: Entry,
        options: EngineOptions,
        limits: EngineLimits,
        pending: PendingRequests,
        answered: Callable[[], None],
    ) -> None:
        self.current = CurrentStatus(limits)
        self.ended: tuple[Why, ...] = ()
        self._entry = entry
        self._options = replace(options, code=options.code or running_code())
        self._limits = limits
        self._pending = pending
        self._answered = answered
        self._process: EngineProcess | None = None
        self._starts_again = False
        self._served: Ready | None = None
        self._faults: list[float] = []
        self._refused: LoadFailed | None = None
        self._pauses: Pauses | None = None
        self._waited_s = 0.0

    def send(self, message: ToEngine) -> None:
        if self._process is not None:  # before the first one starts there is nothing to say
            self._process.send(message)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def end(self) -> bool:
        """Wait for the end of the process, and kill it if that takes too long. Return whether it ended without us."""
        return self._process is None or self._process.end(self._limits.close_s)

    @property
    def _status(self) -> EngineStatus:
        return self.current.now

    async def run(self) -> None:
        """Until there will be no engine any more. Raises nothing but CancelledError."""
        try:
            await self._supervise()
        except Exception as error:  # a job's border: nobody awaits this task, so it must say it itself
            log.exception("the engine's supervisor failed")
            await self._give_up(Why("engine_unsupervised", {"kind": type(error).__name__}))

    async def _supervise(self) -> None:
        """Run engine processes one after the other until one fails to load or they die too often."""
        restarts = 0
        while True:
            if (process := await self._begin()) is None:
                return
            if restarts:
                log.warning("engine process %d started after a death", process.pid)
            served_s, silence = await self._listen(process)
            process.hang_up()
            if self._status.is_gone:
                return
            by_itself = await asyncio.to_thread(self.end)
            if self._status.is_gone:
                return
            part = self._part_to_blame() if silence or process.exitcode not in FROM_OUTSIDE else None
            has_begun = self._status.stage not in ("", "starting")
            ended = silence or why_ended(process.exitcode, by_itself, has_begun)
            if part:
                await self._go_on_without(part, _words.why((ended,)), ended)
            if self._starts_again:
                self._starts_again = False
                continue
            refused, self._refused = self._refused, None
            if refused is not None and refused.why.code in _WAITED_FOR:
                if not await self._wait_for_card(refused):
                    return
                continue
            why = (*self._where(silence, refused), refused.why if refused else ended)
            message = _words.why(why)
            log.error("%s; %d requests wait for the next one", message, len(self._pending))
            self._pending.note_death(self._limits.max_attempts)
            restarts = 1 if served_s > self._limits.stable_s else restarts + 1
            if restarts > self._limits.max_restarts:
                await self._give_up(Why("engine_died_often", {"times": str(restarts)}), *why)
                return
            if served_s and (silence or ended.code in OF_THE_DEVICE):  # before that neither part has been at work
                self._note_fault(message, is_another=restarts > 1)
            self.ended = why
            await self.current.set(self.current.not_ready("restarting", *why, num_more=1))
            await asyncio.sleep(self._limits.restart_backoff_s * 2 ** (restarts - 1))

    def _where(self, silence: Why | None, refused: LoadFailed | None) -> tuple[Why, ...]:
        """What is said before the reason of a death."""
        if refused is not None:
            return (Why("engine_refused_again"),) if self._served else ()
        is_told = silence or self._status.state != "loading"
        return () if is_told else (Why("engine_while", {"stage": self._status.stage}),)

    async def _wait_for_card(self, refused: LoadFailed) -> bool:
        """Wait until the next try, and tell how long. False: it has lasted too long, and the engine is given up.

        What lasts is the waiting: between two waits a load may have gone on for hours.
        """
        loop = asyncio.get_running_loop()
        self._pauses = self._pauses or Pauses(self._options.patience_s, lambda: self._waited_s)
        if (pause_s := self._pauses.next()) is None:
            await self._give_up(refused.why, message=refused.message)
            return False
        log.warning("%s; it is tried again in %.0f s", refused.message, pause_s)
        again = Why("engine_card_again", {"hours": f"{self._options.patience_s / 3600:.0f}"})
        left = (Why("engine_left"),) if is_one_left() else ()
        status = self.current.not_ready("loading", *left, again, refused.why, stage="card_again")
        status = replace(status, message=f"{_words.why((*left, again))} {refused.message}")
        until = loop.time() + pause_s
        while (left_s := until - loop.time()) > 0:
            await self.current.set(replace(status, left_s=left_s))
            await asyncio.sleep(min(left_s, TOLD_S))
        self._waited_s += pause_s
        await self.current.set(self.current.not_ready("loading", stage="starting"))
        return True

    def _part_to_blame(self) -> Part | None:
        """What is tried out by a process that is loading and has not said what is wrong, if there is any left."""
        if self._status.state != "loading" or self._starts_again or self._refused is not None:
            return None
        part = PART_AT_WORK.get(self._status.stage)
        return None if part in dict(self._options.without) else part

    async def _go_on_without(self, part: Part, message: str, because: Why) -> None:
        """`message` says `because` in English."""
        self._starts_again = True
        self._leave_out(part, message)
        without = Why(f"engine_without_{part}")
        await self.current.set(self.current.not_ready("loading", without, because, stage="starting"))

    def _leave_out(self, part: Part, why: str) -> None:
        log.warning("the engine starts again without %s: %s", part, why)
        self._options = replace(self._options, without=(*self._options.without, (part, why)))

    def _note_fault(self, message: str, *, is_another: bool) -> None:
        """Leave out a suspect after another fault in a row, and after some that good minutes stand between: a part that
        fails now and then would do so for ever."""
        now = asyncio.get_running_loop().time()
        self._faults = [at for at in self._faults if at > now - self._limits.faults_s] + [now]
        if not is_another and len(self._faults) < self._limits.max_faults:
            return
        self._faults = []
        left = [suspect for suspect in _SUSPECTS if suspect not in dict(self._options.without)]
        for suspect in left[:1]:
            self._leave_out(suspect, message)

    async def _give_up(self, *why: Why, message: str = "") -> None:
        """`message`: in the engine's own words, where it has some."""
        status = self.current.not_ready("failed", *why)
        await self.current.set(replace(status, message=message or status.message))
        self._pending.fail_all(EngineDead(self._status.message))

    async def _begin(self) -> EngineProcess | None:
        """A new process; None where the system has let none be started for so many tries."""
        for tries in count(1):
            try:
                self._process = EngineProcess(self._entry, self._options, self._pending.resolve)
                return self._process
            except (OSError, RuntimeError) as error:  # no file, memory, process or thread is left, which may pass
                why = Why("engine_not_started", {"said": one_line(error)})
            log.error("%s", _words.why((why,)))
            if tries > self._limits.max_restarts:
                await self._give_up(why)
                break
            await self.current.set(self.current.not_ready("restarting", why))
            await asyncio.sleep(self._limits.restart_backoff_s * 2 ** (tries - 1))
        return None

    async def _listen(self, process: EngineProcess) -> tuple[float, Why | None]:
        """Handle messages until the pipe closes, loading stands still, or a process with work falls silent.

        Returns for how many seconds the process served, and what to say of its silence if it was ended for that.
        """
        clock = asyncio.get_running_loop().time
        ready_at: float | None = None
        was_idle = True
        silence: Why | None = None
        while True:
            limit_s = self._silence_limit()
            try:
                async with asyncio.timeout(limit_s):
                    message = await process.receive()
            except TimeoutError:
                if ready_at is None:
                    part = self._part_to_blame()
                    silence = self._stood_still(limit_s, part)
                    if part is None and self._served is None:
                        await self._give_up(silence)
                elif was_idle or not self._pending.has_work:  # silence counts only when there was work all the time
                    was_idle = not self._pending.has_work
                    continue
                silence = silence or Why("engine_silent", {"limit": f"{limit_s:.0f}"})
                log.error("%s", _words.why((silence,)))
                process.kill()
                await asyncio.to_thread(process.wait_unread, self._limits.close_s)
                break
            if message is None:
                break
            if isinstance(message, Ready):
                ready_at = clock()
            await self._handle(message)
            was_idle = not self._pending.has_work
        return (0.0 if ready_at is None else clock() - ready_at), silence

    def _silence_limit(self) -> float:
        """For how many seconds nothing may move in the present stage of a load, or be said by an engine with work."""
        stage, ready = self._status.stage, self._status.ready
        if ready is not None:
            return self._limits.cpu_hang_s if ready.device == "cpu" else self._limits.hang_s
        if stage in PART_AT_WORK:
            return self._limits.tune_s
        return self._limits.load_s if stage in MAY_TAKE_HOURS else self._limits.start_s

    def _stood_still(self, limit_s: float, part: Part | None) -> Why:
        """`part`: what the next process does without, for it may have been that."""
        stage = self._status.stage or "starting"
        code = "engine_stood_still" if stage in MAY_TAKE_HOURS else "engine_not_begun"
        if stage == LOOKS_AT_DISKS:
            code = "engine_disk_silent"
        if part is not None:
            code = "engine_silent_at"
        return Why(code, {"stage": stage, "percent": f"{self._status.fraction:.0%}", "limit": f"{limit_s:.0f}"})

    async def _handle(self, message: FromEngine) -> None:
        match message:
            case Loading():
                at = {field.name: getattr(message, field.name) for field in fields(Loading)}
                waited = self._status.stage == "download_again"  # what it waited for has passed
                at["why"] = message.why or (() if waited else self._status.why)
                told = _words.why(at["why"])
                await self.current.set(replace(self._status, state="loading", stalled_s=0.0, message=told, **at))
            case Ready():
                if self._served is not None and self._served.identity != message.identity:
                    await self._end_another(self._served, message)
                    return
                self._options = replace(self._options, model=message.source or self._options.model)
                self._served, self._pauses = message, None
                num_restarts = self._status.num_restarts
                for code, said in message.slower:
                    log.warning("%s", _words.check(code, {"said": said}))
                await self.current.set(EngineStatus("ready", "ready", 1.0, message, num_restarts=num_restarts))
                for submit in self._pending.submits():  # accepted before a restart
                    self.send(submit)
            case LoadFailed() if self._served or message.why.code in _WAITED_FOR | _FAULTS:
                self._refused = message
            case LoadFailed():
                await self._give_up(message.why, message=message.message)
            case StartAgain() if message.without not in dict(self._options.without):
                await self._go_on_without(message.without, message.why, Why("engine_said", {"said": message.why}))
            case StartAgain():
                pass  # it has had its chance: what follows is a death like any other
            case Running():
                self._pending.running(message.request_ids)
            case Stats():
                for code, said in message.slower:
                    if code not in dict(self._status.stats.slower):
                        log.warning("%s", _words.check(code, {"said": said}))
                self.current.now = replace(self._status, stats=message)
            case Finished() | Failed():
                self._pending.resolve(message)
                if isinstance(message, Finished) or message.kind != "cancelled":
                    self._answered()

    async def _end_another(self, first: Ready, now: Ready) -> None:
        """What waits was asked of the `first` model, and what is answered `now` would be taken for its answers."""
        why = Why("engine_other_model", {"first": first.identity, "now": now.identity})
        log.error("%s", _words.why((why,)))
        self.send(Shutdown())
        await self._give_up(why)
