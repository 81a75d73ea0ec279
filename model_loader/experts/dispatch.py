"""The experts forward that transformers calls by the name "nf4": it picks the path that is fastest for the call.

CUDA: the fused kernels for few tokens, a dequantised layer for many, by the plan of the device. The torch reference
elsewhere, for an activation the kernels do not know, and for float32 on a card. A small model unpacked on a CPU has a
path of its own. Picking reads shapes only, so it never waits for the device and a decode step can be captured in a
CUDA graph, once the same step has run eagerly. Raises nothing of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import bitsandbytes as bnb
import torch
import transformers
from torch import nn
from transformers.activations import SiLUActivation
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, _default_apply_gate

from model_loader.experts import reference, unpacked
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import Path, plan_for

EXPERTS_IMPLEMENTATION = "nf4"


def register() -> None:
    """Make `experts_implementation="nf4"` known to transformers. Keeps another one registered under that name."""
    if EXPERTS_IMPLEMENTATION not in ALL_EXPERTS_FUNCTIONS.valid_keys():
        ALL_EXPERTS_FUNCTIONS.register(EXPERTS_IMPLEMENTATION, nf4_experts_forward)


def nf4_experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Run the routed experts of `module` (its projections packed) and return their weighted sum, [tokens, hidden].

    hidden_states: [tokens, hidden]. top_k_index, top_k_weights: [tokens, k]. An index equal to the number of
    experts is a dropped route and adds nothing (padding rows).
    """
    path, plan = choose_path(module, hidden_states), plan_for(hidden_states.device)
    if path == "unpacked":
        return unpacked.unpacked_experts_forward(module, hidden_states, top_k_index, top_k_weights)
    if path == "reference":
        return reference.nf4_experts_forward(module, hidden_states, top_k_index, top_k_weights)
    from model_loader.experts import dequantise, fused  # here, so that a machine without Triton can load a model

    tensors = (*packed_weights(module), top_k_index, top_k_weights)
    if path == "fused":
        return fused.fused_experts(hidden_states, *tensors, plan.step(hidden_states.shape[0]))
    assert plan.dense is not None
    return dequantise.dequantised_experts(hidden_states, *tensors, plan.dense)


def choose_path(module: Any, hidden_states: torch.Tensor) -> Path | Literal["unpacked"]:
    """The path that serves a call with these tokens."""
    if hasattr(module, "unpacked"):
        return "unpacked"
    is_too_wide = hidden_states.is_cuda and hidden_states.dtype == torch.float32  # the tiles are for 16 bit
    if is_too_wide or not _is_gated_by_silu(module):
        return "reference"
    return plan_for(hidden_states.device).path(hidden_states.shape[0])


def left_out(model: nn.Module) -> dict[str, str]:
    """What of `model`, on a card, its kernels do not serve though they may run: the code of a check, and why.

    A version of transformers or bitsandbytes that nobody tried may compute or pack otherwise. The answers are right,
    and slow.
    """
    found = {}
    if any(hasattr(module, "gate_up_proj_absmax") and not _is_gated_by_silu(module) for module in model.modules()):
        found["slow_experts"] = f"transformers {transformers.__version__} has another gate than the kernels compute"
    others = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    if num := sum(not isinstance(module, FusedLinear4bit) for module in others):
        found["slow_linears"] = f"bitsandbytes {bnb.__version__} packs {num} of {len(others)} otherwise than it reads"
    return found


def packed_weights(module: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return gate_up, its absmax, down, its absmax."""
    return module.gate_up_proj, module.gate_up_proj_absmax, module.down_proj, module.down_proj_absmax


def _is_gated_by_silu(module: Any) -> bool:
    """Whether `module` computes SiLU(gate) * up between its projections, as the kernels do."""
    return getattr(type(module), "_apply_gate", None) is _default_apply_gate and isinstance(
        module.act_fn, nn.SiLU | SiLUActivation
    )
