"""Decides what the device does next: the prefill of some waiting requests, or one decode step of running ones.

Knows rows and KV blocks as numbers; no tensor, no clock, no thread. Raises ValueError for a request it cannot take.

Order of admission. Interactive requests go first. Of either kind groups take turns, in order of arrival within one.
The order is strict: while the next one does not fit, nothing after it is admitted, so it fits at the latest when all
that runs has ended. Two bounds keep both sides alive:
- after MAX_INTERACTIVE_IN_A_ROW interactive requests bulk is due: the next admission is one bulk request. Until it
  fits, interactive ones pass only inside their reserve, where they take nothing from it; not even there if it needs
  the whole pool or runs alone;
- after MAX_PREFILLS prefills without a decode of all running requests, such a decode comes next.

An interactive request may still pass a bulk one that waits to run alone, until bulk is due.

Blocks. Requests with the same instruction share its blocks. A bulk request starts with blocks for its prompt and the
first tokens of its answer, and is given more as that grows (`extend`); an interactive one starts with all it may need.
When the blocks are used up, the youngest bulk request is put back: it loses its blocks and waits again, before the
others. After MAX_PUT_BACK times it starts with all it may need, too, and is never put back again. So that this is
rare, bulk starts only where each one that grows could take another block.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.engine.group_queue import GroupQueue, SlotRequest
from backend.engine.kv_blocks import BLOCK_TOKENS, Instruction, KvBlocks, blocks_for

MAX_INTERACTIVE_IN_A_ROW = 8
MAX_PREFILLS = 8
MAX_BATCH = 8  # bulk requests that running ones wait for, so that they wait seldom
MAX_PUT_BACK = 2
MIXED_FROM = 20  # below, a decode step of its own is cheap: it runs as a graph
TOKENS_A_ROW = 2  # that one of `Prefill.decoding` adds, forced ones included: seldom more
BULK_EVERY = 6  # while an interactive request runs, bulk takes part in every such decode turn


class KvTooSmall(ValueError):
    """A request needs more KV positions than the whole pool has; the message gives the numbers."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`max_slots` requests run at once in a pool of `kv_tokens` positions, rounded down to whole blocks.

    `reserved_slots` of them and `reserved_tokens` of the pool are kept for interactive requests. One prefill computes
    at most `max_prefill_tokens`, unless it is a single request. Where `mixed_from` requests run and nobody interactive,
    a prefill is their decode step, too.
    """

    max_slots: int
    kv_tokens: int
    reserved_slots: int
    reserved_tokens: int
    max_prefill_tokens: int
    mixed_from: int = MIXED_FROM

    def __post_init__(self) -> None:
        if not 0 <= self.reserved_slots < self.max_slots:
            raise ValueError(f"reserved_slots is {self.reserved_slots}, not within 0..max_slots-1 ({self.max_slots})")
        if not 0 <= self.reserved_tokens <= self.kv_tokens:
            raise ValueError(f"reserved_tokens is {self.reserved_tokens}, not within 0..kv_tokens ({self.kv_tokens})")
        if self.max_prefill_tokens < 1:
            raise ValueError(f"max_prefill_tokens is {self.max_prefill_tokens}, not at least 1")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a running request lives: its row, and its block table: the instruction's `blocks`, then its own.

    The table grows in place (`Scheduler.extend`).
    """

    request_id: int
    row: int
    instruction: Instruction
    blocks: array[int]

    @property
    def own_blocks(self) -> array[int]:
        return self.blocks[len(self.instruction.blocks) :]


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute the prompts of `slots`, all interactive or all bulk; they run from now on.

    In the same step, compute one token of each of `decoding`: all that ran before, all of them bulk, or nobody.
    """

    slots: tuple[Slot, ...]
    decoding: tuple[Slot, ...] = ()


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
        self._max_prefill_tokens = limits.max_prefill_tokens
        self._kv = KvBlocks(limits.kv_tokens // BLOCK_TOKENS)
        self._bulk_blocks = (limits.kv_tokens - limits.reserved_tokens) // BLOCK_TOKENS
        self._free_rows = list(range(limits.max_slots))  # a heap
        self._waiting: dict[int, SlotRequest] = {}
        self._interactive = GroupQueue()
        self._bulk = GroupQueue()
        self._running: dict[int, tuple[SlotRequest, Slot]] = {}
        self._num_interactive = 0  # running ones
        self._num_growing = 0  # running ones that may want more blocks
        self._alone_runs = False
        self._interactive_in_a_row = 0  # admitted since the last bulk request, or since bulk waits
        self._prefills = 0  # since the last decode of all running requests
        self._decodes = 0  # decode turns in a row without bulk; negative: so many more are to come

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_kv_tokens(self) -> int:
        """Positions of the blocks in use, each once."""
        return (self._kv.num_blocks - self._kv.num_free) * BLOCK_TOKENS

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
        """Queue a request. Raises KvTooSmall, or ValueError on an id it already has or sizes that cannot be."""
        if request.request_id in self._waiting or request.request_id in self._running:
            raise ValueError(f"request {request.request_id} was submitted already")
        if min(request.num_tokens, request.num_prefill) < 1:
            raise ValueError(f"request {request.request_id} has a size below 1")
        if len(request.instruction) >= request.num_tokens or len(request.instruction) % BLOCK_TOKENS:
            raise ValueError(f"request {request.request_id} is no longer than its instruction, or that fills no blocks")
        if blocks_for(request.num_tokens) > self._kv.num_blocks:
            pool = self._kv.num_blocks * BLOCK_TOKENS
            raise KvTooSmall(f"{request.num_tokens} tokens do not fit in the KV cache of {pool}")
        self._waiting[request.request_id] = request
        if request.interactive:
            self._interactive.add(request)
        else:
            self._add_bulk(request)

    def cancel(self, request_id: int) -> bool:
        """Forget a waiting request and return True; return False if it is running or unknown."""
        request = self._waiting.get(request_id)
        if request is None:
            return False
        self._remove_waiting(request)
        return True

    def finish(self, request_id: int) -> None:
        """A running request ended: free its row and its blocks. Raises ValueError if it does not run."""
        if request_id not in self._running:
            raise ValueError(f"request {request_id} is not running")
        request, slot = self._running.pop(request_id)
        heapq.heappush(self._free_rows, slot.row)
        self._kv.give_back(slot.own_blocks)
        self._kv.leave(slot.instruction)
        self._num_interactive -= request.interactive
        self._num_growing -= not self._starts_whole(request)
        if request.alone:
            self._alone_runs = False

    def extend(self, request_id: int, num_tokens: int) -> list[int]:
        """Have blocks for the first `num_tokens` of a running request.

        Returns the bulk requests that were put back for it, the youngest first; it may be among them, as the last.
        They wait again. Raises ValueError if it does not run, or may not become so long.
        """
        if request_id not in self._running or num_tokens > self._running[request_id][0].num_tokens:
            raise ValueError(f"request {request_id} is not running, or not with {num_tokens} tokens")
        request, slot = self._running[request_id]
        missing = blocks_for(num_tokens) - len(slot.blocks)
        put_back: list[int] = []
        while missing > 0 and missing > self._num_left_to_bulk():
            youngest = next(one for one, _ in reversed(self._running.values()) if not self._starts_whole(one))
            put_back.append(youngest.request_id)
            self._put_back(youngest, num_tokens if youngest is request else 0)
            if youngest is request:
                return put_back
        slot.blocks.extend(self._kv.take(max(0, missing)))
        return put_back

    def _put_back(self, request: SlotRequest, num_tokens: int) -> None:
        """Have a running request wait for blocks for as many tokens as it had, and at least `num_tokens`."""
        had = len(self._running[request.request_id][1].blocks) * BLOCK_TOKENS
        self.finish(request.request_id)
        num_read = min(max(had, num_tokens), request.num_tokens) - len(request.instruction)
        again = replace(request, num_prefill=max(request.num_prefill, num_read), num_put_back=request.num_put_back + 1)
        self._waiting[again.request_id] = again
        self._add_bulk(again)

    def _add_bulk(self, request: SlotRequest) -> None:
        if not self._bulk.num_waiting:
            self._interactive_in_a_row = 0
        self._bulk.add(request)

    def limit_prefill(self, tokens: int) -> None:
        """Compute at most `tokens` in one prefill from now on (a single request may still exceed it)."""
        self._max_prefill_tokens = max(1, tokens)

    def upcoming(self, count: int) -> list[int]:
        """Return the waiting requests that would be admitted next if nothing new came and all fitted."""
        interactive, bulk = self._interactive.in_order(), self._bulk.in_order()
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
        before, mixes = [slot for _, slot in self._running.values()], self._mixes
        if admitted := self._admit():
            if mixes:
                self._prefills = 0
                self._decodes = -BULK_EVERY  # a person who comes during it waits for this decode instead of the next
                return Prefill(tuple(admitted), _by_row(before))
            self._prefills += 1
            return Prefill(tuple(admitted))
        if not self._running:
            return None
        everybody = not self._num_interactive or self._is_bulk_turn() or self._prefills >= MAX_PREFILLS
        slots = [slot for request, slot in self._running.values() if everybody or request.interactive]
        self._decodes = 0 if everybody else self._decodes + 1
        if len(slots) == len(self._running):
            self._prefills = 0
        return Decode(_by_row(slots))

    def _admit(self) -> list[Slot]:
        """Start the next waiting requests that may share one prefill; empty if none may start now."""
        if self._alone_runs or (self._running and self._prefills >= MAX_PREFILLS):
            return []
        if not self._interactive.num_waiting:
            return self._fill(self._bulk.head, self._fits_bulk) if self._bulk_may_start() else []
        left = MAX_INTERACTIVE_IN_A_ROW - self._interactive_in_a_row
        if self._bulk.num_waiting and left <= 0:
            return self._fill(self._bulk.head, self._fits_bulk, most=1) or self._admit_inside_reserve()
        most = left if self._bulk.num_waiting else self._max_slots
        return self._fill(self._interactive.head, self._fits_interactive, most=most)

    def _admit_inside_reserve(self) -> list[Slot]:
        """Start interactive requests where they take nothing from the bulk request that is due."""
        due = self._bulk.head()
        if due is None or due.alone or blocks_for(due.num_tokens) > self._bulk_blocks:
            return []
        return self._fill(
            self._interactive.head, self._fits_in_reserve, most=self._reserved_slots - self._num_interactive
        )

    def _bulk_may_start(self) -> bool:
        """Bulk starts in batches, so that running requests seldom wait for a prefill."""
        head = self._bulk.head()
        if head is None or (self._num_interactive and not self._is_bulk_turn()):
            return False
        num_bulk = len(self._running) - self._num_interactive
        num_own = self._num_own(head)
        most = min(self._max_slots, self._bulk_blocks // num_own)
        left = (self._num_left_to_bulk() - self._num_growing) // num_own
        num_free = min(len(self._free_rows), self._bulk_slots - num_bulk, left)
        return not num_bulk or num_free >= min(MAX_BATCH, max(1, most // 4), self._bulk.num_waiting)

    def _is_bulk_turn(self) -> bool:
        return self._decodes >= BULK_EVERY - 1

    def _fill(
        self, head: Callable[[], SlotRequest | None], fits: Callable[[SlotRequest], bool], most: int | None = None
    ) -> list[Slot]:
        """Start requests from `head` on while they fit, at most `most` of them."""
        slots: list[Slot] = []
        num_tokens = TOKENS_A_ROW * len(self._running) if self._mixes else 0
        while (most is None or len(slots) < most) and (request := head()) is not None:
            num_tokens += request.num_prefill
            if not fits(request) or (slots and num_tokens > self._max_prefill_tokens):
                break
            slots.append(self._start(request))
        return slots

    @property
    def _mixes(self) -> bool:
        """Whether a prefill takes along those who run: where they are many, it costs less than their step.

        Not beside a person, who would wait longer: then all turns are as if there were no mixed steps.
        """
        num_interactive = self._interactive.num_waiting + self._num_interactive
        return not num_interactive and len(self._running) >= self.limits.mixed_from

    def _fits_interactive(self, request: SlotRequest) -> bool:
        return self._has_row(request) and self._num_missing(request) <= self._kv.num_free

    def _fits_in_reserve(self, request: SlotRequest) -> bool:
        """Whether it leaves bulk its whole share."""
        num_others = self._kv.num_blocks - self._kv.num_free - self._num_bulk_blocks()
        reserve = self._kv.num_blocks - self._bulk_blocks
        return self._fits_interactive(request) and num_others + self._num_missing(request) <= reserve

    def _fits_bulk(self, request: SlotRequest) -> bool:
        if not self._has_row(request) or len(self._running) - self._num_interactive >= self._bulk_slots:
            return False
        if self._num_missing(request) + self._num_growing > self._kv.num_free:
            return False
        needs_more_than_its_share = blocks_for(request.num_tokens) > self._bulk_blocks
        return needs_more_than_its_share or self._num_bulk_blocks(request) + self._num_growing <= self._bulk_blocks

    def _has_row(self, request: SlotRequest) -> bool:
        return bool(self._free_rows) and not self._alone_runs and not (request.alone and self._running)

    def _num_missing(self, request: SlotRequest) -> int:
        """Blocks that it would take of the free ones."""
        is_shared = self._kv.find(request.instruction) is not None
        return self._num_own(request) + (0 if is_shared else len(request.instruction) // BLOCK_TOKENS)

    def _num_bulk_blocks(self, *more: SlotRequest) -> int:
        """Blocks of the bulk requests that run, and of `more`, with their instructions."""
        slots = [slot for request, slot in self._running.values() if not request.interactive]
        own = sum(len(slot.blocks) - len(slot.instruction.blocks) for slot in slots) + sum(map(self._num_own, more))
        instructions = {slot.instruction for slot in slots}
        new = [request.instruction for request in more if self._kv.find(request.instruction) not in instructions]
        return own + sum(len(one.blocks) for one in instructions) + sum(map(len, new)) // BLOCK_TOKENS

    def _num_left_to_bulk(self) -> int:
        """Blocks that running bulk requests may still take."""
        return min(self._kv.num_free, self._bulk_blocks - self._num_bulk_blocks())

    def _starts_whole(self, request: SlotRequest) -> bool:
        """Whether it starts with all blocks it may need: it does not grow, and is never put back."""
        is_large = blocks_for(request.num_tokens) > self._bulk_blocks
        return request.interactive or request.alone or is_large or request.num_put_back >= MAX_PUT_BACK

    def _num_own(self, request: SlotRequest) -> int:
        """Blocks that it starts with, beside its instruction's: a growing one has a whole one for its answer."""
        num_shared, most = len(request.instruction) // BLOCK_TOKENS, blocks_for(request.num_tokens)
        first = blocks_for(len(request.instruction) + request.num_prefill) + 1
        return (most if self._starts_whole(request) else min(most, first)) - num_shared

    def _start(self, request: SlotRequest) -> Slot:
        if request.interactive:
            self._interactive.end_turn(request)
            self._interactive_in_a_row += 1
        else:
            self._bulk.end_turn(request)
            self._interactive_in_a_row = self._decodes = 0
        self._remove_waiting(request)
        instruction = self._kv.share(request.instruction)
        blocks = array("i", [*instruction.blocks, *self._kv.take(self._num_own(request))])
        slot = Slot(request.request_id, heapq.heappop(self._free_rows), instruction, blocks)
        self._running[request.request_id] = (request, slot)
        self._num_interactive += request.interactive
        self._num_growing += not self._starts_whole(request)
        self._alone_runs = request.alone
        return slot

    def _remove_waiting(self, request: SlotRequest) -> None:
        del self._waiting[request.request_id]
        if request.interactive:
            self._interactive.remove(request)
        else:
            self._bulk.remove(request)


def _by_row(slots: list[Slot]) -> tuple[Slot, ...]:
    return tuple(sorted(slots, key=lambda slot: slot.row))
