"""Attention over the slots of a `KvPool`, under the name transformers looks it up by, and over equal-size pictures.

Text: the tokens of a step lie packed in one row [1, tokens]; each belongs to a slot and sees that slot's positions up
to its own, which its block table finds. On a CPU, and for prefills, the keys of each slot are gathered for torch's
scaled_dot_product_attention (SDPA); where decode steps are CUDA graphs, those who decode read the pool in place
(`slot_attention`). What a step looks like reaches the attention function as `kv_step`, through the keyword arguments of
the language model.

Vision: transformers hands attention functions whose name contains "flash" all pictures of a pass at once, which is
one SDPA call when they have the same size; by any other name it loops over the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from backend.engine.kv_blocks import BLOCK_TOKENS

TEXT_ATTENTION = "kv_slots"
VISION_ATTENTION = "flash_equal_pictures"
FEW = 16  # tokens of a slot; a decode step seldom has more, a prefill always


class Span(NamedTuple):
    """The tokens of one slot in a step: its number `start` up to `start + length`."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class SlotGroup:
    """Slots whose attention is one call: R of them with Q tokens at most and L positions at most, N tokens in all.

    `keys` [R * L]: the pool positions of each slot, in order. `mask` [R, 1, Q, L]: 0 where a token sees one, -inf where
    not. `place` [N]: where the packed tokens stand in [R * Q], None when they fill it.
    """

    num_tokens: int
    width: int
    keys: torch.Tensor
    mask: torch.Tensor
    place: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class InPlaceGroup:
    """What the in-place kernel needs, int32: the blocks of each token's slot, and how many of their keys it sees.

    `table` [N, W], `length` [N].
    """

    table: torch.Tensor
    length: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return self.length.shape[0]


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """The groups of a step, in the order of its packed tokens."""

    groups: tuple[SlotGroup | InPlaceGroup, ...]


def plan_attention(
    spans: Rows[Span],
    table: NDArray[np.int32],
    *,
    heads_per_key: int,
    device: str,
    dtype: torch.dtype,
    in_place: bool = False,
) -> AttentionStep:
    """Lay out the attention of one step over the slots of `spans`, whose blocks are the rows of `table` [R, W].

    Slots with one token, with FEW at most and with more are kept apart if they come in that order: padding all to the
    longest would cost more. `in_place`: the first two are not padded or gathered, but read by the kernel.
    `heads_per_key`: query heads that share a key head.
    """
    few, many = (next((i for i, span in enumerate(spans) if span.length > most), len(spans)) for most in (1, FEW))
    groups: list[SlotGroup | InPlaceGroup] = []
    if in_place and many:
        groups.append(_plan_in_place(spans[:many], table[:many], device))
    for part in (slice(many, None),) if in_place else (slice(few), slice(few, many), slice(many, None)):
        if spans[part]:
            groups.append(_plan_group(spans[part], table[part], heads_per_key, device, dtype))
    return AttentionStep(tuple(groups))


def _plan_in_place(spans: Rows[Span], table: NDArray[np.int32], device: str) -> InPlaceGroup:
    start, count = np.array(spans).T
    length = np.arange(1, count.sum() + 1) + np.repeat(start - (np.cumsum(count) - count), count)
    tables = torch.from_numpy(np.repeat(table, count, axis=0)).to(device)
    return InPlaceGroup(tables, torch.from_numpy(length.astype(np.int32)).to(device))


def _plan_group(
    spans: Rows[Span], table: NDArray[np.int32], heads_per_key: int, device: str, dtype: torch.dtype
) -> SlotGroup:
    start, count = np.array(spans).T
    width, longest = int(count.max()), int((start + count).max())
    visible = start[:, None] + np.minimum(np.arange(width), (count - 1)[:, None])
    numbers = np.minimum(np.arange(longest), visible[:, -1:])  # never beyond what the slot itself has written
    keys = torch.from_numpy(pool_positions(table, numbers).ravel()).to(device)
    num_tokens = int(count.sum())
    place = None
    if width * len(spans) != num_tokens:
        places = np.flatnonzero(np.arange(width) < count[:, None])
        place = torch.from_numpy(places).to(device)
    # heads that share keys become further rows of one matrix, so the mask repeats for each of them; it is made on the
    # device: for a long prefill it is tens of megabytes
    last_seen = torch.from_numpy(np.tile(visible, (1, heads_per_key))).to(device)
    is_hidden = torch.arange(longest, device=device) > last_seen[:, None, :, None]
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=device).masked_fill_(is_hidden, -torch.inf)
    return SlotGroup(num_tokens, width, keys, mask, place)


def pool_positions(table: NDArray[np.int32], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the tokens `numbers` [R, L] of slots stand in the pool, whose blocks are the rows of `table` [R, W]."""
    blocks = np.take_along_axis(table, numbers // BLOCK_TOKENS, axis=1).astype(np.int64)
    return blocks * BLOCK_TOKENS + numbers % BLOCK_TOKENS


def attend_to_slots(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    kv_step: AttentionStep,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query: [1, heads, N, head_dim]; key, value: the layer's pool [positions, kv_heads, head_dim] (`KvPool.update`).

    Returns [1, N, heads, head_dim].
    """
    packed = query[0].transpose(0, 1)  # [N, heads, head_dim]
    results = []
    first = 0
    for group in kv_step.groups:
        tokens = packed[first : first + group.num_tokens] if len(kv_step.groups) > 1 else packed
        if isinstance(group, InPlaceGroup):
            results.append(_attend_in_place(tokens, key, value, group, scaling))
        else:
            results.append(_attend_to_group(tokens, key, value, group, scaling))
        first += group.num_tokens
    return (results[0] if len(results) == 1 else torch.cat(results))[None], None


def _attend_in_place(
    packed: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: InPlaceGroup, scaling: float
) -> torch.Tensor:
    from backend.engine.slot_attention import slot_attention

    return slot_attention(packed, key, value, group.table, group.length, scaling)


def _attend_to_group(
    packed: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: SlotGroup, scaling: float
) -> torch.Tensor:
    """packed: [N, heads, head_dim] of the group's slots. Returns the same shape."""
    (_, heads, head_dim), kv_heads = packed.shape, key.shape[1]
    slots, longest = group.mask.shape[0], group.mask.shape[3]
    padded = packed
    if group.place is not None:
        padded = packed.new_zeros(slots * group.width, heads, head_dim).index_copy_(0, group.place, packed)
    # heads that share keys become further rows of one matrix, so keys need no copies
    rows = padded.view(slots, group.width, kv_heads, heads // kv_heads, head_dim).permute(0, 2, 3, 1, 4)
    rows = rows.reshape(slots, kv_heads, -1, head_dim)
    keys, values = (
        pool.index_select(0, group.keys).view(slots, longest, kv_heads, head_dim).transpose(1, 2)
        for pool in (key, value)
    )
    result = F.scaled_dot_product_attention(rows, keys, values, attn_mask=group.mask, scale=scaling)
    result = result.view(slots, kv_heads, heads // kv_heads, group.width, head_dim).permute(0, 3, 1, 2, 4)
    result = result.reshape(slots * group.width, heads, head_dim)
    return result if group.place is None else result.index_select(0, group.place)


def attend_to_equal_pictures(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query, key, value: [1, heads, pictures * patches, head_dim], all pictures of one size. Each sees itself only.

    The number of pictures is read from the shape of `cu_seq_lens_q` [pictures + 1], never from its values (a sync).
    """
    assert cu_seq_lens_q is not None
    pictures = cu_seq_lens_q.shape[0] - 1
    heads = query.shape[1]

    def split(packed: torch.Tensor) -> torch.Tensor:
        return packed[0].view(heads, pictures, -1, packed.shape[-1]).transpose(0, 1)

    result = F.scaled_dot_product_attention(split(query), split(key), split(value), scale=scaling)
    return result.permute(0, 2, 1, 3).reshape(1, query.shape[2], heads, -1), None


def register() -> None:
    """Make both known to transformers. Calling it again changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(TEXT_ATTENTION, attend_to_slots)
    ALL_ATTENTION_FUNCTIONS.register(VISION_ATTENTION, attend_to_equal_pictures)
