"""Requests, and a scheduler told of them, as the tests of its rules begin."""

from collections.abc import Iterable

from backend.engine.group_queue import SlotRequest
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.scheduler import Decode, Prefill, Scheduler, SchedulerLimits, Slot


def scheduler(
    max_slots: int = 8,
    kv_tokens: int = 1024,
    reserved_slots: int = 1,
    reserved_tokens: int = 128,
    max_prefill_tokens: int = 10_000,
    mixed_from: int = 99,
) -> Scheduler:
    limits = SchedulerLimits(max_slots, kv_tokens, reserved_slots, reserved_tokens, max_prefill_tokens, mixed_from)
    return Scheduler(limits)


def bulk(
    request_id: int,
    group: str = "p",
    tokens: int = 64,
    prefill: int = 10,
    alone: bool = False,
    instruction: tuple[int, ...] = (),
) -> SlotRequest:
    return SlotRequest(request_id, group, tokens, prefill, alone=alone, instruction=instruction)


def person(request_id: int, tokens: int = 64, prefill: int = 10, alone: bool = False, group: str = "p") -> SlotRequest:
    return SlotRequest(request_id, group, tokens, prefill, interactive=True, alone=alone)


def full(request_id: int, group: str = "p", tokens: int = 64) -> SlotRequest:
    """A bulk request that starts with all the blocks that it may need, as its answer is short."""
    return bulk(request_id, group, tokens, prefill=tokens - BLOCK_TOKENS)


def submit(planner: Scheduler, requests: Iterable[SlotRequest]) -> None:
    for request in requests:
        planner.submit(request)


def turn(planner: Scheduler) -> tuple[str, list[int]]:
    """The next turn as a word and request ids."""
    match planner.next_turn():
        case Prefill(slots, decoding):
            return "mixed" if decoding else "prefill", [slot.request_id for slot in (*decoding, *slots)]
        case Decode(slots):
            return "decode", [slot.request_id for slot in slots]
        case None:
            return "idle", []


def turns(planner: Scheduler, count: int) -> list[tuple[str, list[int]]]:
    return [turn(planner) for _ in range(count)]


def started(planner: Scheduler) -> tuple[Slot, ...]:
    result = planner.next_turn()
    assert isinstance(result, Prefill)
    return result.slots


def finish(planner: Scheduler, *request_ids: int) -> None:
    for request_id in request_ids:
        planner.finish(request_id)
