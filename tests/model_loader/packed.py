"""Packed experts with random weights, routings, and what they should give in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeTextExperts

from model_loader import experts
from model_loader.experts.quantizer import pack_experts


def packed_module(num_experts: int, hidden: int, inner: int, device: str = "cpu") -> Any:
    """A layer's experts as the loader leaves them."""
    sizes = SimpleNamespace(num_experts=num_experts, hidden_size=hidden, moe_intermediate_size=inner, hidden_act="silu")
    with torch.device("meta"):
        module: Any = Qwen3VLMoeTextExperts(sizes)
    random = torch.Generator().manual_seed(num_experts * hidden)
    for name, rows, columns in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
        weight = torch.randn(num_experts, rows, columns, generator=random) * columns**-0.5
        packed, absmax = pack_experts(weight.to(device))
        setattr(module, name, torch.nn.Parameter(packed, requires_grad=False))
        setattr(module, name + "_absmax", torch.nn.Parameter(absmax, requires_grad=False))
    return module


def routing(
    tokens: int, num_experts: int, top_k: int, choose: str = "any", device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and weights [tokens, k]. "one": all tokens to the same experts; "dropped": half the routes go nowhere."""
    random = torch.Generator().manual_seed(tokens)
    index = torch.rand(tokens, num_experts, generator=random).argsort(dim=-1)[:, :top_k]
    if choose == "one":
        index = index[:1].repeat(tokens, 1)
    if choose == "dropped":
        index = torch.where(torch.rand(tokens, top_k, generator=random) < 0.5, index, num_experts)
    return index.to(device), torch.rand(tokens, top_k, generator=random).to(device)


def exact_forward(module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Every expert's tokens through it in float64, [tokens, hidden]."""
    output = torch.zeros(hidden.shape, dtype=torch.float64, device=hidden.device)
    for expert in range(module.gate_up_proj.shape[0]):
        tokens, ranks = torch.nonzero(index == expert, as_tuple=True)
        gate_up, down = (
            experts.dequantise_nf4(packed[expert], absmax[expert], torch.float64)
            for packed, absmax in (
                (module.gate_up_proj, module.gate_up_proj_absmax),
                (module.down_proj, module.down_proj_absmax),
            )
        )
        gate, up = (hidden[tokens].double() @ gate_up.T).chunk(2, dim=-1)
        result = (module.act_fn(gate) * up) @ down.T
        output.index_add_(0, tokens, result * weights[tokens, ranks].double().unsqueeze(-1))
    return output


def relative_error(output: torch.Tensor, exact: torch.Tensor) -> float:
    """The norm of the difference against the norm of what is exact; 0 when both are 0."""
    difference = (output.double() - exact).norm()
    return float(difference / exact.norm()) if difference > 0 else 0.0
