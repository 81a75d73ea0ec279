"""The seam between everything else in the backend and the engine process. Imports no torch.

`Engine` is what the prediction service needs; `backend.engine.client.EngineClient` is the real one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from backend.engine.messages import Finished, GenerateRequest, Ready, Stats
from backend.errors import EngineDead, EngineNotReady
from backend.pages.engine_words import Why

EngineState = Literal["loading", "ready", "restarting", "failed", "stopped"]
GONE: tuple[EngineState, ...] = ("failed", "stopped")
"""Those after which there is no engine any more."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What `/health` and the status page say. `message` is the reason when the state is failed or restarting, and `why`
    the same for people who read other languages.

    While it loads, `stage`, `fraction`, `left_s`, `bytes_per_s` and `counts_bytes` are those of the last `Loading`.
    Where no bytes come any more, `stalled_s` says for how long, and nothing is left of the pace. `ended` and
    `ended_why`: why the process before this one ended, "" where this is the first.
    """

    state: EngineState
    stage: str = ""
    fraction: float = 0.0
    ready: Ready | None = None
    message: str = ""
    num_queued: int = 0
    num_running: int = 0
    num_restarts: int = 0
    stats: Stats = field(default_factory=Stats)
    left_s: float | None = None
    bytes_per_s: float = 0.0
    counts_bytes: bool = False
    stalled_s: float = 0.0
    why: tuple[Why, ...] = ()
    ended: str = ""
    ended_why: tuple[Why, ...] = ()

    @property
    def slower(self) -> tuple[tuple[str, str], ...]:
        """What makes it slower than it should be now: as `Ready.slower`, and while it works what slows the card's
        clock, and that other programs take memory of the card."""
        slower, stats = self.ready.slower if self.ready else (), self.stats
        if not self.num_queued + self.num_running:
            return slower
        slower = (*slower, *stats.slower)
        if stats.prefill_tokens < stats.most_prefill_tokens:
            slower = (*slower, ("slow_shortage", f"{stats.prefill_tokens:,} / {stats.most_prefill_tokens:,}"))
        return slower

    @property
    def restarted(self) -> tuple[tuple[str, str], ...]:
        """That it was started again, and why, as an item of `slower`."""
        return (("engine_restarted", f"{self.num_restarts}; {self.ended}"),) if self.ended else ()

    @property
    def is_gone(self) -> bool:
        """There will be no engine any more."""
        return self.state in GONE

    def require_ready(self) -> Ready:
        """What is loaded. Raises EngineDead when there will be no engine any more, and EngineNotReady."""
        if self.is_gone:
            raise EngineDead(f"the engine has stopped: {self.message or self.state}")
        if self.ready is None:
            raise EngineNotReady("the model is not ready yet", retry_after_s=30)
        return self.ready


class Engine(Protocol):
    @property
    def status(self) -> EngineStatus: ...

    async def start(self) -> None:
        """Start the engine process and return at once; loading goes on in it."""

    async def wait_ready(self, timeout_s: float) -> Ready:
        """Return once the model is loaded. Raises EngineNotReady when `timeout_s` passes, EngineDead if it cannot.

        `math.inf`: as long as loading goes on; the engine itself ends one that stands still.
        """
        ...

    async def generate(self, request: GenerateRequest) -> Finished:
        """Answer one request. Cancelling the awaiting task cancels the request.

        Raises EngineBusy (queue full), EngineNotReady (loading), EngineDead, GenerationFailed, Cancelled.
        """
        ...

    async def close(self) -> None:
        """End the engine process within its time limit; pending requests raise EngineDead."""
