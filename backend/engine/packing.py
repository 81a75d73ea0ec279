"""The tokens of a step, packed: which ids at which positions of which slots. Arrays on the CPU, no tensor.

Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.engine.attention import Span
from backend.engine.prompts import Prompt
from backend.engine.sequence import Sequence


@dataclass(slots=True)
class Row:
    """One running request. `offset`: the first position of its range. `num_cached`: tokens whose keys are written."""

    sequence: Sequence
    prompt: Prompt
    offset: int
    num_cached: int = 0

    @property
    def request_id(self) -> int:
        return self.sequence.request.request_id


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of a step, slot after slot: `ids` [N], mRoPE `positions` [3, N], and what each slot has of them."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    spans: list[Span]

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def lengths(self) -> NDArray[np.int64]:
        return np.array([span.length for span in self.spans])

    def starts(self) -> NDArray[np.int64]:
        """For each token, where its slot's range begins, [N]."""
        return np.repeat([span.offset for span in self.spans], self.lengths())

    def numbers(self) -> NDArray[np.int64]:
        """For each token, its number in its slot, [N]."""
        return _count_up([span.start for span in self.spans], self.lengths())


def graph_inputs(packed: Packed) -> NDArray[np.int64]:
    """[7, N]: ids, mRoPE positions (3), write index, first position of the slot, visible keys."""
    starts, numbers = packed.starts(), packed.numbers()
    return np.concatenate([packed.ids[None], packed.positions, np.stack([starts + numbers, starts, numbers + 1])])


def pack_prompts(rows: Rows[Row]) -> Packed:
    """What follows each instruction: image, closing tokens, and what the grammar forces at the start of the answer."""
    ids: list[int] = []
    positions: list[NDArray[np.int64]] = []
    spans: list[Span] = []
    for row in rows:
        prompt, pending = row.prompt, row.sequence.pending
        ids += [*prompt.suffix_ids, *pending]
        after = np.arange(prompt.num_tokens, prompt.num_tokens + len(pending)) + prompt.rope_delta
        positions += [prompt.suffix_positions(), np.tile(after, (3, 1))]
        spans.append(Span(row.offset, len(prompt.prefix_ids), len(prompt.suffix_ids) + len(pending)))
    return Packed(np.array(ids), np.concatenate(positions, axis=1), spans)


def pack_answers(rows: Rows[Row]) -> Packed:
    """The pending tokens of each row."""
    spans = [Span(row.offset, row.num_cached, len(row.sequence.pending)) for row in rows]
    ids = [token for row in rows for token in row.sequence.pending]
    first = [row.num_cached + row.prompt.rope_delta for row in rows]
    positions = _count_up(first, np.array([span.length for span in spans]))
    return Packed(np.array(ids), np.tile(positions, (3, 1)), spans)


def _count_up(first: list[int], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`lengths[i]` numbers from `first[i]` on, for each i, one after the other."""
    shifts: NDArray[np.int64] = np.repeat(np.array(first) - (np.cumsum(lengths) - lengths), lengths)
    return np.arange(lengths.sum()) + shifts
