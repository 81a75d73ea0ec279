"""The NF4 experts forward in plain torch: slow next to a fused kernel, right on every shape, and the oracle for one.

Layout (that of bitsandbytes, and of every kernel that means to replace this): an expert weight [N, K] is `packed`
uint8 [N, K/2], element 2j in the high nibble, and `absmax` [N, K/64]; weight = NF4 code * absmax of its block of 64, in
float32. Experts keep absmax in bfloat16 (`quantizer`), bitsandbytes' linears in float32: the arithmetic is the same.
Knows nothing of loading; raises nothing of its own.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F  # noqa: N812

BLOCK_SIZE = 64


def dequantise_nf4(packed: torch.Tensor, absmax: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Unpack [..., N, K/2] and [..., N, K/64] to [..., N, K]: the definition of the format in five lines."""
    code: torch.Tensor = bnb_functional.get_4bit_type("nf4", device=packed.device)  # 16 float32 values
    indices = torch.stack([packed >> 4, packed & 15], dim=-1).flatten(-2).int()  # [..., N, K]
    values = code.index_select(0, indices.flatten()).view(-1, BLOCK_SIZE)
    values *= absmax.reshape(-1, 1).float()
    return values.view(indices.shape).to(dtype)


def nf4_experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Run the routed experts of `module` (its projections packed) and return their weighted sum, [tokens, hidden].

    hidden_states: [tokens, hidden]. top_k_index, top_k_weights: [tokens, k]. An index equal to the number of
    experts is a dropped route and adds nothing (padding rows). Each used expert is dequantised once per call.
    """
    num_experts, top_k = module.gate_up_proj.shape[0], top_k_index.shape[1]
    routes = top_k_index.reshape(-1)
    order = torch.argsort(routes, stable=True)  # routes grouped by expert, dropped ones last
    counts = torch.bincount(routes, minlength=num_experts + 1)[:num_experts].tolist()
    tokens = order // top_k
    weights = top_k_weights.reshape(-1)[order].unsqueeze(-1)
    output = torch.zeros_like(hidden_states)
    start = 0
    for expert, count in enumerate(counts):
        if count == 0:
            continue
        rows = slice(start, start + count)
        start += count
        gate_up = F.linear(hidden_states[tokens[rows]], _weight(module, "gate_up_proj", expert, hidden_states.dtype))
        gated = module._apply_gate(gate_up)
        result = F.linear(gated, _weight(module, "down_proj", expert, hidden_states.dtype))
        output.index_add_(0, tokens[rows], (result * weights[rows]).to(output.dtype))
    return output


def _weight(module: Any, projection: str, expert: int, dtype: torch.dtype) -> torch.Tensor:
    """One expert's weight [N, K] through bitsandbytes' kernel: the same bits as `dequantise_nf4`, 10-20x as fast."""
    packed = getattr(module, projection)[expert]
    absmax = getattr(module, projection + "_absmax")[expert]
    shape = (packed.shape[0], 2 * packed.shape[1])
    weight: torch.Tensor = torch.ops.bitsandbytes.dequantize_4bit.default(
        packed.reshape(-1, 1), absmax.reshape(-1).float(), BLOCK_SIZE, "nf4", shape, dtype
    )
    return weight
