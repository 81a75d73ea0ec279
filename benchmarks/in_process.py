"""The engine without its process: what `prelabel serve` runs, driven by a benchmark. Messages in, answers out."""

from __future__ import annotations

import time
from collections.abc import Iterable

from backend.engine.loop import EngineLoop
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Failed, Finished, FromEngine, Submit
from backend.engine.options import EngineOptions
from backend.engine.preparation import Preparation
from backend.engine.scheduler import Scheduler
from backend.engine.sizing import make_runner, scheduler_limits
from model_loader.loader import LoadedModel


class InProcessEngine:
    """Answers requests with `loaded`. `answers` and `finished_s` (seconds, perf_counter) are by request id."""

    def __init__(self, loaded: LoadedModel, options: EngineOptions, num_threads: int = 1) -> None:
        on_cpu = not loaded.device.startswith("cuda")
        self.device = loaded.device
        self.runner, self.sizes = make_runner(loaded, options)
        self.graph_error = "" if on_cpu else self.runner.try_graphs()
        preparation = Preparation(self.runner.to_patches, self.runner.encode if on_cpu else None, num_threads)
        self.mailbox = Mailbox()
        self.answers: dict[int, Finished] = {}
        self.finished_s: dict[int, float] = {}
        scheduler = Scheduler(scheduler_limits(self.sizes, options.context_tokens))
        self.loop = EngineLoop(self.runner, self.mailbox, self._receive, scheduler, preparation)

    def submit(self, requests: Iterable[Submit]) -> None:
        for request in requests:
            self.mailbox.put(request)

    def run_until(self, request_ids: Iterable[int]) -> None:
        """Work until all of these are answered. Raises RuntimeError if one fails."""
        left = set(request_ids)
        while left := left - self.answers.keys():
            self.loop.turn()

    def answer(self, requests: list[Submit]) -> list[Finished]:
        """Answer `requests` and return their answers in the same order."""
        self.submit(requests)
        self.run_until(request.request_id for request in requests)
        return [self.answers[request.request_id] for request in requests]

    def close(self) -> None:
        """Free the KV cache, the graphs and the mask thread; the model stays."""
        self.runner.close()

    def _receive(self, message: FromEngine) -> None:
        if isinstance(message, Finished):
            self.answers[message.request_id] = message
            self.finished_s[message.request_id] = time.perf_counter()
        elif isinstance(message, Failed):
            raise RuntimeError(f"request {message.request_id} failed: {message.kind}: {message.message}")
