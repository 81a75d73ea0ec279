"""Which rows of which expert a program works on: routes grouped by expert and cut into tiles, on the device.

One launch, with no copy to the host and with sizes that depend on tokens, k, experts and the tile alone, so that it
can be captured in a CUDA graph. A sort and the dozen small operations around it would cost more than the grouping: the
launch has one program an expert, which counts its routes and those of the experts before it. Raises nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Tiles:
    """All int32 on one device. Route r belongs to token r // k.

    order [routes]: the routes grouped by expert (dropped ones last and unset). table [3, tiles]: of each tile its
    expert, its first position in `order`, and how many rows follow; 0 rows: nothing to do.
    """

    order: torch.Tensor
    table: torch.Tensor
    block_m: int

    @property
    def num_tiles(self) -> int:
        return self.table.shape[1]


def num_tiles(num_routes: int, num_experts: int, block_m: int) -> int:
    """Return an upper bound of the tiles that any routing needs."""
    return min(num_routes, num_routes // block_m + num_experts)


def group_routes(top_k_index: torch.Tensor, num_experts: int, block_m: int) -> Tiles:
    """Cut the routes of `top_k_index` [tokens, k] into tiles of `block_m`; index `num_experts` is a dropped route."""
    index = top_k_index.contiguous()
    num_routes, device = index.numel(), index.device
    count = num_tiles(num_routes, num_experts, block_m)
    order = torch.empty(num_routes, dtype=torch.int32, device=device)
    table = torch.empty(3, count, dtype=torch.int32, device=device)
    group_routes_kernel[(num_experts + 1,)](
        index,
        order,
        table,
        num_routes,
        count,
        num_experts,
        BLOCK_M=block_m,
        A_SLOT_A_ROUTE=count == num_routes,
        CHUNK=CHUNK,
        num_warps=4,
    )
    return Tiles(order, table, block_m)


@triton.jit(do_not_specialize=["num_routes", "num_tiles", "num_experts"])
def group_routes_kernel(
    index: tl.tensor,  # [routes]
    order: tl.tensor,  # [routes]
    table: tl.tensor,  # [3, tiles]
    num_routes: tl.tensor,
    num_tiles: tl.tensor,
    num_experts: tl.tensor,
    BLOCK_M: tl.constexpr,
    A_SLOT_A_ROUTE: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Program e: the routes of expert e. The last program has the dropped ones and clears the tiles left over.

    Where an expert's tiles begin must follow from the routes before it alone: either each route has a slot, or
    before // BLOCK_M + e, which leaves room enough because ceil(c / m) <= (b + c) // m - b // m + 1.
    """
    expert = tl.program_id(0)
    lanes = tl.arange(0, CHUNK)
    before = tl.zeros((CHUNK,), dtype=tl.int32)
    mine = tl.zeros((CHUNK,), dtype=tl.int32)
    for first in range(0, num_routes, CHUNK):
        chosen = tl.load(index + first + lanes, mask=first + lanes < num_routes, other=num_experts + 1).to(tl.int32)
        before += (chosen < expert).to(tl.int32)
        mine += (chosen == expert).to(tl.int32)
    start = tl.sum(before, axis=0)
    count = tl.sum(mine, axis=0)

    if expert < num_experts:
        position = start
        for first in range(0, num_routes, CHUNK):
            routes = first + lanes
            chosen = tl.load(index + routes, mask=routes < num_routes, other=num_experts + 1).to(tl.int32)
            is_mine = (chosen == expert).to(tl.int32)
            rank = tl.cumsum(is_mine, axis=0) - 1
            tl.store(order + position + rank, routes, mask=is_mine != 0)
            position += tl.sum(is_mine, axis=0)

    if A_SLOT_A_ROUTE:
        tile = start
        end = start + count
    else:
        tile = start // BLOCK_M + expert
        end = (start + count) // BLOCK_M + expert + 1
    if expert == num_experts:
        end = num_tiles
        count = 0
    slots = tl.arange(0, 32)
    for first in range(tile, end, 32):
        current = first + slots
        done = (current - tile) * BLOCK_M
        rows = tl.minimum(tl.maximum(count - done, 0), BLOCK_M)
        tl.store(table + current, tl.zeros((32,), tl.int32) + expert, mask=current < end)
        tl.store(table + num_tiles + current, start + done, mask=current < end)
        tl.store(table + 2 * num_tiles + current, rows, mask=current < end)
