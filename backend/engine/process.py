"""The engine's own process: loads the model, then answers Submit messages in batches until it is told to stop.

One thread reads messages from the parent, so that the pipe never fills up; the main thread owns the device. When the
pipe closes (the parent died) the process ends at once. A batch that runs out of memory is halved and tried again; a
request that does not fit alone fails by itself. Errors of one request never reach its neighbours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections import deque
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from backend.engine.messages import (
    Cancel,
    Failed,
    FailureKind,
    FromEngine,
    LoadFailed,
    Loading,
    Ready,
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


class Mailbox:
    """Requests waiting for the device, interactive ones first. Filled by the reader thread."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._interactive: deque[Submit] = deque()
        self._bulk: deque[Submit] = deque()
        self._cancelled: set[int] = set()
        self._closed = False

    def put(self, message: ToEngine) -> None:
        with self._ready:
            match message:
                case Submit():
                    (self._interactive if message.interactive else self._bulk).append(message)
                case Cancel():
                    self._cancelled.add(message.request_id)
                case Shutdown():
                    self._closed = True
            self._ready.notify()

    def take(self, max_requests: int) -> list[Submit] | None:
        """Wait for requests and return up to `max_requests`, or None once closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._closed or self._interactive or self._bulk)
            if self._closed:
                return None
            taken: list[Submit] = []
            while len(taken) < max_requests and (self._interactive or self._bulk):
                taken.append((self._interactive or self._bulk).popleft())
            return taken

    def is_cancelled(self, request_id: int) -> bool:
        with self._ready:
            return request_id in self._cancelled

    def forget(self, request_id: int) -> None:
        """A request has been answered: a Cancel that came too late is not kept."""
        with self._ready:
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


class _EngineLoop:
    def __init__(self, connection: Connection, mailbox: Mailbox, options: EngineOptions) -> None:
        self._connection = connection
        self._mailbox = mailbox
        self._options = options

    def send(self, message: FromEngine) -> None:
        with contextlib.suppress(OSError):  # the reader thread ends the process when the parent is gone
            self._connection.send(message)

    def load(self) -> None:
        from backend.engine.runner import Runner
        from model_loader.loader import load_model
        from model_loader.sources import choose_model

        options = self._options
        model, reason = choose_model(options.model, vram_gib=options.vram_gib)
        self.send(Loading(f"{model}: {reason}", 0.0))
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
        self.send(Ready(loaded.name, loaded.quantisation, loaded.device, memory_gib, loaded.load_s))

    def run(self) -> None:
        while (requests := self._mailbox.take(self._options.max_batch)) is not None:
            self._answer(requests)

    def _answer(self, requests: list[Submit]) -> None:
        """Answer every one of `requests`, each by exactly one message."""
        prepared: list[Prepared] = []
        for request in requests:
            if self._mailbox.is_cancelled(request.request_id):
                self._fail(request.request_id, "cancelled", "cancelled before it started")
                continue
            try:
                prepared.append(self._runner.prepare(request))
            except ValueError as error:  # GrammarError, PromptTooLong, a picture the processor refuses
                kind: FailureKind = "too_long" if type(error).__name__ == "PromptTooLong" else "bad_grammar"
                self._fail(request.request_id, kind, _one_line(error))
        self._generate(prepared)

    def _generate(self, batch: list[Prepared]) -> None:
        import torch

        if not batch:
            return
        out_of_memory = False
        try:
            self._runner.generate(batch, is_cancelled=self._mailbox.is_cancelled)
        except torch.OutOfMemoryError:
            out_of_memory = True  # freed below: inside the handler the traceback still holds the tensors
        except Exception as error:
            log.exception("a batch of %d failed", len(batch))
            for row in batch:
                self._fail(row.sequence.request.request_id, "internal", _one_line(error))
            return
        if not out_of_memory:
            for row in batch:
                self._finish(row.sequence)
            return
        torch.cuda.empty_cache()
        requests = [row.sequence.request for row in batch]
        if len(requests) == 1:
            message = "does not fit in memory even alone: use fewer image tokens"
            self._fail(requests[0].request_id, "out_of_memory", message)
            return
        half = len(requests) // 2
        log.warning("out of memory with %d requests at once; trying %d", len(requests), half)
        for part in (requests[:half], requests[half:]):
            self._generate([self._runner.prepare(request) for request in part])

    def _finish(self, sequence: Sequence) -> None:
        request_id = sequence.request.request_id
        if sequence.cancelled:
            self._fail(request_id, "cancelled", "cancelled while it ran")
            return
        self._mailbox.forget(request_id)
        self.send(sequence.result())

    def _fail(self, request_id: int, kind: FailureKind, message: str) -> None:
        self._mailbox.forget(request_id)
        self.send(Failed(request_id, kind, message))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
