"""One run of a kernel with random inputs, as a plain value: `self_check` compares it, `calibration` times it.

Raises what a kernel raises that does not build or does not fit. That may be anything: Triton asserts that it finds
libcuda, and what reads a file of its cache that a power cut has emptied raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from model_loader.experts import reference
from model_loader.experts.dispatch import packed_weights
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import Step

Path = Literal["fused", "dequantised"]
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # hidden_states, top_k_index, top_k_weights


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One experts forward: calling it runs it."""

    path: Path
    step: Step
    module: Any
    inputs: Inputs

    def __call__(self) -> torch.Tensor:
        from model_loader.experts import dequantise, fused  # here, so that a machine without Triton can load a model

        hidden, index, weights = self.inputs
        forward = fused.fused_experts if self.path == "fused" else dequantise.dequantised_experts
        return forward(hidden, *packed_weights(self.module), index, weights, self.step)

    def expected(self) -> torch.Tensor:
        """What plain torch gives."""
        return reference.nf4_experts_forward(self.module, *self.inputs)

    @property
    def tokens(self) -> int:
        return self.inputs[0].shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class LinearTrial:
    """One linear."""

    path: Path
    module: FusedLinear4bit
    x: torch.Tensor

    def __call__(self) -> torch.Tensor:
        return self.module.fused(self.x) if self.path == "fused" else self.module.unpacked(self.x)

    def expected(self) -> torch.Tensor:
        """What plain torch gives."""
        state = self.module.weight.quant_state
        columns, depth = state.shape
        packed, absmax = self.module.weight.data.view(columns, depth // 2), state.absmax.view(columns, -1)
        weight = reference.dequantise_nf4(packed, absmax, self.x.dtype)
        bias = self.module.bias
        return torch.nn.functional.linear(self.x, weight, None if bias is None else bias.to(self.x.dtype))

    @property
    def tokens(self) -> int:
        return self.x.shape[0]


Run = Callable[[Trial | LinearTrial], torch.Tensor]


def run_trial(trial: Trial | LinearTrial) -> torch.Tensor:
    return trial()


class Bench:
    """Trials of one experts module, and of linears, with random inputs of `dtype`, for experts kept for one number of
    tokens at a time. A dense model's `module` is None."""

    def __init__(self, module: Any | None, top_k: int, dtype: torch.dtype) -> None:
        self.module, self.top_k, self.dtype = module, top_k, dtype
        self._inputs: Inputs | None = None

    def trial(self, path: Path, tokens: int, step: Step) -> Trial:
        return Trial(path, step, self.module, self._kept(tokens))

    def linear(self, path: Path, module: FusedLinear4bit, rows: int) -> LinearTrial:
        x = torch.randn(rows, module.in_features, device=module.weight.device).to(self.dtype)
        return LinearTrial(path, module, x)

    def _kept(self, tokens: int) -> Inputs:
        """Activations of unit size, a uniform routing, and a last token that is routed nowhere, as padding is."""
        assert self.module is not None, "a dense model has no experts"
        if self._inputs is None or self._inputs[0].shape[0] != tokens:
            num_experts, hidden = self.module.down_proj.shape[:2]
            device = self.module.down_proj.device
            states = torch.randn(tokens, hidden, device=device).to(self.dtype)
            shares, index = torch.rand(tokens, num_experts, device=device).topk(self.top_k)
            if tokens > 1:
                index[-1] = num_experts
            self._inputs = (states, index, (shares / shares.sum(-1, keepdim=True)).to(self.dtype))
        return self._inputs
