"""Who has had least of what several share: as in start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).

Knows neither what is shared nor how it is waited for. Nothing is raised.
"""

from __future__ import annotations

MAX_OWNERS = 1_000
"""Whose share is remembered; beyond them, only of those that had more than whoever goes on now."""


class FairShares:
    def __init__(self) -> None:
        self._had: dict[str, float] = {}
        self._now = 0.0
        """What the owner had that went on last: one that comes anew begins here, and saves up nothing."""

    def had(self, owner: str) -> float:
        """Who has the smallest goes on."""
        return max(self._had.get(owner, 0.0), self._now)

    def goes_on(self, owner: str) -> None:
        if len(self._had) > MAX_OWNERS:
            self._had = {other: had for other, had in self._had.items() if had > self._now}
        self._had[owner] = self._now = self.had(owner)

    def used(self, owner: str, amount: float) -> None:
        self._had[owner] = self._had.get(owner, self._now) + amount
