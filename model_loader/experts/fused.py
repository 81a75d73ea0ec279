"""The experts and linears straight from packed weights: four launches a layer, nothing dequantised to memory.

Group the routes; gate and up with SiLU(gate) * up; down; the weighted sum over each token's experts. For decode and
mixed steps, where reading the weights once is most of the work. Any device that Triton runs on (its interpreter: CPU).
Knows tensors and tiles; which path serves a call is `dispatch`'s. Raises nothing of its own.
"""

from __future__ import annotations

import torch

from model_loader.experts import kernels
from model_loader.experts.plan import Step, Tile
from model_loader.experts.tiles import group_routes


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up: torch.Tensor,
    gate_up_absmax: torch.Tensor,
    down: torch.Tensor,
    down_absmax: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
    step: Step,
) -> torch.Tensor:
    """Return the weighted sum of each token's experts [tokens, hidden].

    hidden_states: [tokens, hidden]. gate_up: packed [E, 2I, hidden/2], absmax [E, 2I, hidden/64]. down: packed
    [E, hidden, I/2], absmax [E, hidden, I/64]. top_k_index, top_k_weights: [tokens, k]; index E is a dropped route.
    """
    if top_k_index.numel() == 0:
        return torch.zeros_like(hidden_states)
    num_experts, top_k = gate_up.shape[0], top_k_index.shape[1]
    tiles = group_routes(top_k_index, num_experts, step.block_m)
    inner = kernels.gate_up(hidden_states.contiguous(), gate_up, gate_up_absmax, tiles, top_k, step.gate_up)
    rows = kernels.linear(inner, down, down_absmax, tiles, step.down)
    return kernels.combine(rows, top_k_index, top_k_weights, num_experts)


def fused_linear(
    x: torch.Tensor, packed: torch.Tensor, absmax: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return x @ weight.T + bias, [rows, N]. x: [rows, K]. packed: [N, K/2]. absmax: [N, K/64]. bias: [N]."""
    rows, columns = x.shape[0], packed.shape[0]
    if rows == 0:
        return x.new_empty(0, columns)
    block_m, tile = _linear_tile(rows, columns)
    return kernels.linear(x.contiguous(), packed[None], absmax[None], None, tile, bias, block_m)


def _linear_tile(rows: int, columns: int) -> tuple[int, Tile]:
    """Rows and columns a program: few columns while that is what gives all the card's cores something to do."""
    if rows <= 32:
        return (16 if rows <= 16 else 32), Tile(32, 4, 4) if columns >= 4096 else Tile(16, 2, 4)
    return (64, Tile(64, 4, 3, unroll=1)) if rows <= 256 else (64, Tile(128, 4, 3, unroll=1))
