"""Whether a scheduler lost a row or a part of its KV pool: told by what it can still give out."""

from __future__ import annotations

from backend.engine.group_queue import SlotRequest
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.scheduler import Prefill, Scheduler, Slot


def assert_all_is_free(scheduler: Scheduler) -> None:
    """An idle scheduler gives one request the whole pool, and as many as it has rows a row each. It is idle again."""
    limits = scheduler.limits
    assert (scheduler.num_waiting, scheduler.num_running) == (0, 0)
    num_blocks = limits.kv_tokens // BLOCK_TOKENS
    [slot] = _started(scheduler, [num_blocks * BLOCK_TOKENS])
    assert sorted(slot.blocks) == list(range(num_blocks)), "a part of the pool is lost"
    count = min(limits.max_slots, num_blocks)
    slots = _started(scheduler, [1] * count)
    assert sorted(slot.row for slot in slots) == list(range(count)), "a row is lost"


def _started(scheduler: Scheduler, sizes: list[int]) -> list[Slot]:
    """The slots of interactive requests of these sizes, once all run; then they end."""
    for number, num_tokens in enumerate(sizes, 1):
        scheduler.submit(SlotRequest(-number, "", num_tokens, 1, interactive=True))
    slots: list[Slot] = []
    for _ in range(3 * len(sizes)):  # after a few prefills comes a decode
        turn = scheduler.next_turn()
        slots += turn.slots if isinstance(turn, Prefill) else ()
    assert (scheduler.num_waiting, scheduler.num_running) == (0, len(sizes)), "a request is not admitted"
    for slot in slots:
        scheduler.finish(slot.request_id)
    return slots
