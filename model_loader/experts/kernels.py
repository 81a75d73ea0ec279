"""Triton kernels: matrix products over tiles of routed rows, with weights in NF4 (read packed) or in 16 bit.

A packed weight is multiplied as its code, block by block of 64, and each block's sum by its absmax in float32: no
weight is rounded more than its code is (bfloat16: to 2**-9, as in bitsandbytes' own dequantisation), and none is
multiplied one by one. Sums are float32. No atomics: the same input gives the same bits on the same card and tiles.
Rows and columns beyond the edge are read from the edge and not stored, so the inner loop has no mask.
Layouts: `model_loader.experts.reference`. Tensors must be contiguous. Raises nothing of its own.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from model_loader.experts import codebook
from model_loader.experts.plan import Tile
from model_loader.experts.tiles import Tiles

BLOCK = tl.constexpr(64)  # weights that share an absmax: the depth of one product
PRMT = tl.constexpr(codebook.prmt_assembly())
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


def gate_up(
    x: torch.Tensor, weight: torch.Tensor, absmax: torch.Tensor | None, tiles: Tiles, top_k: int, tile: Tile
) -> torch.Tensor:
    """Return SiLU(gate) * up [routes, I] in the order of `tiles.order`; dropped routes' rows are not set.

    x: [tokens, K]. weight: packed [E, 2I, K/2] with absmax [E, 2I, K/64] in 16 or 32 bit, or of x's dtype
    [E, 2I, K] without.
    """
    depth, columns = x.shape[1], weight.shape[1] // 2
    output = torch.empty(tiles.order.shape[0], columns, dtype=x.dtype, device=x.device)
    gate_up_kernel[(tiles.num_tiles * triton.cdiv(columns, tile.block_n),)](
        x,
        weight,
        absmax,
        codebook.table(x.device, x.dtype),
        output,
        tiles.order,
        tiles.table,
        tiles.num_tiles,
        TOP_K=top_k,
        N=columns,
        K=depth,
        BLOCK_M=tiles.block_m,
        BLOCK_N=tile.block_n,
        **_options(x, absmax, depth, tile),
    )
    return output


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    absmax: torch.Tensor | None,
    tiles: Tiles | None,
    tile: Tile,
    bias: torch.Tensor | None = None,
    block_m: int = 16,
) -> torch.Tensor:
    """Return x @ weight of each row's expert [rows, N]: row i of `x` is the i-th of `tiles.order`, and goes there.

    x: [rows, K]. weight: as for `gate_up`, [E, N, ...]. Without `tiles` all rows meet weight 0 and stay in place.
    bias: [N], without `tiles` only.
    """
    rows, depth, columns = x.shape[0], x.shape[1], weight.shape[1]
    block_m = tiles.block_m if tiles else block_m
    num_tiles = tiles.num_tiles if tiles else triton.cdiv(rows, block_m)
    output = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    linear_kernel[(num_tiles * triton.cdiv(columns, tile.block_n),)](
        x,
        weight,
        absmax,
        bias,
        codebook.table(x.device, x.dtype),
        output,
        tiles.order if tiles else None,
        tiles.table if tiles else None,
        num_tiles,
        rows,
        N=columns,
        K=depth,
        BLOCK_M=block_m,
        BLOCK_N=tile.block_n,
        **_options(x, absmax, depth, tile),
    )
    return output


def combine(
    rows: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor, num_experts: int
) -> torch.Tensor:
    """Return each token's sum of its rows times their weights [tokens, N]. rows: [tokens * k, N] by route."""
    tokens, top_k = top_k_index.shape
    columns = rows.shape[1]
    output = torch.empty(tokens, columns, dtype=rows.dtype, device=rows.device)
    block = min(1024, triton.next_power_of_2(columns))
    combine_kernel[(tokens, triton.cdiv(columns, block))](
        rows,
        top_k_index.contiguous(),
        top_k_weights.contiguous(),
        output,
        num_experts,
        N=columns,
        TOP_K=top_k,
        BLOCK_N=block,
        num_warps=4,
    )
    return output


def _options(x: torch.Tensor, absmax: torch.Tensor | None, depth: int, tile: Tile) -> dict[str, Any]:
    """The launch options that both products share. Four blocks a round where the depth allows, to load ahead."""
    blocks = depth // BLOCK.value
    packed = absmax is not None
    return {
        "PACKED": packed,
        "PERMUTE": x.dtype == torch.bfloat16 and not INTERPRETED.value,
        "UNROLL": next(n for n in (tile.unroll, 2, 1) if blocks % n == 0 and n <= tile.unroll),
        "STAGES": tile.num_stages,
        "GROUP": 1 if packed else 8,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


@triton.jit
def _place(num_tiles: tl.tensor, columns: tl.tensor, GROUP: tl.constexpr) -> tl.tensor:
    """Tile and column block of this program: GROUP tiles share the weights of a column block before the next one."""
    program = tl.program_id(0)
    band = program // (GROUP * columns)
    height = tl.minimum(num_tiles - band * GROUP, GROUP)
    within = program % (GROUP * columns)
    return band * GROUP + within % height, within // height


@triton.jit
def _halves(x: tl.tensor) -> tl.tensor:
    """Split [M, 64] into its even and odd columns, which meet the high and the low nibbles."""
    return tl.split(tl.reshape(x, (x.shape[0], 32, 2)))


@triton.jit
def dot(left: tl.tensor, right: tl.tensor, total: tl.tensor) -> tl.tensor:
    """Return left @ right + total in float32, with no TF32. Triton's interpreter would take bfloat16 for integers."""
    if INTERPRETED:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="ieee")


@triton.jit
def _values(packed: tl.tensor, codes: tl.tensor, PERMUTE: tl.constexpr) -> tl.tensor:
    """The codes of the high nibbles and of the low ones, each of packed's shape [N, 32]."""
    if PERMUTE:
        return tl.inline_asm_elementwise(
            PRMT, "=r,=r,=r,=r,r", [packed], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=4
        )
    else:
        return tl.load(codes + (packed >> 4).to(tl.int32)), tl.load(codes + (packed & 15).to(tl.int32))


@triton.jit
def _add_packed(
    total: tl.tensor,
    x_even: tl.tensor,
    x_odd: tl.tensor,
    weight: tl.tensor,
    absmax: tl.tensor,
    codes: tl.tensor,
    PERMUTE: tl.constexpr,
) -> tl.tensor:
    """Add one block's product to `total` [M, N]. weight: addresses [N, 32] of bytes; absmax: addresses [N]."""
    high, low = _values(tl.load(weight), codes, PERMUTE)
    product = dot(x_even, tl.trans(high), tl.zeros(total.shape, tl.float32))
    product = dot(x_odd, tl.trans(low), product)
    return total + product * tl.load(absmax).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["num_tiles"])
def gate_up_kernel(
    x: tl.tensor,  # [tokens, K]
    weight: tl.tensor,
    absmax: tl.tensor,
    codes: tl.tensor,
    output: tl.tensor,  # [routes, N]
    order: tl.tensor,
    tiles: tl.tensor,  # [3, num_tiles]: expert, start, rows
    num_tiles: tl.tensor,
    TOP_K: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PACKED: tl.constexpr,
    PERMUTE: tl.constexpr,
    UNROLL: tl.constexpr,
    STAGES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """One tile, BLOCK_N gate columns and the up columns that belong to them."""
    tile, column_block = _place(num_tiles, tl.cdiv(N, BLOCK_N), GROUP)
    num_rows = tl.load(tiles + 2 * num_tiles + tile)
    if num_rows == 0:
        return
    lanes = tl.arange(0, BLOCK_M)
    positions = tl.load(tiles + num_tiles + tile) + tl.minimum(lanes, num_rows - 1)
    tokens = tl.load(order + positions) // TOP_K
    inner = tl.arange(0, BLOCK)
    x_at = x + tokens.to(tl.int64)[:, None] * K + inner[None, :]
    columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    expert_row = tl.load(tiles + tile).to(tl.int64) * (2 * N)
    rows = tl.minimum(columns, N - 1)
    gate = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    up = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if PACKED:
        gate_at = weight + expert_row * (K // 2) + (rows * (K // 2))[:, None] + tl.arange(0, 32)[None, :]
        scale_at = absmax + expert_row * (K // BLOCK) + rows * (K // BLOCK)
        for block in tl.range(0, K // BLOCK, UNROLL, num_stages=STAGES):
            for i in tl.static_range(UNROLL):
                x_even, x_odd = _halves(tl.load(x_at + (block + i) * BLOCK))
                here, scale = gate_at + (block + i) * 32, scale_at + block + i
                gate = _add_packed(gate, x_even, x_odd, here, scale, codes, PERMUTE)
                here, scale = here + N * (K // 2), scale + N * (K // BLOCK)
                up = _add_packed(up, x_even, x_odd, here, scale, codes, PERMUTE)
    else:
        gate_at = weight + expert_row * K + (rows * K)[:, None] + inner[None, :]
        for block in range(K // BLOCK):
            values = tl.load(x_at + block * BLOCK)
            here = gate_at + block * BLOCK
            gate = dot(values, tl.trans(tl.load(here)), gate)
            up = dot(values, tl.trans(tl.load(here + N * K)), up)
    result = gate * tl.sigmoid(gate) * up
    out_at = output + positions.to(tl.int64)[:, None] * N + columns[None, :]
    inside = (lanes < num_rows)[:, None] & (columns < N)[None, :]
    tl.store(out_at, result.to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_tiles", "total_rows"])
def linear_kernel(
    x: tl.tensor,  # [rows, K]
    weight: tl.tensor,
    absmax: tl.tensor,
    bias: tl.tensor,
    codes: tl.tensor,
    output: tl.tensor,  # [rows, N]
    order: tl.tensor,
    tiles: tl.tensor,  # [3, num_tiles]: expert, start, rows
    num_tiles: tl.tensor,
    total_rows: tl.tensor,
    N: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PACKED: tl.constexpr,
    PERMUTE: tl.constexpr,
    UNROLL: tl.constexpr,
    STAGES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """One tile and BLOCK_N columns."""
    tile, column_block = _place(num_tiles, tl.cdiv(N, BLOCK_N), GROUP)
    lanes = tl.arange(0, BLOCK_M)
    if order is None:
        start = tile * BLOCK_M
        num_rows = tl.minimum(total_rows - start, BLOCK_M)
        expert_row = (tile * 0).to(tl.int64)
    else:
        num_rows = tl.load(tiles + 2 * num_tiles + tile)
        if num_rows == 0:
            return
        start = tl.load(tiles + num_tiles + tile)
        expert_row = tl.load(tiles + tile).to(tl.int64) * N
    positions = start + tl.minimum(lanes, num_rows - 1)
    inner = tl.arange(0, BLOCK)
    x_at = x + positions.to(tl.int64)[:, None] * K + inner[None, :]
    columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = tl.minimum(columns, N - 1)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if PACKED:
        weight_at = weight + expert_row * (K // 2) + (rows * (K // 2))[:, None] + tl.arange(0, 32)[None, :]
        scale_at = absmax + expert_row * (K // BLOCK) + rows * (K // BLOCK)
        for block in tl.range(0, K // BLOCK, UNROLL, num_stages=STAGES):
            for i in tl.static_range(UNROLL):
                x_even, x_odd = _halves(tl.load(x_at + (block + i) * BLOCK))
                here, scale = weight_at + (block + i) * 32, scale_at + block + i
                total = _add_packed(total, x_even, x_odd, here, scale, codes, PERMUTE)
    else:
        weight_at = weight + expert_row * K + (rows * K)[:, None] + inner[None, :]
        for block in range(K // BLOCK):
            values = tl.load(x_at + block * BLOCK)
            total = dot(values, tl.trans(tl.load(weight_at + block * BLOCK)), total)
    if bias is not None:
        total += tl.load(bias + rows).to(tl.float32)[None, :]
    targets = positions if order is None else tl.load(order + positions)
    out_at = output + targets.to(tl.int64)[:, None] * N + columns[None, :]
    inside = (lanes < num_rows)[:, None] & (columns < N)[None, :]
    tl.store(out_at, total.to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_experts"])
def combine_kernel(
    rows: tl.tensor,  # [tokens * TOP_K, N]
    index: tl.tensor,  # [tokens, TOP_K]
    weights: tl.tensor,  # [tokens, TOP_K]
    output: tl.tensor,  # [tokens, N]
    num_experts: tl.tensor,
    N: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
) -> None:
    """One token, BLOCK_N columns. A dropped route's row was never written, so it is not read."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for i in tl.static_range(TOP_K):
        route = token * TOP_K + i
        is_kept = tl.load(index + route) < num_experts
        row = tl.load(rows + route * N + columns, mask=(columns < N) & is_kept, other=0.0)
        total += row.to(tl.float32) * tl.load(weights + route).to(tl.float32)
    tl.store(output + token * N + columns, total.to(output.dtype.element_ty), mask=columns < N)
