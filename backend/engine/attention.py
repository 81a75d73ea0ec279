"""Attention over the slots of a `KvPool`, under the name transformers looks it up by, and over equal-size pictures.

Text: the tokens of a step lie packed in one row [1, tokens]; each belongs to a slot and sees that slot's positions up
to its own. On a CPU, and for prefills, the slots go through torch's scaled_dot_product_attention (SDPA), their keys
gathered unless they lie evenly; a decode step in a CUDA graph reads the pool in place (`slot_attention`). What a step
looks like reaches the attention function as `kv_step`, through the keyword arguments of the language model.

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

TEXT_ATTENTION = "kv_slots"
VISION_ATTENTION = "flash_equal_pictures"


class Span(NamedTuple):
    """The tokens of one slot in a step: its range begins at `offset`, they are number `start` to `start + length`."""

    offset: int
    start: int
    length: int


class Ranges(NamedTuple):
    """Slots at equal distances in the pool: number i begins at `first + i * stride`. Some of them may be idle."""

    first: int
    stride: int
    num_slots: int


@dataclass(frozen=True, slots=True)
class SlotGroup:
    """Slots whose attention is one call: R of them with Q tokens at most and L positions at most, N tokens in all.

    `keys`: where the slots lie, as ranges if they are evenly spaced (no key is copied then), else pool positions
    [R * L] to gather. `mask` [R, 1, Q, L]: 0 where a token sees a position, -inf where not. `place` [N]: where the
    packed tokens stand in [R * Q], None when they fill it.
    """

    num_tokens: int
    width: int
    keys: Ranges | torch.Tensor
    mask: torch.Tensor
    place: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """The groups of a step, in the order of its packed tokens: slots with one token, and slots with several."""

    groups: tuple[SlotGroup, ...]


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """What the in-place kernel needs: `offset` and `length` [N] int32, the range and the visible keys of each token."""

    offset: torch.Tensor
    length: torch.Tensor


def plan_attention(
    spans: Rows[Span], num_positions: int, *, heads_per_key: int, device: str, dtype: torch.dtype
) -> AttentionStep:
    """Lay out the attention of one step over the slots of `spans`, in a pool of `num_positions`.

    Slots with a single token are kept apart if they come first: padding them to the longest would cost more.
    `heads_per_key`: query heads that share a key head.
    """
    num_single = next((i for i, span in enumerate(spans) if span.length > 1), len(spans))
    parts = [part for part in (spans[:num_single], spans[num_single:]) if part]
    return AttentionStep(tuple(_plan_group(part, num_positions, heads_per_key, device, dtype) for part in parts))


def _plan_group(
    spans: Rows[Span], num_positions: int, heads_per_key: int, device: str, dtype: torch.dtype
) -> SlotGroup:
    offset, start, count = np.array(spans).T
    width, longest = int(count.max()), int((start + count).max())
    positions = np.arange(longest)
    visible = start[:, None] + np.minimum(np.arange(width), (count - 1)[:, None])
    rows, num_rows = np.arange(len(spans)), len(spans)
    keys: Ranges | torch.Tensor
    ranges = find_ranges(offset, longest, num_positions)
    if ranges is None:
        gather = offset[:, None] + np.minimum(positions, (start + count - 1)[:, None])  # never beyond the slot's own
        keys = torch.from_numpy(gather.ravel()).to(device)
    else:
        keys, num_rows = ranges, ranges.num_slots
        rows = (offset - ranges.first) // ranges.stride
        all_visible = np.zeros((num_rows, width), dtype=visible.dtype)  # an idle slot sees one key, so no NaN
        all_visible[rows] = visible
        visible = all_visible
    num_tokens = int(count.sum())
    place = None
    if width * num_rows != num_tokens or (rows[1:] < rows[:-1]).any():
        places = np.concatenate([row * width + np.arange(number) for row, number in zip(rows, count, strict=True)])
        place = torch.from_numpy(places).to(device)
    # heads that share keys become further rows of one matrix, so the mask repeats for each of them; it is made on the
    # device: for a long prefill it is tens of megabytes
    last_seen = torch.from_numpy(np.tile(visible, (1, heads_per_key))).to(device)
    is_hidden = torch.arange(longest, device=device) > last_seen[:, None, :, None]
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=device).masked_fill_(is_hidden, -torch.inf)
    return SlotGroup(num_tokens, width, keys, mask, place)


def find_ranges(offset: NDArray[np.int64], longest: int, num_positions: int) -> Ranges | None:
    """The even spacing of slots that begin at `offset`, if there is one with not many idle ones between."""
    ordered = np.sort(offset)
    gaps = np.diff(ordered)
    stride = int(gaps.min()) if len(gaps) else longest
    first, count = int(ordered[0]), int(ordered[-1] - ordered[0]) // max(1, stride) + 1
    is_even = stride > 0 and not (gaps % stride).any()
    fits = first + (count - 1) * stride + longest <= num_positions
    return Ranges(first, stride, count) if is_even and fits and count <= 2 * len(offset) else None


def _view(pool: torch.Tensor, keys: Ranges | torch.Tensor, longest: int) -> torch.Tensor:
    """pool: [positions, kv_heads, head_dim] -> [slots, kv_heads, longest, head_dim]."""
    _, kv_heads, head_dim = pool.shape
    if isinstance(keys, torch.Tensor):
        return pool.index_select(0, keys).view(-1, longest, kv_heads, head_dim).transpose(1, 2)
    step = pool.stride(0)
    shape, strides = (keys.num_slots, kv_heads, longest, head_dim), (keys.stride * step, head_dim, step, 1)
    return pool.as_strided(shape, strides, pool.storage_offset() + keys.first * step)


def attend_to_slots(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    kv_step: AttentionStep | DecodeStep,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query: [1, heads, N, head_dim]; key, value: the layer's pool [positions, kv_heads, head_dim] (`KvPool.update`).

    Returns [1, N, heads, head_dim].
    """
    packed = query[0].transpose(0, 1)  # [N, heads, head_dim]
    if isinstance(kv_step, DecodeStep):
        from backend.engine.slot_attention import slot_attention

        return slot_attention(packed, key, value, kv_step.offset, kv_step.length, scaling)[None], None
    results = []
    first = 0
    for group in kv_step.groups:
        tokens = packed[first : first + group.num_tokens] if len(kv_step.groups) > 1 else packed
        results.append(_attend_to_group(tokens, key, value, group, scaling))
        first += group.num_tokens
    return (results[0] if len(results) == 1 else torch.cat(results))[None], None


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
    keys, values = _view(key, group.keys, longest), _view(value, group.keys, longest)
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
