"""Loading progress: a short stage name and one fraction 0..1 over the whole load, never going back, and the pace.

`Progress` maps each stage's own 0..1 onto its span of the whole. Knows nothing of models. Callbacks may come from a
worker thread (downloads); errors of the callback reach the caller.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

WINDOW_S = 10.0
"""The pace is that of the last so many seconds."""
SELDOM_S = 2.0
STEP = 0.002


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the present stage. `left_s`: until it is over, None while nobody can tell. `bytes_per_s`: 0 where the stage is
    not about bytes, or none has come. `counts_bytes`: it is about bytes, or waits for another machine, so that silence
    means that none come."""

    left_s: float | None = None
    bytes_per_s: float = 0.0
    counts_bytes: bool = False
    because: Exception | None = None
    """What the stage waits for to pass."""


ProgressCallback = Callable[[str, float, Pace], None]


def no_progress(stage: str, fraction: float, pace: Pace) -> None:
    """The default callback: say nothing."""


class Progress:
    """One load's progress: only forward steps, and those smaller than STEP of the whole every SELDOM_S at most."""

    def __init__(self, callback: ProgressCallback, clock: Callable[[], float] = time.monotonic) -> None:
        self._callback = callback
        self._clock = clock
        self._stage = ""
        self._reached = 0.0
        self._said_at = 0.0
        self._lock = threading.Lock()

    def enter(
        self, stage: str, start: float, end: float, size_bytes: int = 0, *, asks: bool = False
    ) -> Callable[[float], None]:
        """Report `stage` at `start`; return a function that takes the stage's own fraction 0..1, of `size_bytes`.

        `asks`: it waits for another machine, of which nobody knows how much will come.
        """
        none = Pace(counts_bytes=asks or size_bytes > 0)
        done: deque[tuple[float, float]] = deque([(self._clock(), 0.0)])  # when, and how much of the stage

        def report(fraction: float) -> None:
            share, now = min(max(fraction, 0.0), 1.0), self._clock()
            with self._lock:
                done.append((now, share))
                while len(done) > 2 and done[1][0] < now - WINDOW_S:
                    done.popleft()
                then, before = done[0]
                speed = (share - before) / (now - then) if now > then else 0.0
                pace = replace(none, left_s=(1 - share) / speed, bytes_per_s=speed * size_bytes) if speed > 0 else none
                self._report(stage, start + (end - start) * share, pace)

        with self._lock:
            start = max(start, self._reached)  # a stage that begins anew goes on from there
            self._report(stage, start, none)
        return report

    def wait(self, stage: str, left_s: float, because: Exception) -> None:
        """Report that `stage` waits for so long for something to pass."""
        with self._lock:
            self._report(stage, self._reached, Pace(left_s=left_s, because=because))

    def _report(self, stage: str, fraction: float, pace: Pace) -> None:
        now = self._clock()
        is_small = fraction < self._reached + STEP and now < self._said_at + SELDOM_S
        if stage == self._stage and is_small and fraction < 1.0:
            return
        self._stage, self._reached, self._said_at = stage, max(fraction, self._reached), now
        self._callback(stage, self._reached, pace)
