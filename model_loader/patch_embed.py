"""The vision tower's patch embedding as a matrix product.

Its Conv3d has kernel == stride, so each patch meets the kernel once: a Linear on the flattened patch, equal up to
rounding. cuDNN has been 10-20 times slower at that convolution on some releases. transformers offers the same as
`fusion_config={"patch_embeddings": True}`, but by patching its classes for the whole process; here only this model
changes, and its parameter names stay. Raises nothing.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchEmbed
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeVisionPatchEmbed


class LinearPatchEmbed(nn.Module):
    """Either class's parameters, other arithmetic. hidden_states: [patches, channels * temporal * patch * patch]."""

    proj: nn.Conv3d

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        weight = self.proj.weight.flatten(1)  # a view: [hidden, patch volume]
        return F.linear(hidden_states.to(weight.dtype).view(-1, weight.shape[1]), weight, self.proj.bias)


def use_linear_patch_embedding(model: Any) -> None:
    """Switch `model`'s patch embedding in place if its convolution has no overlap."""
    embed = model.model.visual.patch_embed
    is_stock = type(embed) in (Qwen3VLVisionPatchEmbed, Qwen3VLMoeVisionPatchEmbed)
    if is_stock and embed.proj.stride == embed.proj.kernel_size:
        embed.__class__ = LinearPatchEmbed
