"""Blocks of a KV pool for the rows of a test, handed out as the scheduler does."""

from __future__ import annotations

from array import array

from backend.engine.kv_blocks import BLOCK_TOKENS, KvBlocks, blocks_for
from backend.engine.messages import Submit
from backend.engine.packing import Row
from backend.engine.runner import Runner
from backend.engine.scheduler import Slot


class Slots:
    """The slots of `runner`, made with as many `kv_tokens`."""

    def __init__(self, runner: Runner, kv_tokens: int) -> None:
        self._runner = runner
        self.kv = KvBlocks(kv_tokens // BLOCK_TOKENS)

    def start(self, request: Submit) -> Row:
        """A row for `request`, with blocks for its longest answer. Raises what `Runner.start` raises."""
        prompt = self._runner.prompts.encode(request)
        num_blocks = blocks_for(prompt.num_tokens + request.sampling.max_new_tokens)
        instruction = self.kv.share(prompt.shared_ids)
        own = self.kv.take(num_blocks - len(instruction.blocks))
        slot = Slot(request.request_id, 0, instruction, array("i", [*instruction.blocks, *own]))
        return self._runner.start(request, prompt, slot)

    def end(self, row: Row) -> None:
        self.kv.give_back(row.slot.own_blocks)
        self.kv.leave(row.slot.instruction)
