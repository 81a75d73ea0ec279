"""When each project may be served again: backoff, batch sizes, and rest for a Label Studio that works hard.

Pure; times are seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """`settle_s`: how long Label Studio may go on with a request whose reply was lost, before we look for its result.

    `hold_s`: how long the store keeps a batch for us; half of it is for making calls.
    """

    batch: int = 200
    max_parallel: int = 4
    poll_s: float = 1.0
    backoff_s: float = 2.0
    max_backoff_s: float = 600.0
    settle_s: float = 60.0
    hold_s: float = 600.0
    probe_s: float = 60.0
    max_rest_s: float = 60.0


@dataclass(slots=True)
class Lane:
    """One project's turn. `size` is how many predictions the next batch may hold."""

    limits: DeliveryLimits
    size: int
    not_before: float = 0.0
    served_at: float = 0.0
    failures: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember of it."""
        return self.failures == 0 and self.size == self.limits.batch

    def succeeded(self, now: float, took_s: float, *, more: bool) -> None:
        """Each import makes Label Studio recount the project, so a batch that is not full waits for others."""
        self.failures = 0
        self.size = min(self.limits.batch, 2 * self.size)
        self.not_before = now if more else now + min(self.limits.max_rest_s, 4 * took_s)

    def failed(self, now: float, jitter: float, *, at_least_s: float = 0.0, smaller: bool = False) -> float:
        """Return how many seconds to wait; `jitter` is 0..1. `smaller`: the batch itself may be the trouble."""
        self.failures += 1
        wait_s = min(self.limits.max_backoff_s, self.limits.backoff_s * 2.0 ** min(self.failures - 1, 30))
        wait_s = max(wait_s * (0.5 + 0.5 * jitter), at_least_s)
        if smaller:
            self.size = max(1, self.size // 2)
        self.not_before = now + wait_s
        return wait_s
