"""The engine's own process: loads the model, then answers Submit messages in batches until it is told to stop.

One thread reads messages from the parent, so that the pipe never fills up; the main thread owns the device. When the
pipe closes (the parent died) the process ends at once, and so it does when the device is broken. Each answer is sent
as soon as its row is done. A batch that runs out of memory runs again in halves, one that fails otherwise row by row;
a request that fails alone fails by itself. Errors of one request never reach its neighbours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from backend.engine.messages import (
    Alive,
    Cancel,
    Failed,
    FailureKind,
    FromEngine,
    LoadFailed,
    Loading,
    Ready,
    Running,
    Shutdown,
    Submit,
    ToEngine,
)
from backend.engine.options import EngineOptions
from backend.logs import configure_logging

if TYPE_CHECKING:
    from backend.engine.runner import Prepared
    from backend.engine.sequence import Sequence

log = logging.getLogger(__name__)

EXIT_DEVICE = 70
EXIT_READER = 71
ALIVE_S = 1.0
SMALLER_BATCH_S = 300.0
"""How long a batch size that ran out of memory is not tried again."""


class Mailbox:
    """Requests waiting for the device, interactive ones first. Filled by the reader thread."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._interactive: deque[Submit] = deque()
        self._bulk: deque[Submit] = deque()
        self._held: set[int] = set()
        self._cancelled: set[int] = set()
        self._closed = False

    def put(self, message: ToEngine) -> None:
        with self._ready:
            match message:
                case Submit():
                    self._held.add(message.request_id)
                    (self._interactive if message.interactive else self._bulk).append(message)
                case Cancel() if message.request_id in self._held:  # else it was answered already
                    self._cancelled.add(message.request_id)
                case Shutdown():
                    self._closed = True
            self._ready.notify()

    def take(self, max_requests: int) -> list[Submit] | None:
        """Wait for requests and return up to `max_requests` of one kind, or None once closed.

        A person's requests never share a batch with bulk work, whose slowest row they would wait for.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._closed or self._interactive or self._bulk)
            if self._closed:
                return None
            waiting = self._interactive or self._bulk
            taken = [waiting.popleft()]
            while waiting and len(taken) < max_requests and not (taken[0].alone or waiting[0].alone):
                taken.append(waiting.popleft())
            return taken

    def is_cancelled(self, request_id: int) -> bool:
        with self._ready:
            return request_id in self._cancelled

    def forget(self, request_id: int) -> None:
        """A request has been answered."""
        with self._ready:
            self._held.discard(request_id)
            self._cancelled.discard(request_id)


def main(connection: Connection, options: EngineOptions) -> None:
    """Entry point of the process (spawned by `backend.engine.client`)."""
    configure_logging(options.log_level)
    # on a CPU it warns about an optional package with faster kernels, which our path does not use
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says Shutdown
    mailbox = Mailbox()
    threading.Thread(target=_read, args=(connection, mailbox), name="engine-reader", daemon=True).start()
    engine = _EngineLoop(connection, mailbox, options)
    try:
        engine.load()
    except Exception as error:
        log.exception("the model could not be loaded")
        engine.send(LoadFailed(_one_line(error)))
        return
    engine.run()


def _read(connection: Connection, mailbox: Mailbox) -> None:
    try:
        while True:
            mailbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone: nobody is left to answer
    except BaseException:
        log.exception("a message of the API process could not be read")
        os._exit(EXIT_READER)


class _EngineLoop:
    def __init__(self, connection: Connection, mailbox: Mailbox, options: EngineOptions) -> None:
        self._connection = connection
        self._mailbox = mailbox
        self._options = options
        self._max_batch = options.max_batch
        self._smaller_until = 0.0
        self._alive_at = 0.0

    def send(self, message: FromEngine) -> None:
        with contextlib.suppress(OSError):  # the reader thread ends the process when the parent is gone
            self._connection.send(message)

    def load(self) -> None:
        import torch

        from backend.engine.runner import Runner
        from model_loader.loader import load_model
        from model_loader.sources import choose_model

        options = self._options
        model, reason = choose_model(options.model, vram_gib=options.vram_gib, device=options.device)
        log.info("the model is %s: %s", model, reason)
        self.send(Loading(f"{model}: {reason}", 0.0))
        if options.vram_gib and torch.cuda.is_available() and options.device != "cpu":
            total_gib = torch.cuda.get_device_properties(options.device or "cuda").total_memory / 2**30
            torch.cuda.set_per_process_memory_fraction(min(1.0, options.vram_gib / total_gib), options.device or 0)
        loaded = load_model(
            model,
            on_progress=lambda stage, fraction: self.send(Loading(stage, fraction)),
            device=options.device,
            vram_gib=options.vram_gib,
            revision=options.revision,
            save_quantised_to=options.quantised_dir,
        )
        self._runner = Runner(loaded, image_tokens=options.image_tokens, context_tokens=options.context_tokens)
        memory_gib = loaded.model.get_memory_footprint() / 2**30
        self.send(
            Ready(
                model_name=loaded.name,
                quantisation=loaded.quantisation,
                device=loaded.device,
                memory_gib=memory_gib,
                load_s=loaded.load_s,
                source=model,
                weights_id=loaded.weights_id,
            )
        )

    def run(self) -> None:
        while (requests := self._mailbox.take(self._batch_size())) is not None:
            self._answer(requests)

    def _batch_size(self) -> int:
        if time.monotonic() > self._smaller_until:
            self._max_batch = self._options.max_batch
        return self._max_batch

    def _answer(self, requests: list[Submit]) -> None:
        """Answer every one of `requests`, each by exactly one message."""
        self.send(Running(tuple(request.request_id for request in requests)))
        self._generate([row for row in map(self._prepare, requests) if row is not None])

    def _prepare(self, request: Submit) -> Prepared | None:
        """Return the inputs of `request`, or fail it alone and return None."""
        if self._mailbox.is_cancelled(request.request_id):
            self._fail(request.request_id, "cancelled", "cancelled before it started")
            return None
        self._say_alive()
        try:
            return self._runner.prepare(request)
        except Exception as error:
            if not isinstance(error, ValueError):  # GrammarError, PromptTooLong, a picture the processor refuses
                log.exception("request %d could not be prepared", request.request_id)
            kind: FailureKind = "too_long" if type(error).__name__ == "PromptTooLong" else "bad_grammar"
            self._fail(request.request_id, kind, _one_line(error))
            return None

    def _generate(self, batch: list[Prepared]) -> None:
        """Answer the rows of `batch`. Those that a failed run left unanswered run again in smaller batches."""
        import torch

        if not batch:
            return
        out_of_memory, problem = False, ""
        try:
            self._runner.generate(batch, is_cancelled=self._is_cancelled, on_finished=self._finish)
        except torch.OutOfMemoryError:
            out_of_memory = True  # freed below: inside the handler the traceback still holds the tensors
        except Exception as error:
            log.exception("a batch of %d failed", len(batch))
            if _is_device_fault(error):
                os._exit(EXIT_DEVICE)  # only a new process has a working device; the API starts one
            problem = _one_line(error)
        left = [row.sequence.request for row in batch if not row.sequence.finished]
        if not left:
            return
        if len(batch) == 1:
            kind: FailureKind = "out_of_memory" if out_of_memory else "internal"
            self._fail(left[0].request_id, kind, problem or "does not fit in memory alone: use fewer image tokens")
            return
        size = 1
        if out_of_memory:
            torch.cuda.empty_cache()
            size = max(1, len(batch) // 2)
            self._max_batch, self._smaller_until = size, time.monotonic() + SMALLER_BATCH_S
            log.warning("out of memory with %d requests at once; trying %d", len(batch), size)
        batch.clear()
        for start in range(0, len(left), size):
            self._generate([row for row in map(self._prepare, left[start : start + size]) if row is not None])

    def _is_cancelled(self, request_id: int) -> bool:
        self._say_alive()
        return self._mailbox.is_cancelled(request_id)

    def _say_alive(self) -> None:
        now = time.monotonic()
        if now - self._alive_at > ALIVE_S:
            self._alive_at = now
            self.send(Alive())

    def _finish(self, sequence: Sequence) -> None:
        request_id = sequence.request.request_id
        if sequence.cancelled:
            self._fail(request_id, "cancelled", "cancelled while it ran")
        elif sequence.failure:
            self._fail(request_id, "internal", sequence.failure)
        else:
            self._mailbox.forget(request_id)
            self.send(sequence.result())

    def _fail(self, request_id: int, kind: FailureKind, message: str) -> None:
        self._mailbox.forget(request_id)
        self.send(Failed(request_id, kind, message))


def _is_device_fault(error: BaseException) -> bool:
    """A fault after which CUDA answers every call with the same error, whatever it is about."""
    import torch

    text = str(error)
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in text or "CUBLAS_STATUS" in text


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
