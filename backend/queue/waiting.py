"""Who waits for which work. Pure bookkeeping on one event loop: no store, no model. Nothing raises."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from backend.reasons import Reason
from backend.store.types import Work, WorkState

ANSWERED = (WorkState.DONE, WorkState.RETURNED, WorkState.DELIVERED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row of work ended: an answer under `answer_key`, or why there is none to show: a reason and a sentence."""

    answer_key: str | None
    reason: Reason | Literal[""] = ""
    message: str = ""

    @property
    def has_failed(self) -> bool:
        return self.answer_key is None and self.reason != "withheld"


KEPT_BACK = Outcome(None, "withheld", "nobody is shown its answer before a person has labelled it")


SUPERSEDED = Outcome(None, "config_changed", "its label config or its options changed; it is answered anew")


def outcome_of(work: Work) -> Outcome | None:
    """None of a row that has no answer, whether it will get one or not."""
    if work.state is WorkState.WITHHELD:
        return KEPT_BACK
    return Outcome(work.answer_key) if work.state in ANSWERED else None


@dataclass(slots=True, eq=False)
class Waiter:
    """One request of `project`, and the work it waits for under `version`: `ids` by task, `outcomes` of what is
    over."""

    project: str = ""
    version: str = ""
    ids: dict[int, int] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, deadline: float) -> None:
        """Return when all of it is over, when nothing can be done about it, or at `deadline` (the loop's clock)."""
        if not self._left:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._over.wait()
        except TimeoutError:
            return

    def give_up(self) -> None:
        self._over.set()

    def _expect(self, work_id: int) -> None:
        self._left.add(work_id)

    def _tell(self, work_id: int, outcome: Outcome) -> None:
        self.outcomes[work_id] = outcome
        self._left.discard(work_id)
        if not self._left:
            self._over.set()


class Waiting:
    """All waiters. An answer or an end may come between the moment the store took the work and the moment we hear of
    it, so while the store is accepting any, they are remembered."""

    def __init__(self) -> None:
        self._waiters: dict[int, set[Waiter]] = defaultdict(set)
        self._num_accepting = 0
        self._recent: dict[int, Outcome] = {}
        self._ends: list[tuple[Outcome, Callable[[Waiter], bool]]] = []

    def begin(self) -> int:
        """The store begins to accept; returns the moment."""
        self._num_accepting += 1
        return len(self._ends)

    def end(self) -> None:
        self._num_accepting -= 1
        if not self._num_accepting:
            self._recent.clear()
            self._ends.clear()

    def add(self, waiter: Waiter, works: Iterable[Work], began: int) -> None:
        """`works`: what the store accepted since `began`. It may have let go of them again since: of what is without
        an answer, nobody waits for that."""
        ended = next((outcome for outcome, is_over in self._ends[began:] if is_over(waiter)), None)
        for work in works:
            waiter.ids[work.task_id] = work.id
            outcome = outcome_of(work) or self._recent.get(work.id) or ended
            if work.state is WorkState.CANCELLED:  # it came under an earlier version, and moved at once
                outcome = SUPERSEDED
            if outcome is not None:
                waiter.outcomes[work.id] = outcome
                continue
            waiter._expect(work.id)
            self._waiters[work.id].add(waiter)

    def remove(self, waiter: Waiter) -> None:
        for work_id in waiter.ids.values():
            waiters = self._waiters.get(work_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[work_id]

    def tell(self, work_id: int, outcome: Outcome) -> bool:
        """Return whether anybody heard it."""
        if self._num_accepting and not outcome.has_failed:
            self._recent[work_id] = outcome
        waiters = self._waiters.pop(work_id, set())
        for waiter in waiters:
            waiter._tell(work_id, outcome)
        return bool(waiters)

    def cancel(self, project: str) -> None:
        """What `project` waits for will not come."""
        self._end(Outcome(None, "cancelled", "it was cancelled on the status page"), lambda one: one.project == project)

    def supersede(self, project: str, version: str) -> None:
        """What `project` waits for under another version than `version` is answered under that one."""
        self._end(SUPERSEDED, lambda one: one.project == project and one.version != version)

    def _end(self, outcome: Outcome, is_over: Callable[[Waiter], bool]) -> None:
        if self._num_accepting:
            self._ends.append((outcome, is_over))
        for work_id in [work_id for work_id, waiters in self._waiters.items() if any(map(is_over, waiters))]:
            self.tell(work_id, outcome)

    def give_up(self) -> None:
        """Nothing more will be done in the near future: let nobody wait in vain."""
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                waiter.give_up()
