"""Decides what the device does next: the prefill of some waiting requests, or one decode step of running ones.

Knows rows and KV ranges as numbers; no tensor, no clock, no thread. Raises ValueError for a request it cannot take.

Order of admission. Interactive requests go first, in order of arrival; bulk groups take turns, in order of arrival
within a group. The order is strict: while the next one does not fit, nothing after it is admitted, so it fits at the
latest when all that runs has ended. Two bounds keep both sides alive:
- after MAX_INTERACTIVE_IN_A_ROW interactive requests bulk is due: the next admission is one bulk request. Until it
  fits, interactive ones pass only inside their reserve, where they take nothing from it; not even there if it needs
  the whole pool or runs alone;
- after MAX_PREFILLS prefills without a decode of all running requests, such a decode comes next.

An interactive request may still pass a bulk one that waits to run alone, until bulk is due.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.engine.kv_ranges import KvRanges

MAX_INTERACTIVE_IN_A_ROW = 8
MAX_PREFILLS = 8
BULK_EVERY = 6  # while an interactive request runs, bulk takes part in every such decode turn


class KvTooSmall(ValueError):
    """A request needs more KV positions than the whole pool has; the message gives the numbers."""


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """One request as the scheduler sees it.

    `num_tokens`: KV positions it may need in all (prompt, image, longest answer). `num_prefill`: tokens its prefill
    computes. `group`: its project. `alone`: it was aboard an engine death, so it runs without neighbours.
    """

    request_id: int
    group: str
    num_tokens: int
    num_prefill: int
    interactive: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`max_slots` requests run at once in a pool of `kv_tokens` positions.

    `reserved_slots` of them and the last `reserved_tokens` of the pool are kept for interactive requests. One prefill
    computes at most `max_prefill_tokens`, unless it is a single request. KV ranges are multiples of `block_tokens`.
    """

    max_slots: int
    kv_tokens: int
    reserved_slots: int
    reserved_tokens: int
    max_prefill_tokens: int
    block_tokens: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.reserved_slots < self.max_slots:
            raise ValueError(f"reserved_slots is {self.reserved_slots}, not within 0..max_slots-1 ({self.max_slots})")
        if not 0 <= self.reserved_tokens <= self.kv_tokens:
            raise ValueError(f"reserved_tokens is {self.reserved_tokens}, not within 0..kv_tokens ({self.kv_tokens})")
        if self.block_tokens < 1 or self.max_prefill_tokens < 1:
            raise ValueError("block_tokens and max_prefill_tokens are at least 1")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a running request lives: its row, and the `num_tokens` positions of the pool from `offset` on."""

    request_id: int
    row: int
    offset: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute the prompts of these requests; all interactive or all bulk. They run from now on."""

    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Compute one token of each of these requests. Slots are in the order of their rows."""

    slots: tuple[Slot, ...]


Turn = Prefill | Decode


class Scheduler:
    """Waiting and running requests. Not thread-safe: it belongs to the thread that owns the device."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self.limits = limits
        self._max_slots = limits.max_slots
        self._reserved_slots = limits.reserved_slots
        self._bulk_slots = limits.max_slots - limits.reserved_slots
        self._admit_batch = max(1, limits.max_slots // 4)
        self._max_prefill_tokens = limits.max_prefill_tokens
        self._kv = KvRanges(limits.kv_tokens, limits.block_tokens)
        bulk_tokens = limits.kv_tokens - limits.reserved_tokens
        self._bulk_end = bulk_tokens - bulk_tokens % limits.block_tokens
        self._free_rows = list(range(limits.max_slots))  # a heap
        self._waiting: dict[int, SlotRequest] = {}
        self._interactive: OrderedDict[int, SlotRequest] = OrderedDict()
        self._bulk = _BulkQueue()
        self._running: dict[int, tuple[SlotRequest, Slot]] = {}
        self._num_interactive = 0  # running ones
        self._alone_runs = False
        self._interactive_in_a_row = 0  # admitted since the last bulk request, or since bulk waits
        self._prefills = 0  # since the last decode of all running requests
        self._decodes = 0  # decode turns in a row without bulk

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def max_prefill_tokens(self) -> int:
        """The limit of one prefill now (`limit_prefill`)."""
        return self._max_prefill_tokens

    @property
    def runs_alone(self) -> bool:
        """Whether a request runs that must have no neighbours."""
        return self._alone_runs

    def is_running(self, request_id: int) -> bool:
        return request_id in self._running

    def submit(self, request: SlotRequest) -> None:
        """Queue a request. Raises KvTooSmall, or ValueError on an id it already has or a size below 1."""
        if request.request_id in self._waiting or request.request_id in self._running:
            raise ValueError(f"request {request.request_id} was submitted already")
        if min(request.num_tokens, request.num_prefill) < 1:
            raise ValueError(f"request {request.request_id} has a size below 1")
        if self._length(request) > self._kv.num_tokens:
            raise KvTooSmall(f"{request.num_tokens} tokens do not fit in the KV cache of {self._kv.num_tokens}")
        self._waiting[request.request_id] = request
        if request.interactive:
            self._interactive[request.request_id] = request
            return
        if not self._bulk.num_waiting:
            self._interactive_in_a_row = 0
        self._bulk.add(request)

    def cancel(self, request_id: int) -> bool:
        """Forget a waiting request and return True; return False if it is running or unknown."""
        request = self._waiting.get(request_id)
        if request is None:
            return False
        self._remove_waiting(request)
        return True

    def finish(self, request_id: int) -> None:
        """A running request ended: free its row and its range. Raises ValueError if it does not run."""
        if request_id not in self._running:
            raise ValueError(f"request {request_id} is not running")
        request, slot = self._running.pop(request_id)
        heapq.heappush(self._free_rows, slot.row)
        self._kv.release(slot.offset, slot.num_tokens)
        self._num_interactive -= request.interactive
        if request.alone:
            self._alone_runs = False

    def limit_prefill(self, tokens: int) -> None:
        """Compute at most `tokens` in one prefill from now on (a single request may still exceed it)."""
        self._max_prefill_tokens = max(1, tokens)

    def upcoming(self, count: int) -> list[int]:
        """Return the waiting requests that would be admitted next if nothing new came and all fitted."""
        interactive, bulk = iter(self._interactive.values()), self._bulk.in_order()
        in_a_row, order = self._interactive_in_a_row, list[int]()
        while len(order) < count:
            due = in_a_row >= MAX_INTERACTIVE_IN_A_ROW
            request = (next(bulk, None) if due else None) or next(interactive, None) or next(bulk, None)
            if request is None:
                break
            in_a_row = in_a_row + 1 if request.interactive else 0
            order.append(request.request_id)
        return order

    def next_turn(self) -> Turn | None:
        """Return what to do next, or None if no request waits or runs. A prefill's slots run from now on."""
        if admitted := self._admit():
            self._prefills += 1
            return Prefill(tuple(admitted))
        if not self._running:
            return None
        everybody = not self._num_interactive or self._is_bulk_turn() or self._prefills >= MAX_PREFILLS
        slots = [slot for request, slot in self._running.values() if everybody or request.interactive]
        self._decodes = 0 if everybody else self._decodes + 1
        if len(slots) == len(self._running):
            self._prefills = 0
        return Decode(tuple(sorted(slots, key=lambda slot: slot.row)))

    def _admit(self) -> list[Slot]:
        """Start the next waiting requests that may share one prefill; empty if none may start now."""
        if self._alone_runs or (self._running and self._prefills >= MAX_PREFILLS):
            return []
        if not self._interactive:
            return self._fill(self._bulk.head, self._find_bulk) if self._bulk_may_start() else []
        left = MAX_INTERACTIVE_IN_A_ROW - self._interactive_in_a_row
        if self._bulk.num_waiting and left <= 0:
            return self._fill(self._bulk.head, self._find_bulk, most=1) or self._admit_inside_reserve()
        most = left if self._bulk.num_waiting else self._max_slots
        return self._fill(self._next_interactive, self._find_interactive, most=most)

    def _admit_inside_reserve(self) -> list[Slot]:
        """Start interactive requests where they take nothing from the bulk request that is due."""
        due = self._bulk.head()
        if due is None or due.alone or self._length(due) > self._bulk_end:
            return []
        return self._fill(
            self._next_interactive,
            lambda request: self._find_interactive(request, self._bulk_end),
            most=self._reserved_slots - self._num_interactive,
        )

    def _bulk_may_start(self) -> bool:
        """Bulk starts in batches, so that running requests seldom wait for a prefill."""
        if self._num_interactive and not self._is_bulk_turn():
            return False
        num_bulk = len(self._running) - self._num_interactive
        num_free = min(len(self._free_rows), self._bulk_slots - num_bulk)
        return not num_bulk or num_free >= min(self._admit_batch, self._bulk.num_waiting)

    def _is_bulk_turn(self) -> bool:
        return self._decodes >= BULK_EVERY - 1

    def _fill(
        self, head: Callable[[], SlotRequest | None], find: Callable[[SlotRequest], int | None], most: int | None = None
    ) -> list[Slot]:
        """Start requests from `head` on while `find` has a KV offset for them, at most `most` of them."""
        slots: list[Slot] = []
        num_tokens = 0
        while (most is None or len(slots) < most) and (request := head()) is not None:
            num_tokens += request.num_prefill
            offset = find(request)
            if offset is None or (slots and num_tokens > self._max_prefill_tokens):
                break
            slots.append(self._start(request, offset))
        return slots

    def _next_interactive(self) -> SlotRequest | None:
        return next(iter(self._interactive.values()), None)

    def _find_interactive(self, request: SlotRequest, start: int = 0) -> int | None:
        return self._kv.highest(self._length(request), start) if self._has_row(request) else None

    def _find_bulk(self, request: SlotRequest) -> int | None:
        if not self._has_row(request) or len(self._running) - self._num_interactive >= self._bulk_slots:
            return None
        length = self._length(request)
        return self._kv.lowest(length, self._bulk_end if length <= self._bulk_end else self._kv.num_tokens)

    def _has_row(self, request: SlotRequest) -> bool:
        return bool(self._free_rows) and not self._alone_runs and not (request.alone and self._running)

    def _start(self, request: SlotRequest, offset: int) -> Slot:
        if request.interactive:
            self._interactive_in_a_row += 1
        else:
            self._bulk.end_turn(request.group)
            self._interactive_in_a_row = self._decodes = 0
        self._remove_waiting(request)
        slot = Slot(request.request_id, heapq.heappop(self._free_rows), offset, self._length(request))
        self._kv.take(offset, slot.num_tokens)
        self._running[request.request_id] = (request, slot)
        self._num_interactive += request.interactive
        self._alone_runs = request.alone
        return slot

    def _remove_waiting(self, request: SlotRequest) -> None:
        del self._waiting[request.request_id]
        if request.interactive:
            del self._interactive[request.request_id]
        else:
            self._bulk.remove(request)

    def _length(self, request: SlotRequest) -> int:
        return self._kv.rounded(request.num_tokens)


class _BulkQueue:
    """Waiting bulk requests: the first group has its turn; after an admission it goes to the end."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._groups: OrderedDict[str, OrderedDict[int, SlotRequest]] = OrderedDict()

    def add(self, request: SlotRequest) -> None:
        self._groups.setdefault(request.group, OrderedDict())[request.request_id] = request
        self.num_waiting += 1

    def remove(self, request: SlotRequest) -> None:
        group = self._groups[request.group]
        del group[request.request_id]
        if not group:
            del self._groups[request.group]
        self.num_waiting -= 1

    def end_turn(self, group: str) -> None:
        self._groups.move_to_end(group)

    def head(self) -> SlotRequest | None:
        return next(self.in_order(), None)

    def in_order(self) -> Iterator[SlotRequest]:
        """Yield all in the order of their turns. Lazy: the first n cost O(n)."""
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
