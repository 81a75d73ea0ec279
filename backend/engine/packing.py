"""The tokens of a step, packed: which ids at which positions of which slots. Arrays on the CPU, no tensor.

Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.engine.attention import Span, pool_positions
from backend.engine.kv_blocks import Instruction
from backend.engine.prompts import Prompt
from backend.engine.scheduler import Slot
from backend.engine.sequence import Sequence


@dataclass(slots=True)
class Row:
    """One running request. `num_cached`: its tokens whose keys are written."""

    sequence: Sequence
    prompt: Prompt
    slot: Slot
    num_cached: int = 0

    @property
    def request_id(self) -> int:
        return self.sequence.request.request_id

    @property
    def num_after_step(self) -> int:
        """Tokens whose keys are written once its prefill, or its next decode step, is done."""
        return max(self.num_cached, self.prompt.num_tokens) + len(self.sequence.pending)

    def restart(self, slot: Slot) -> None:
        """Go on in another slot: its next step is a prefill, which reads the prompt and the answer so far."""
        self.slot, self.num_cached = slot, 0
        self.sequence.read_again()


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of a step, slot after slot: `ids` [N], mRoPE `positions` [3, N], and what each slot has of them.

    `table` [R, W]: the blocks of each slot, in order; 0 where it has fewer.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    spans: list[Span]
    table: NDArray[np.int32]

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def lengths(self) -> NDArray[np.int64]:
        return np.array([span.length for span in self.spans])

    def token_table(self) -> NDArray[np.int32]:
        """The blocks of each token's slot, [N, W]."""
        return np.repeat(self.table, self.lengths(), axis=0)

    def numbers(self) -> NDArray[np.int64]:
        """For each token, its number in its slot, [N]."""
        return _count_up([span.start for span in self.spans], self.lengths())

    def write_index(self) -> NDArray[np.int64]:
        """For each token, its position in the pool, [N]."""
        return pool_positions(self.token_table(), self.numbers()[:, None])[:, 0]


def graph_inputs(packed: Packed) -> NDArray[np.int64]:
    """[6, N]: ids, mRoPE positions (3), write index, visible keys."""
    return np.concatenate([packed.ids[None], packed.positions, [packed.write_index(), packed.numbers() + 1]])


def pack_instruction(instruction: Instruction) -> Packed:
    """An instruction alone."""
    numbers = np.arange(len(instruction.token_ids))
    table = np.array([instruction.blocks], dtype=np.int32)
    return Packed(np.array(instruction.token_ids), np.tile(numbers, (3, 1)), [Span(0, len(numbers))], table)


def pack_prompts(rows: Rows[Row]) -> Packed:
    """What follows each shared instruction: the rest of the prompt, and what the grammar forces at first."""
    ids: list[int] = []
    places: list[NDArray[np.int64]] = []
    spans: list[Span] = []
    for row in rows:
        prompt, pending, num_shared = row.prompt, row.sequence.pending, len(row.slot.instruction.token_ids)
        ids += [*prompt.prefix_ids[num_shared:], *prompt.suffix_ids, *pending]
        before = np.arange(num_shared, len(prompt.prefix_ids))
        after = np.arange(prompt.num_tokens, prompt.num_tokens + len(pending)) + prompt.rope_delta
        places += [np.tile(before, (3, 1)), prompt.suffix_positions(), np.tile(after, (3, 1))]
        spans.append(Span(num_shared, prompt.num_tokens - num_shared + len(pending)))
    return Packed(np.array(ids), np.concatenate(places, axis=1), spans, _table(rows))


def pack_answers(rows: Rows[Row]) -> Packed:
    """The pending tokens of each row."""
    spans = [Span(row.num_cached, len(row.sequence.pending)) for row in rows]
    ids = [token for row in rows for token in row.sequence.pending]
    first = [row.num_cached + row.prompt.rope_delta for row in rows]
    places = _count_up(first, np.array([span.length for span in spans]))
    return Packed(np.array(ids), np.tile(places, (3, 1)), spans, _table(rows))


def pack_both(decoding: Rows[Row], starting: Rows[Row]) -> Packed:
    """The pending tokens of some rows, then the prompts of others."""
    if not decoding:
        return pack_prompts(starting)
    parts = pack_answers(decoding), pack_prompts(starting)
    return Packed(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.positions for part in parts], axis=1),
        [span for part in parts for span in part.spans],
        _table([*decoding, *starting]),
    )


def _table(rows: Rows[Row]) -> NDArray[np.int32]:
    """The blocks of each row, [R, W]."""
    table = np.zeros((len(rows), max(len(row.slot.blocks) for row in rows)), dtype=np.int32)
    for own, row in zip(table, rows, strict=True):
        own[: len(row.slot.blocks)] = row.slot.blocks
    return table


def _count_up(first: list[int], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`lengths[i]` numbers from `first[i]` on, for each i, one after the other."""
    shifts: NDArray[np.int64] = np.repeat(np.array(first) - (np.cumsum(lengths) - lengths), lengths)
    return np.arange(lengths.sum()) + shifts
