"""Loading progress: a short stage name and one fraction 0..1 over the whole load, never going back.

`Progress` maps each stage's own 0..1 onto its span of the whole. Knows nothing of models. Callbacks may come from a
worker thread (downloads); errors of the callback reach the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]


def no_progress(stage: str, fraction: float) -> None:
    """The default callback: say nothing."""


class Progress:
    """One load's progress: only forward steps, and those smaller than 0.2 % of the whole are left out."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._stage = ""
        self._reached = 0.0
        self._lock = threading.Lock()

    def enter(self, stage: str, start: float, end: float) -> Callable[[float], None]:
        """Report `stage` at `start`; return a function that takes the stage's own fraction 0..1."""
        self._report(stage, start)
        return lambda fraction: self._report(stage, start + (end - start) * min(max(fraction, 0.0), 1.0))

    def _report(self, stage: str, fraction: float) -> None:
        with self._lock:
            if stage == self._stage and fraction < self._reached + 0.002 and fraction < 1.0:
                return
            self._stage, self._reached = stage, max(fraction, self._reached)
            self._callback(stage, self._reached)
