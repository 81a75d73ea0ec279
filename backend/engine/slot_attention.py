"""Attention of single query tokens over blocks of a shared pool of keys and values, in Triton.

For decode: each token names the blocks of the pool that hold its sequence, so nothing is gathered or padded. A program
serves one token, one key head with all its query heads, and one part of its keys; a second launch joins the parts. How
many parts there are follows from shapes and card, not from lengths, and nothing waits for the device: a step can be
captured in a CUDA graph and replayed with other lengths and blocks. Softmax and sums are float32.
Knows no slots and no model. head_dim: a power of 2, 16 to 256. Raises nothing of its own.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from backend.engine.kv_blocks import BLOCK_TOKENS

MAX_PARTS = 16
PROGRAMS_A_CORE = 2  # enough to hide the latency of reading keys
LOG2_E = tl.constexpr(1.4426950408889634)
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


def slot_attention(
    query: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    table: torch.Tensor,
    length: torch.Tensor,
    scale: float,
    num_parts: int | None = None,
) -> torch.Tensor:
    """Return softmax(query @ keys * scale) @ values of each token's own blocks, [N, heads, D].

    query: [N, heads, D]. k_pool, v_pool: [T, kv_heads, D]; query head h reads key head h * kv_heads // heads. table:
    [N, W] int32, the blocks (of BLOCK_TOKENS rows) of the token's sequence, in order. length: [N] int32, how many of
    their keys it sees (at least 1). The last dimensions must be contiguous. `num_parts` splits the keys of each token;
    by default enough to fill the card.
    """
    tokens, heads, head_dim = query.shape
    kv_heads = k_pool.shape[1]
    output = torch.empty(tokens, heads, head_dim, dtype=query.dtype, device=query.device)
    if tokens == 0:
        return output
    parts = num_parts or parts_for(tokens * kv_heads, _cores(query.device))
    sums = torch.empty(tokens, heads, parts, head_dim, dtype=torch.float32, device=query.device)
    tops = torch.empty(tokens, heads, parts, 2, dtype=torch.float32, device=query.device)
    group = heads // kv_heads
    attend_kernel[(tokens, kv_heads, parts)](
        query,
        k_pool,
        v_pool,
        table,
        length,
        sums,
        tops,
        scale,
        query.stride(0),
        query.stride(1),
        table.stride(0),
        k_pool.stride(0),
        k_pool.stride(1),
        v_pool.stride(0),
        v_pool.stride(1),
        HEADS=heads,
        GROUP=group,
        GROUP_PADDED=max(16, triton.next_power_of_2(group)),
        D=head_dim,
        PARTS=parts,
        BLOCK_TOKENS=BLOCK_TOKENS,
        BLOCK_T=64 if head_dim <= 128 else 32,
        num_warps=4,
        num_stages=2,
    )
    join_kernel[(tokens, heads)](
        sums,
        tops,
        output,
        HEADS=heads,
        D=head_dim,
        PARTS=parts,
        PARTS_PADDED=triton.next_power_of_2(parts),
        num_warps=2,
    )
    return output


@functools.cache
def _cores(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 1


def parts_for(programs: int, cores: int) -> int:
    """How many parts the keys of a token are cut in, so that `programs` times as many fill the card. A power of 2."""
    wanted = triton.cdiv(cores * PROGRAMS_A_CORE, programs)
    return min(MAX_PARTS, int(triton.next_power_of_2(wanted)))


@triton.jit
def _dot(left: tl.tensor, right: tl.tensor) -> tl.tensor:
    """Return left @ right in float32, with no TF32. Triton's interpreter would take bfloat16 for integers."""
    if INTERPRETED:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
def attend_kernel(
    query: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    table: tl.tensor,
    length: tl.tensor,
    sums: tl.tensor,  # [N, HEADS, PARTS, D] float32: sum of exp(score - top) * value
    tops: tl.tensor,  # [N, HEADS, PARTS, 2] float32: top score in powers of 2, sum of exp(score - top)
    scale: tl.tensor,
    query_token: tl.tensor,
    query_head: tl.tensor,
    table_row: tl.tensor,
    k_row: tl.tensor,
    k_head: tl.tensor,
    v_row: tl.tensor,
    v_head: tl.tensor,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_T: tl.constexpr,
) -> None:
    """One token, one key head and its GROUP query heads, one part of its keys. An empty part writes sums of 0."""
    token, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    keys = tl.load(length + token)
    blocks = table + token.to(tl.int64) * table_row
    size = tl.cdiv(tl.cdiv(keys, PARTS), BLOCK_T) * BLOCK_T
    first = part * size
    last = tl.minimum(first + size, keys)

    lanes, dims, steps = tl.arange(0, GROUP_PADDED), tl.arange(0, D), tl.arange(0, BLOCK_T)
    heads = kv_head * GROUP + tl.minimum(lanes, GROUP - 1)
    q_at = query + token.to(tl.int64) * query_token + heads[:, None] * query_head + dims[None, :]
    q = tl.load(q_at)
    top = tl.full((GROUP_PADDED,), float("-inf"), tl.float32)
    weight = tl.zeros((GROUP_PADDED,), tl.float32)
    total = tl.zeros((GROUP_PADDED, D), tl.float32)
    for start in range(first, last, BLOCK_T):
        is_seen = start + steps < last
        number = tl.minimum(start + steps, keys - 1)
        rows = tl.load(blocks + number // BLOCK_TOKENS).to(tl.int64) * BLOCK_TOKENS + number % BLOCK_TOKENS
        k = tl.load(k_pool + rows[:, None] * k_row + kv_head * k_head + dims[None, :])
        scores = _dot(q, tl.trans(k)) * (scale * LOG2_E)
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        shrink = tl.exp2(top - new_top)  # 0 the first time: top is -inf, new_top is not, as one key at least is seen
        share = tl.exp2(scores - new_top[:, None])
        v = tl.load(v_pool + rows[:, None] * v_row + kv_head * v_head + dims[None, :])
        v = tl.where(is_seen[:, None], v, tl.zeros_like(v))
        total = total * shrink[:, None] + _dot(share.to(v.dtype), v)
        weight = weight * shrink + tl.sum(share, axis=1)
        top = new_top
    is_head = lanes < GROUP
    place = (token.to(tl.int64) * HEADS + heads) * PARTS + part
    tl.store(sums + place[:, None] * D + dims[None, :], total, mask=is_head[:, None])
    tl.store(tops + place * 2, top, mask=is_head)
    tl.store(tops + place * 2 + 1, weight, mask=is_head)


@triton.jit
def join_kernel(
    sums: tl.tensor,
    tops: tl.tensor,
    output: tl.tensor,  # [N, HEADS, D]
    HEADS: tl.constexpr,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    PARTS_PADDED: tl.constexpr,
) -> None:
    """One token and one query head: bring its parts to the same top, add them up, divide."""
    head = tl.program_id(0).to(tl.int64) * HEADS + tl.program_id(1)
    parts, dims = tl.arange(0, PARTS_PADDED), tl.arange(0, D)
    is_part = parts < PARTS
    place = head * PARTS + parts
    top = tl.load(tops + place * 2, mask=is_part, other=float("-inf"))
    weight = tl.load(tops + place * 2 + 1, mask=is_part, other=0.0)
    factor = tl.exp2(top - tl.max(top, axis=0))
    values = tl.load(sums + place[:, None] * D + dims[None, :], mask=is_part[:, None], other=0.0)
    result = tl.sum(values * factor[:, None], axis=0) / tl.sum(weight * factor, axis=0)
    tl.store(output + head * D + dims, result.to(output.dtype.element_ty))
