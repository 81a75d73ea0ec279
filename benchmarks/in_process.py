"""The engine without its process: what `prelabel serve` runs, driven by a benchmark. Messages in, answers out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from backend.engine.loop import EngineLoop
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Failed, Finished, FromEngine, Stats, Submit
from backend.engine.options import EngineOptions
from backend.engine.preparation import Preparation
from backend.engine.scheduler import MIXED_FROM, Scheduler
from backend.engine.sizing import least_kv_tokens, make_runner, measure_sizes, scheduler_limits
from backend.engine.start import with_graphs
from model_loader.loader import LoadedModel


class InProcessEngine:
    """Answers requests with `loaded`, whose kernels are tuned. Raises CaptureFailed.

    `answers` are by request id; `stats` is what the engine had counted before each turn, with the time of it (seconds,
    perf_counter). `mixed_from`: see SchedulerLimits. `no_graphs`: why a card's decode steps are not to be captured, ""
    if they are.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: EngineOptions,
        num_threads: int = 1,
        mixed_from: int = MIXED_FROM,
        no_graphs: str = "",
    ) -> None:
        on_cpu = not loaded.device.startswith("cuda")
        self.device = loaded.device
        self.runner, self.sizes = make_runner(loaded, options, measure_sizes(loaded, options))
        self.graph_error = no_graphs
        if not on_cpu and not no_graphs:
            self.runner, self.sizes, slower = with_graphs(
                self.runner, self.sizes, least_kv_tokens(options), lambda sizes: make_runner(loaded, options, sizes)
            )
            self.graph_error = "; ".join(why for _, why in slower)
        preparation = Preparation(self.runner.to_patches, self.runner.encode if on_cpu else None, num_threads)
        self.mailbox = Mailbox()
        self.answers: dict[int, Finished] = {}
        self.stats: list[tuple[float, Stats]] = []
        scheduler = Scheduler(replace(scheduler_limits(self.sizes, options.context_tokens), mixed_from=mixed_from))
        self.loop = EngineLoop(self.runner, self.mailbox, self._receive, scheduler, preparation, stats_s=0.0)

    def submit(self, requests: Iterable[Submit]) -> None:
        for request in requests:
            self.mailbox.put(request)

    def answer(self, requests: list[Submit]) -> list[Finished]:
        """Answer `requests` and return their answers in the same order. Raises RuntimeError if one fails."""
        self.submit(requests)
        while any(request.request_id not in self.answers for request in requests):
            self.loop.turn()
        return [self.answers[request.request_id] for request in requests]

    def close(self) -> None:
        """Free the KV cache, the graphs and the mask thread; the model stays."""
        self.runner.close()

    def _receive(self, message: FromEngine) -> None:
        if isinstance(message, Finished):
            self.answers[message.request_id] = message
        elif isinstance(message, Stats):
            self.stats.append((time.perf_counter(), message))
        elif isinstance(message, Failed):
            raise RuntimeError(f"request {message.request_id} failed: {message.kind}: {message.message}")
