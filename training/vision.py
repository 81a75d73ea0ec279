"""The stock vision tower of Qwen3-VL, run for a batch of pictures that share one grid.

transformers loops over pictures in Python to keep their attention apart; with one grid a batch dimension does the
same in one call. Same modules, same numbers (a test compares them). Also the first training phase, in which
the tower learns to tell the ten classes apart through a head that is thrown away.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def grid_constants(tower: Any, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What depends on the grid alone: indices and weights of the position grid [gh*gw, 4], cos and sin [gh*gw, d]."""
    from transformers.models.qwen3_vl_moe import modeling_qwen3_vl_moe as qwen

    merge = tower.config.spatial_merge_size
    one = torch.tensor([[1, *grid]])
    indices, weights = qwen.get_vision_interpolation_indices_and_weights(
        one,
        num_grid_per_side=tower.num_grid_per_side,
        mode=tower.interpolation_mode,
        align_corners=tower.interpolation_align_corners,
        spatial_merge_size=merge,
        kwargs={},
    )
    cos, sin = tower.rotary_pos_emb(torch.zeros(1), qwen.get_vision_position_ids(one, merge, kwargs={}))
    return indices, weights, cos, sin


def run_tower(tower: Any, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """patches [B*gh*gw, 96] -> (image tokens [B, T, hidden], one such tensor for each DeepStack layer)."""
    return run_tower_with(tower, patches, *grid_constants(tower, grid))


def run_tower_with(
    tower: Any, patches: Tensor, indices: Tensor, weights: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """`run_tower` with the constants of the grid given, so that torch.compile sees tensors only."""
    config = tower.config
    hidden = _embed(tower.patch_embed, patches).view(-1, len(cos), config.hidden_size)
    hidden = hidden + (tower.pos_embed(indices) * weights[:, :, None]).sum(1)
    deepstack = []
    for index, block in enumerate(tower.blocks):
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
        if index in config.deepstack_visual_indexes:
            merger = tower.deepstack_merger_list[config.deepstack_visual_indexes.index(index)]
            deepstack.append(merger(hidden).view(len(hidden), -1, config.out_hidden_size))
    return tower.merger(hidden).view(len(hidden), -1, config.out_hidden_size), deepstack


def _embed(embed: Any, patches: Tensor) -> Tensor:
    """The patch embedding as one matrix product: a Conv3d over whole patches, or transformers' fused form of it."""
    linear = getattr(embed, "linear_proj", None) or embed.proj
    return F.linear(patches, linear.weight.flatten(1), linear.bias)


def _attend(attention: Any, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, length, width = hidden.shape
    qkv = attention.qkv(hidden).view(batch, length, 3, attention.num_heads, attention.head_dim)
    qkv = qkv.permute(2, 0, 3, 1, 4)  # [3, B, heads, patches, head_dim]
    query_key = qkv[:2] * cos + _rotate_half(qkv[:2]) * sin
    mixed = F.scaled_dot_product_attention(query_key[0], query_key[1], qkv[2])
    projected: Tensor = attention.proj(mixed.transpose(1, 2).reshape(batch, length, width))
    return projected


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class ClassifierHead(nn.Module):
    """Ten classes from the mean image token of every stack; used in phase 1 only."""

    def __init__(self, width: int, num_stacks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width * num_stacks)
        self.classes = nn.Linear(width * num_stacks, num_classes)

    def forward(self, tokens: Tensor, deepstack: list[Tensor]) -> Tensor:
        pooled = torch.cat([stack.mean(1) for stack in (tokens, *deepstack)], dim=-1)
        logits: Tensor = self.classes(self.norm(pooled))
        return logits
