"""bitsandbytes' 4-bit linears through our kernel, when a step has few rows: attention's projections, a dense MLP's.

bitsandbytes' own fused kernel serves 7-64 rows of such a matrix, by card; beyond, it writes the weight out in 16 bit
at every call, eight times the bytes. Ours goes on to the plan's `linear_max_rows`; larger calls are left to
bitsandbytes' unpacking and a plain product, which then pays off. Parameters and saved files stay the same. A model on
a CPU is left alone. Raises nothing of its own.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F  # noqa: N812

from model_loader.experts.plan import plan_for
from model_loader.experts.reference import BLOCK_SIZE


class FusedLinear4bit(bnb.nn.Linear4bit):  # type: ignore[misc]
    """Same parameters, other arithmetic. x: [..., K] to [..., N], in x's dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            output: torch.Tensor = super().forward(x)
            return output
        rows = x.reshape(-1, x.shape[-1]).to(self.compute_dtype or x.dtype)
        is_small = rows.shape[0] <= plan_for(x.device).linear_max_rows
        result = self.fused(rows) if is_small else self.unpacked(rows)
        return result.view(*x.shape[:-1], result.shape[-1]).to(x.dtype)

    def unpacked(self, rows: torch.Tensor) -> torch.Tensor:
        """rows: [rows, K]. Write the weight out in 16 bit, then multiply."""
        weight = bnb_functional.dequantize_4bit(self.weight.data, self.weight.quant_state).to(rows.dtype)
        return F.linear(rows, weight, None if self.bias is None else self.bias.to(rows.dtype))

    def fused(self, rows: torch.Tensor) -> torch.Tensor:
        """rows: [rows, K]. Multiply from the packed weight."""
        from model_loader.experts.fused import fused_linear  # here, so that a machine without Triton can load a model

        columns, depth = self.weight.quant_state.shape
        absmax = self.weight.quant_state.absmax.view(columns, depth // BLOCK_SIZE)
        return fused_linear(rows, self.weight.data.view(columns, depth // 2), absmax, self.bias)


def use_fused_linears(model: torch.nn.Module) -> int:
    """Switch `model`'s 4-bit linears on a CUDA device in place, those in the kernel's format. Returns how many."""
    switched = 0
    for module in model.modules():
        if type(module) is bnb.nn.Linear4bit and module.weight.is_cuda and is_in_format(module):
            module.__class__ = FusedLinear4bit
            switched += 1
    return switched


def is_in_format(module: Any) -> bool:
    """Whether a Linear4bit is packed as the kernel reads it: NF4, blocks of 64 within a row, float32 absmax."""
    state = getattr(module.weight, "quant_state", None)
    return (
        state is not None
        and module.weight.dtype == torch.uint8
        and (state.quant_type, state.blocksize, state.nested) == ("nf4", BLOCK_SIZE, False)
        and tuple(state.shape) == (module.out_features, module.in_features)
        and module.in_features % BLOCK_SIZE == 0
        and state.absmax.dtype == torch.float32
    )
