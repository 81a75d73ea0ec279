"""Requests that wait, people's or bulk: those that were put back come first, then the groups take turns.

Pure bookkeeping, for `backend.engine.scheduler`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """One request as the scheduler sees it.

    `num_tokens`: KV positions it may need in all (prompt, image, longest answer). `num_prefill`: tokens its prefill
    computes. `group`: its project. `alone`: it was aboard an engine death, so it runs without neighbours.
    `instruction`: token ids at the beginning of its prompt that fill whole blocks; others may have the same.
    `num_put_back`: how often it lost its blocks.
    """

    request_id: int
    group: str
    num_tokens: int
    num_prefill: int
    interactive: bool = False
    alone: bool = False
    instruction: tuple[int, ...] = ()
    num_put_back: int = 0


class GroupQueue:
    """The first group has its turn; after an admission it goes to the end."""

    def __init__(self) -> None:
        self._put_back: OrderedDict[int, SlotRequest] = OrderedDict()
        self._groups: OrderedDict[str, OrderedDict[int, SlotRequest]] = OrderedDict()
        self.num_waiting = 0

    def add(self, request: SlotRequest) -> None:
        """Have it wait behind its group's others; before everybody if it was put back."""
        self.num_waiting += 1
        if request.num_put_back:
            self._put_back[request.request_id] = request
            self._put_back.move_to_end(request.request_id, last=False)
        else:
            self._groups.setdefault(request.group, OrderedDict())[request.request_id] = request

    def remove(self, request: SlotRequest) -> None:
        self.num_waiting -= 1
        if request.num_put_back:
            del self._put_back[request.request_id]
            return
        group = self._groups[request.group]
        del group[request.request_id]
        if not group:
            del self._groups[request.group]

    def end_turn(self, request: SlotRequest) -> None:
        """A request is admitted, and not removed yet: its group's turn is over. Who was put back had its turn."""
        if not request.num_put_back:
            self._groups.move_to_end(request.group)

    def head(self) -> SlotRequest | None:
        return next(self.in_order(), None)

    def in_order(self) -> Iterator[SlotRequest]:
        """Yield all in the order of their turns. Lazy: the first n cost O(n)."""
        yield from self._put_back.values()
        turns: deque[Iterator[SlotRequest]] = deque()
        for group in self._groups.values():
            requests = iter(group.values())
            yield next(requests)
            turns.append(requests)
        while turns:
            requests = turns.popleft()
            if (request := next(requests, None)) is not None:
                yield request
                turns.append(requests)
