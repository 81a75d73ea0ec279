"""The engine's loop: takes messages, asks the scheduler what comes next, has the runner do it, sends answers.

Each request is answered by exactly one message, whatever happens. Between two steps the loop reads what has arrived, so
a new interactive request waits for one step at most and a cancelled one ends at once. A step that fails is run again in
halves until the requests that fail alone are found; a step that runs out of memory makes later prefills smaller for a
while, and where other programs have taken it, it is waited for. A request that the scheduler puts back keeps its answer
so far, and goes on from there. A broken device ends the process, because only a new one has a working device.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from backend.engine.group_queue import SlotRequest
from backend.engine.mailbox import Mailbox
from backend.engine.messages import (
    EXIT_DEVICE,
    Cancel,
    Failed,
    FailureKind,
    FromEngine,
    Running,
    Shutdown,
    Stats,
    Submit,
)
from backend.engine.packing import Row
from backend.engine.preparation import Preparation
from backend.engine.prompts import Prompt, PromptTooLong
from backend.engine.runner import Runner
from backend.engine.scheduler import KvTooSmall, Prefill, Scheduler, Slot
from backend.errors import one_line
from model_loader.load_errors import is_out_of_memory

log = logging.getLogger(__name__)

PICTURES_S = 100.0
"""How long the pictures of one prefill may take together; below the silence that counts as a hang."""
STATS_S = 1.0
SMALLER_PREFILL_S = 300.0
"""How long prefills stay smaller after one ran out of memory."""
MEMORY_S, MEMORY_EVERY_S = 300, 1
"""How long a request that finds no room even alone waits for what other programs have taken, and how often it tries."""


@dataclass(slots=True)
class _Job:
    """One request in the engine. `row` is set once it has run, `prepared` while its picture waits to be read."""

    request: Submit
    prompt: Prompt
    row: Row | None = None
    prepared: Any = None


class EngineLoop:
    def __init__(
        self,
        runner: Runner,
        mailbox: Mailbox,
        send: Callable[[FromEngine], None],
        scheduler: Scheduler,
        preparation: Preparation,
        stats_s: float = STATS_S,
        is_taken: Callable[[], bool] = lambda: False,
        slowed: Callable[[], tuple[tuple[str, str], ...]] = tuple,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`stats_s`: how often it tells how it is doing, at most. `is_taken`: whether other programs hold memory of the
        card now that was free at the start. `slowed`: what slows the card's clock now, said at once."""
        self._runner = runner
        self._mailbox = mailbox
        self._send = send
        self._scheduler = scheduler
        self._preparation = preparation
        self._jobs: dict[int, _Job] = {}
        self._stats = Stats()
        self._stats_s = stats_s
        self._is_taken = is_taken
        self._slowed = slowed
        self._wait = wait
        self._stats_at = 0.0
        self._smaller_until = 0.0
        self._look_ahead = max(2, min(16, scheduler.limits.max_slots))

    def run(self) -> None:
        """Work until a Shutdown arrives."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Read what has arrived and do one step; wait for a message if there is nothing to do. False after Shutdown."""
        for message in self._mailbox.take(wait=not self._jobs):
            if isinstance(message, Shutdown):
                return False
            self._receive(message)
        self._prepare_upcoming()
        self._say_stats()
        if self._smaller_until and time.monotonic() > self._smaller_until:
            self._scheduler.limit_prefill(self._scheduler.limits.max_prefill_tokens)
            self._smaller_until = 0.0
        turn = self._scheduler.next_turn()
        if isinstance(turn, Prefill):
            self._prefill(turn)
        elif turn is not None:
            self._decode([self._jobs[slot.request_id] for slot in turn.slots])
        return True

    # -- messages ------------------------------------------------------------------------------------------------

    def _receive(self, message: Submit | Cancel) -> None:
        if isinstance(message, Submit):
            self._submit(message)
        elif message.request_id in self._jobs:  # else it was answered already
            was_running = self._scheduler.is_running(message.request_id)
            self._fail(
                message.request_id, "cancelled", "cancelled " + ("while it ran" if was_running else "while it waited")
            )

    def _submit(self, request: Submit) -> None:
        try:
            prompt = self._runner.prompts.encode(request)
            wanted = SlotRequest(
                request_id=request.request_id,
                group=request.group,
                num_tokens=prompt.num_tokens + request.sampling.max_new_tokens,
                num_prefill=prompt.num_tokens - len(prompt.shared_ids),
                interactive=request.interactive,
                alone=request.alone,
                instruction=prompt.shared_ids,
            )
            self._scheduler.submit(wanted)
        except (PromptTooLong, KvTooSmall) as error:
            self._send(Failed(request.request_id, "too_long", str(error)))
        except Exception as error:
            log.exception("request %d could not be taken", request.request_id)
            self._send(Failed(request.request_id, "internal", one_line(error)))
        else:
            self._jobs[request.request_id] = _Job(request, prompt)

    def _prepare_upcoming(self) -> None:
        """Have the pictures of the next requests made ready; one that runs alone is prepared alone, too."""
        if self._scheduler.runs_alone:  # whatever is begun beside it would be charged with its death
            return
        started: list[int] = []
        for request_id in self._scheduler.upcoming(self._look_ahead):
            request = self._jobs[request_id].request
            if request.alone and (self._scheduler.num_running or len(self._preparation)):
                break
            if request_id not in self._preparation:
                self._preparation.start(request, self._jobs[request_id].prompt)
                started.append(request_id)
            if request.alone:
                break
        if started:
            self._send(Running(tuple(started)))

    def _say_stats(self) -> None:
        now = time.monotonic()
        if now - self._stats_at > self._stats_s and self._jobs:
            self._stats_at = now
            peak = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0
            scheduler = self._scheduler
            self._send(
                replace(
                    self._stats,
                    num_waiting=scheduler.num_waiting,
                    num_running=scheduler.num_running,
                    num_kv_tokens=scheduler.num_kv_tokens,
                    prefill_tokens=scheduler.max_prefill_tokens,
                    most_prefill_tokens=scheduler.limits.max_prefill_tokens,
                    memory_gib=peak,
                    slower=self._slowed(),
                )
            )

    # -- steps ---------------------------------------------------------------------------------------------------

    def _prefill(self, turn: Prefill) -> None:
        until = time.monotonic() + PICTURES_S
        starting = [job for slot in turn.slots if (job := self._begin(slot, until)) is not None]
        decoding = [self._jobs[slot.request_id] for slot in turn.decoding]
        jobs = self._with_room([*decoding, *starting])
        started = time.perf_counter()

        def step(part: list[_Job]) -> None:
            """`part` may hold those that decode alone, after a step that failed."""
            others = [job.row for job in part if job.row and job.prepared is None]
            if new := [job for job in part if job.prepared is not None]:
                self._runner.prefill([job.row for job in new if job.row], [job.prepared for job in new], others)
            else:
                self._runner.decode(others)

        self._run(jobs, step)
        for job in starting:
            job.prepared = None
        self._count(num_prefills=1, num_mixed=int(bool(decoding)), prefill_s=time.perf_counter() - started)

    def _begin(self, slot: Slot, until: float) -> _Job | None:
        """Give a request its slot, grammar and picture; fail it alone if one of them is no good.

        `until`: how long its picture may take, so that a slow one does not look like a hang.
        """
        self._say_stats()
        job = self._jobs[slot.request_id]
        kind: FailureKind = "bad_grammar"
        try:
            if slot.request_id not in self._preparation:
                self._send(Running((slot.request_id,)))
                self._preparation.start(job.request, job.prompt)
            if job.row is None:
                job.row = self._runner.start(job.request, job.prompt, slot)
            else:
                job.row.restart(slot)
            kind = "bad_picture"
            job.prepared = self._preparation.take(slot.request_id, max(0.1, until - time.monotonic()))
        except Exception as error:
            if not isinstance(error, ValueError):  # GrammarError, a picture the processor refuses
                log.exception("request %d could not be prepared", slot.request_id)
            self._fail(slot.request_id, kind, one_line(error))
            return None
        if job.row.sequence.finished:  # the grammar leaves nothing to choose
            self._answer(job)
            return None
        return job

    def _decode(self, jobs: list[_Job]) -> None:
        jobs = self._with_room(jobs)
        started = time.perf_counter()
        self._run(jobs, lambda part: self._runner.decode([job.row for job in part if job.row]))
        self._count(num_steps=1, decode_s=time.perf_counter() - started)

    def _with_room(self, jobs: list[_Job]) -> list[_Job]:
        """Have blocks for what the next step of `jobs` writes. Returns those that were not put back for others."""
        for job in jobs:
            request_id = job.request.request_id
            if job.row is not None and self._scheduler.is_running(request_id):
                for number in self._scheduler.extend(request_id, job.row.num_after_step):
                    self._jobs[number].prepared = None
                    self._count(num_put_back=1)
        return [job for job in jobs if self._scheduler.is_running(job.request.request_id)]

    def _run(self, jobs: list[_Job], step: Callable[[list[_Job]], None]) -> None:
        """Run a step over `jobs`; if it fails, over its halves, down to the requests that fail alone."""
        if not jobs:
            return
        problem, out_of_memory = self._try(jobs, step)
        if out_of_memory:
            self._shrink(jobs)
            if len(jobs) == 1:
                problem, out_of_memory = self._try_until_there_is_memory(jobs, step)
        if not problem and not out_of_memory:
            for job in jobs:
                if job.row and job.row.sequence.finished:
                    self._answer(job)
        elif len(jobs) == 1:
            kind: FailureKind = "out_of_memory" if out_of_memory else "internal"
            reason = problem or (
                "does not fit in the card's memory even alone: end what else runs on the card (nvidia-smi lists it), "
                "or use fewer image tokens"
            )
            self._fail(jobs[0].request.request_id, kind, reason)
        else:
            middle = (len(jobs) + 1) // 2
            self._run(jobs[:middle], step)
            self._run(jobs[middle:], step)

    def _try(self, jobs: list[_Job], step: Callable[[list[_Job]], None]) -> tuple[str, bool]:
        """Run a step, and return what was wrong with it ("": nothing, or memory), and whether memory fell short."""
        try:
            step(jobs)
        except Exception as error:
            if is_out_of_memory(error):
                return "", True
            log.exception("a step of %d requests failed", len(jobs))
            if is_device_fault(error):
                os._exit(EXIT_DEVICE)  # only a new process has a working device; the API starts one
            return one_line(error), False
        return "", False

    def _try_until_there_is_memory(self, jobs: list[_Job], step: Callable[[list[_Job]], None]) -> tuple[str, bool]:
        """As `_try`, of a request alone. At the start there was room for it: where others have taken that, all that
        wait would fail one after the other, within minutes, for what is none of their fault."""
        for _ in range(0, MEMORY_S, MEMORY_EVERY_S):
            if not self._is_taken():
                break
            self._say_stats()  # silence would be a hang
            self._wait(MEMORY_EVERY_S)
            problem, out_of_memory = self._try(jobs, step)
            if not out_of_memory:
                return problem, False
        return "", True

    def _shrink(self, jobs: list[_Job]) -> None:
        torch.cuda.empty_cache()
        read = [job for job in jobs if job.prepared is not None] or jobs
        tokens = min(self._scheduler.max_prefill_tokens, sum(len(job.prompt.suffix_ids) for job in read) // 2)
        log.warning("out of memory with %d requests in one step; prefills are %d tokens now", len(jobs), tokens)
        self._scheduler.limit_prefill(tokens)
        self._smaller_until = time.monotonic() + SMALLER_PREFILL_S

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(self, job: _Job) -> None:
        assert job.row is not None
        sequence = job.row.sequence
        if sequence.failure:
            self._fail(job.request.request_id, "internal", sequence.failure)
            return
        self._forget(job.request.request_id)
        self._count(num_finished=1)
        self._send(sequence.result())

    def _fail(self, request_id: int, kind: FailureKind, message: str) -> None:
        self._forget(request_id)
        self._send(Failed(request_id, kind, message))

    def _forget(self, request_id: int) -> None:
        """Free everything a request holds: its place in the queue or its slot, and its prepared picture."""
        del self._jobs[request_id]
        self._preparation.discard(request_id)
        if not self._scheduler.cancel(request_id):
            self._scheduler.finish(request_id)

    def _count(self, **more: float) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in more.items()})


def is_device_fault(error: BaseException) -> bool:
    """A fault after which CUDA answers every call with the same error, whatever it is about."""
    text = str(error)
    marks = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "Triton Error [CUDA]")
    return isinstance(error, torch.AcceleratorError) or any(mark in text for mark in marks)
