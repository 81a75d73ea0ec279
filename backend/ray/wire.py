"""What an engine replica and the API's process say to each other through Ray Serve. Imports no ray and no torch.

An answer crosses as `Finished`, an error of ours as `Refusal` and not as an exception, so that it arrives as itself
whatever Ray wraps exceptions in.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, PrelabelError
from backend.reasons import Reason

_KINDS: dict[str, type[PrelabelError]] = {
    kind.__name__: kind for kind in (Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed)
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """`kind` is the error's name in `backend.errors`. `ask_another`: the trouble is this replica's alone."""

    kind: str
    message: str
    retry_after_s: float = 0.0
    ask_another: bool = False
    reason: Reason = "generation_failed"
    """Of a GenerationFailed."""

    @classmethod
    def of(cls, error: PrelabelError, status: EngineStatus) -> Refusal:
        is_down = status.is_gone and isinstance(error, EngineDead)
        ask_another = is_down or isinstance(error, EngineBusy)
        reason: Reason = error.reason if isinstance(error, GenerationFailed) else "generation_failed"
        return cls(type(error).__name__, str(error), getattr(error, "retry_after_s", 0.0), ask_another, reason)

    def error(self) -> PrelabelError:
        kind = _KINDS.get(self.kind, GenerationFailed)
        if issubclass(kind, EngineBusy):
            return kind(self.message, retry_after_s=self.retry_after_s)
        return GenerationFailed(self.message, self.reason) if kind is GenerationFailed else kind(self.message)


Reply = Finished | Refusal


@dataclass(frozen=True, slots=True)
class Report:
    """A replica's state, sent about once a second. `place`: its machine and process, for people."""

    replica: str
    place: str
    status: EngineStatus
