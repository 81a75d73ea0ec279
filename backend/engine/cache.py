"""Keys and values of everything the model has read: one pool of positions, in which each slot has blocks.

Which block is whose is the scheduler's business (`backend.engine.kv_blocks`); here are only tensors. transformers'
attention calls `update()` once a layer; where the tokens of a step go is set before it with `write_index`.
Raises torch.OutOfMemoryError when the pool does not fit.
"""

from __future__ import annotations

from typing import Any

import torch


class KvPool:
    """`buffer`: [layers, 2 (keys, values), positions, kv_heads, head_dim], zero until written."""

    is_compileable = True

    def __init__(self, text_config: Any, num_positions: int, *, device: str, dtype: torch.dtype) -> None:
        shape = (text_config.num_hidden_layers, 2, num_positions, text_config.num_key_value_heads, text_config.head_dim)
        self.buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.write_index = torch.zeros(0, dtype=torch.long, device=device)

    @property
    def num_positions(self) -> int:
        return self.buffer.shape[2]

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_index: int, *args: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one layer's keys and values of a step, [1, kv_heads, tokens, head_dim], at `write_index` [tokens].

        Returns the layer's whole pool, keys and values, each [positions, kv_heads, head_dim].
        """
        keys, values = self.buffer[layer_index]
        keys.index_copy_(0, self.write_index, key[0].transpose(0, 1))
        values.index_copy_(0, self.write_index, value[0].transpose(0, 1))
        return keys, values


def kv_bytes_per_position(text_config: Any, dtype: torch.dtype) -> int:
    """Keys and values of all layers for one token: 98,304 bytes for the 30B in bfloat16."""
    layers, heads = int(text_config.num_hidden_layers), int(text_config.num_key_value_heads)
    return layers * 2 * heads * int(text_config.head_dim) * dtype.itemsize
