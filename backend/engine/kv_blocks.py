"""Which blocks of the KV pool are whose: a request's own, and those of an instruction, which its requests share.

Block n is the positions from n * BLOCK_TOKENS on. An instruction that nobody uses keeps its blocks until others need
them; the one unused for longest goes first. Pure bookkeeping: knows no tensor and no request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from model_loader.memory import KV_BLOCK_TOKENS

BLOCK_TOKENS = KV_BLOCK_TOKENS


def blocks_for(num_tokens: int) -> int:
    """How many blocks hold `num_tokens`."""
    return -(-num_tokens // BLOCK_TOKENS)


@dataclass(slots=True, eq=False)
class Instruction:
    """Token ids that fill `blocks`, for `num_users` requests. `is_written`: their keys are there (the runner says so).

    Another one with the same ids, made after this one lost its blocks, is not this one.
    """

    token_ids: tuple[int, ...]
    blocks: tuple[int, ...]
    num_users: int = 0
    is_written: bool = False


class KvBlocks:
    """A pool of `num_blocks` blocks."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))  # a stack
        self._instructions: OrderedDict[tuple[int, ...], Instruction] = OrderedDict()  # unused for longest first
        self._num_unused = 0  # blocks of instructions that nobody uses

    @property
    def num_free(self) -> int:
        """Blocks that can be taken, those of unused instructions among them."""
        return len(self._free) + self._num_unused

    def take(self, count: int) -> list[int]:
        """Return `count` blocks that are nobody's from now on but the caller's. Raises ValueError if fewer are free."""
        if count > self.num_free:
            raise ValueError(f"{count} blocks are wanted and {self.num_free} are free")
        while len(self._free) < count:
            self._drop(next(one for one in self._instructions.values() if not one.num_users))
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: Iterable[int]) -> None:
        self._free += blocks

    def find(self, token_ids: tuple[int, ...]) -> Instruction | None:
        """Return the instruction if somebody uses it: one more user takes no block then."""
        found = self._instructions.get(token_ids)
        return found if found is not None and found.num_users else None

    def share(self, token_ids: tuple[int, ...]) -> Instruction:
        """Return the instruction of these whole blocks, for one more user. Raises ValueError if it finds no room."""
        found = self._instructions.get(token_ids)
        if found is None:
            blocks = tuple(self.take(len(token_ids) // BLOCK_TOKENS))
            found = self._instructions[token_ids] = Instruction(token_ids, blocks)
        elif not found.num_users:
            self._num_unused -= len(found.blocks)
        found.num_users += 1
        return found

    def leave(self, instruction: Instruction) -> None:
        """One of its users needs it no more."""
        instruction.num_users -= 1
        if not instruction.num_users:
            self._num_unused += len(instruction.blocks)
            self._instructions.move_to_end(instruction.token_ids)

    def _drop(self, instruction: Instruction) -> None:
        del self._instructions[instruction.token_ids]
        self._num_unused -= len(instruction.blocks)
        self.give_back(instruction.blocks)
