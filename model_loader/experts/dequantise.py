"""The experts by way of 16 bit: unpack a layer's projection into one reusable scratch, then a grouped product.

For long prefills, where each expert meets so many rows that unpacking its weights once is cheaper than reading codes
in every tile. The scratch is one per device and dtype, as large as the largest projection (0.81 GB at 30B), and stays
until `release_scratch`. Raises torch.OutOfMemoryError when it cannot be had.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from model_loader.experts import codebook, kernels
from model_loader.experts.plan import Step
from model_loader.experts.tiles import group_routes

BLOCKS_A_PROGRAM = 64

_scratch: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}


def dequantised_experts(
    hidden_states: torch.Tensor,
    gate_up: torch.Tensor,
    gate_up_absmax: torch.Tensor,
    down: torch.Tensor,
    down_absmax: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
    step: Step,
) -> torch.Tensor:
    """Return the weighted sum of each token's experts [tokens, hidden]: the arguments are `fused_experts`'s."""
    if top_k_index.numel() == 0:
        return torch.zeros_like(hidden_states)
    num_experts, top_k = gate_up.shape[0], top_k_index.shape[1]
    tiles = group_routes(top_k_index, num_experts, step.block_m)
    weight = dequantise_to_scratch(gate_up, gate_up_absmax, hidden_states.dtype)
    inner = kernels.gate_up(hidden_states.contiguous(), weight, None, tiles, top_k, step.gate_up)
    weight = dequantise_to_scratch(down, down_absmax, hidden_states.dtype)  # in stream order: gate_up is done with
    rows = kernels.linear(inner, weight, None, tiles, step.down)
    return kernels.combine(rows, top_k_index, top_k_weights, num_experts)


def dequantise_to_scratch(packed: torch.Tensor, absmax: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Unpack [..., N, K/2] and [..., N, K/64] to [..., N, K] in the scratch: valid until the next call.

    The bits are those of `reference.dequantise_nf4`.
    """
    weight = _room(packed.numel() * 2, packed.device, dtype).view(*packed.shape[:-1], packed.shape[-1] * 2)
    num_blocks = absmax.numel()
    dequantise_kernel[(triton.cdiv(num_blocks, BLOCKS_A_PROGRAM),)](
        packed,
        absmax,
        codebook.table(packed.device, torch.float32),
        weight,
        num_blocks,
        BLOCKS=BLOCKS_A_PROGRAM,
        num_warps=4,
    )
    return weight


def release_scratch() -> None:
    """Give the scratch back to torch's allocator. The next long prefill takes it again."""
    _scratch.clear()


def _room(size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    key = (device, dtype)
    held = _scratch.get(key)
    if held is None or held.numel() < size:
        _scratch.pop(key, None)
        del held  # the smaller one goes first: both at once may not fit
        held = _scratch[key] = torch.empty(size, dtype=dtype, device=device)
    return held[:size]


@triton.jit(do_not_specialize=["num_blocks"])
def dequantise_kernel(
    packed: tl.tensor,  # [blocks * 32] bytes
    absmax: tl.tensor,  # [blocks], bfloat16 or float32
    codes: tl.tensor,
    output: tl.tensor,  # [blocks * 64]
    num_blocks: tl.tensor,
    BLOCKS: tl.constexpr,
) -> None:
    """BLOCKS blocks of 64 weights that follow each other in memory."""
    blocks = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    is_inside = blocks < num_blocks
    bytes_at = blocks[:, None] * 32 + tl.arange(0, 32)[None, :]
    nibbles = tl.load(packed + bytes_at, mask=is_inside[:, None], other=0)
    scale = tl.load(absmax + blocks, mask=is_inside, other=0.0).to(tl.float32)[:, None]
    even = tl.load(codes + (nibbles >> 4).to(tl.int32)) * scale
    odd = tl.load(codes + (nibbles & 15).to(tl.int32)) * scale
    values = tl.interleave(even, odd).to(output.dtype.element_ty)
    values_at = blocks[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(output + values_at, values, mask=is_inside[:, None])
