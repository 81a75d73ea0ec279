"""On a CPU, a small 4-bit model is unpacked once: there is memory to spare, and unpacking at every step costs more.

Same values as the packed weights have, kept beside them (a checkpoint is saved from the packed ones). Few tokens run
through all experts at once, which is more arithmetic in far fewer operations; many run expert by expert.
Nothing here fails.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import torch
import torch.nn.functional as F  # noqa: N812
from bitsandbytes.functional import dequantize_4bit
from torch import nn

from model_loader.experts.reference import dequantise_nf4

log = logging.getLogger(__name__)

MAX_UNPACKED_BYTES = 256 * 2**20
ALL_EXPERTS_MAX_TOKENS = 96
ALL_EXPERTS_MAX_EXPERTS = 16


@dataclass(frozen=True, slots=True)
class UnpackedExperts:
    """`gate_up` [E, 2 * inner, hidden], `down` [E, hidden, inner], `joined_down` [hidden, E * inner]."""

    gate_up: torch.Tensor
    down: torch.Tensor
    joined_down: torch.Tensor


class UnpackedLinear(bnb.nn.Linear4bit):  # type: ignore[misc]
    """A Linear4bit that also holds its weight unpacked, [out, in]."""

    unpacked: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.unpacked, None if self.bias is None else self.bias.to(x.dtype))


def unpack_small(model: nn.Module, dtype: torch.dtype, max_bytes: int = MAX_UNPACKED_BYTES) -> bool:
    """Unpack `model`, which lies on the CPU, if that takes at most `max_bytes`. Returns whether it did."""
    modules: list[Any] = list(model.modules())
    linears = [m for m in modules if type(m) is bnb.nn.Linear4bit and m.weight.quant_state is not None]
    experts = [m for m in modules if hasattr(m, "gate_up_proj_absmax")]
    packed_bytes = sum(m.weight.numel() for m in linears)
    packed_bytes += sum(m.gate_up_proj.numel() + 2 * m.down_proj.numel() for m in experts)  # down is held twice
    if not packed_bytes or 2 * packed_bytes * dtype.itemsize > max_bytes:
        return False
    for linear in linears:
        linear.unpacked = dequantize_4bit(linear.weight.data, linear.weight.quant_state).to(dtype)
        linear.__class__ = UnpackedLinear
    for module in experts:
        gate_up = dequantise_nf4(module.gate_up_proj, module.gate_up_proj_absmax, dtype)
        down = dequantise_nf4(module.down_proj, module.down_proj_absmax, dtype)
        module.unpacked = UnpackedExperts(gate_up, down, down.transpose(0, 1).flatten(1).contiguous())
    mib = 2 * packed_bytes * dtype.itemsize / 2**20
    log.info("the 4-bit weights are unpacked in memory (%.0f MiB): faster on a CPU", mib)
    return True


def drop_unpacked(model: nn.Module) -> None:
    """Undo `unpack_small`: `model` runs from its packed weights again."""
    modules: list[Any] = list(model.modules())
    for module in modules:
        if isinstance(module, UnpackedLinear):
            module.__class__ = bnb.nn.Linear4bit
        if hasattr(module, "unpacked"):
            del module.unpacked


def unpacked_experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """What `reference.nf4_experts_forward` computes, from `module.unpacked`."""
    weights: UnpackedExperts = module.unpacked
    num_experts = weights.gate_up.shape[0]
    if num_experts <= ALL_EXPERTS_MAX_EXPERTS and hidden_states.shape[0] <= ALL_EXPERTS_MAX_TOKENS:
        return _all_experts(module, weights, hidden_states, top_k_index, top_k_weights)
    routes, top_k = top_k_index.reshape(-1), top_k_index.shape[1]
    order = torch.argsort(routes, stable=True)  # routes grouped by expert, dropped ones last
    counts = torch.bincount(routes, minlength=num_experts + 1)[:num_experts].tolist()
    if not any(counts):
        return torch.zeros_like(hidden_states)
    tokens = order // top_k
    rows = hidden_states.index_select(0, tokens[: sum(counts)])
    results = [
        F.linear(module._apply_gate(F.linear(part, weights.gate_up[expert])), weights.down[expert])
        for expert, part in enumerate(torch.split(rows, counts))
        if len(part)
    ]
    weighted = torch.cat(results) * top_k_weights.reshape(-1)[order[: sum(counts)], None]
    return torch.zeros_like(hidden_states).index_add_(0, tokens[: sum(counts)], weighted.to(hidden_states.dtype))


def _all_experts(
    module: Any,
    weights: UnpackedExperts,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """Every expert for every token, those not routed to weighted with 0."""
    tokens, (num_experts, width, _) = hidden_states.shape[0], weights.gate_up.shape
    gate_up = F.linear(hidden_states, weights.gate_up.flatten(0, 1)).view(tokens, num_experts, width)
    shares = hidden_states.new_zeros(tokens, num_experts + 1)  # the last column takes dropped routes
    shares.scatter_(1, top_k_index, top_k_weights.to(hidden_states.dtype))
    gated = module._apply_gate(gate_up) * shares[:, :num_experts, None]
    return F.linear(gated.flatten(1), weights.joined_down)
