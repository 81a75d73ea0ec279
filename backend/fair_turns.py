"""Turns at what there is little of: of the projects that wait, the one goes on that holds least of it, or had least.

A turn takes one of each thing it needs, all at once: who waits for one thing holds none of another. Belongs to one
event loop. Knows neither downloads nor threads. Nothing is raised but asyncio.CancelledError.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from backend.fair_shares import FairShares

Needs = Callable[[], Iterable[tuple[str, int]]]
"""What a turn takes one of, each with how many there are. Asked whenever somebody may go on."""
End = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    needs: Needs
    comes: asyncio.Future[End]


class FairTurns:
    """`clock`: seconds; what a turn takes of them is what its project had."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._shares = FairShares()

    async def begin(self, project: str, needs: Needs) -> End:
        """Wait for a turn of `project`. Returns what ends it, to be called once on the loop."""
        end = self._begun(project, needs)  # at once, if it can: all that wait need what there is none of
        if end is not None:
            return end
        one = _Waiting(needs, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(project, []).append(one)
        try:
            return await one.comes
        except asyncio.CancelledError:
            if one.comes.cancelled():
                self._forget(project, one)
            else:  # it came in the same moment
                one.comes.result()()
            raise

    def _begun(self, project: str, needs: Needs) -> End | None:
        needed = tuple(needs())
        if any(self._taken[name] >= number for name, number in needed):
            return None
        names = [name for name, _ in needed]
        self._taken.update(names)
        self._held[project] += 1
        self._shares.goes_on(project)
        since = self._clock()

        def end() -> None:
            self._shares.used(project, self._clock() - since)
            self._held -= Counter([project])
            self._taken -= Counter(names)
            self._go_on()

        return end

    def _go_on(self) -> None:
        while self._goes_on():
            pass

    def _goes_on(self) -> bool:
        """Whether anybody who waited does."""
        for project in sorted(self._waiting, key=lambda project: (self._held[project], self._shares.had(project))):
            for one in self._waiting[project]:
                if not one.comes.done() and (end := self._begun(project, one.needs)):
                    self._forget(project, one)
                    one.comes.set_result(end)
                    return True
        return False

    def _forget(self, project: str, one: _Waiting) -> None:
        self._waiting[project].remove(one)
        if not self._waiting[project]:
            del self._waiting[project]
