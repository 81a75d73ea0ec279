"""An engine's start line by line, for a log, a pipe, or who watches several: at a calm pace, and no silence of hours.

Nothing here raises.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from backend.engine.api import Engine, EngineStatus
from backend.engine.messages import WAITS_FOR_OTHERS
from backend.logs import redact
from backend.pages.words import Words

EVERY_S = 60.0
NUM_STEPS = 20
POLL_S = 0.5
_words = Words("en")


class LinePace:
    """When a line is due: at each state and stage, a silence and its end, and while it loads, each NUM_STEPS-th of the
    load or each EVERY_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[str, str, int, bool] | None = None
        self._at = 0.0

    def is_due(self, status: EngineStatus) -> bool:
        """Whether `status` is to be told now; it is taken as told then. An end that was asked for is not."""
        now, step = self._clock(), int(status.fraction * NUM_STEPS)
        told = (status.state, status.stage, step, status.stalled_s > 0)
        is_same = told == self._last and (status.state != "loading" or now < self._at + EVERY_S)
        if is_same or status.state == "stopped":
            return False
        self._last, self._at = told, now
        return True


def said_of(status: EngineStatus) -> str:
    """ "40% Downloading the model (110 MB/s, 6 min left)", what has been loaded, or why nothing is.

    Where it waits for others, also what for: a worker of Ray says it here alone, to whom can do something about it.
    """
    if (ready := status.ready) is not None:
        return (
            f"{ready.model_name} ({ready.quantisation}) on {ready.card or ready.device}, {ready.memory_gib:.1f} GiB, "
            f"loaded in {ready.load_s:.0f} s"
        )
    if status.state != "loading":
        return f"Model {status.state}: {redact(status.message)}"
    stage = _words.stage(status.stage, status.bytes_per_s, status.left_s, status.stalled_s)
    because = f": {redact(status.message)}" if status.stage in WAITS_FOR_OTHERS and status.message else ""
    return f"{status.fraction:.0%} {stage}{because}"


async def tell_lines(engine: Engine, tell: Callable[[EngineStatus], None]) -> None:
    """Call `tell` whenever a line is due, its restarts included, until this is cancelled."""
    pace = LinePace()
    while True:
        status = engine.status
        if pace.is_due(status):
            tell(status)
        await asyncio.sleep(POLL_S)
