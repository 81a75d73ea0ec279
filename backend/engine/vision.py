"""The vision tower over many pictures: one pass, with one attention call a block, for all pictures of a size.

Raises torch.OutOfMemoryError. Knows no text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Rows
from typing import Any, NamedTuple

import torch

from backend.engine import attention
from backend.engine.image_sizes import Grid


class VisualTokens(NamedTuple):
    """One picture: `embeddings` [image tokens, hidden], and the same shape for each DeepStack layer."""

    embeddings: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]


class VisionTower:
    """Runs `model`'s vision tower; `max_tokens` bounds the image tokens of one pass, and with them its memory."""

    def __init__(self, model: Any, *, max_tokens: int) -> None:
        attention.register()
        self._visual = model.model.visual
        self._visual.config._attn_implementation = attention.VISION_ATTENTION
        self._merge = int(self._visual.spatial_merge_size)
        self.max_tokens = max_tokens

    def encode(self, patches: Rows[torch.Tensor], grids: Rows[Grid]) -> list[VisualTokens]:
        """`patches`: what `backend.engine.pictures.to_patches` made, one a picture. Results in the same order."""
        by_grid: dict[Grid, list[int]] = defaultdict(list)
        for i, grid in enumerate(grids):
            by_grid[grid].append(i)
        results: dict[int, VisualTokens] = {}
        for grid, indices in by_grid.items():
            at_once = max(1, self.max_tokens // (grid.rows * grid.columns))
            for first in range(0, len(indices), at_once):
                chunk = indices[first : first + at_once]
                results.update(zip(chunk, self._encode_equal([patches[i] for i in chunk], grid), strict=True))
        return [results[i] for i in range(len(patches))]

    def _encode_equal(self, patches: list[torch.Tensor], grid: Grid) -> list[VisualTokens]:
        device, count = self._visual.device, len(patches)
        num_patches, num_tokens = patches[0].shape[0], grid.rows * grid.columns
        output = self._visual(
            torch.cat(patches).to(device, self._visual.dtype, non_blocking=True),
            grid_thw=torch.tensor([[1, grid.rows * self._merge, grid.columns * self._merge]] * count, device=device),
            cu_seqlens=torch.arange(0, (count + 1) * num_patches, num_patches, dtype=torch.int32, device=device),
            max_seqlen=num_patches,
        )
        layers = [output.pooler_output, *output.deepstack_features]
        pictures = zip(*(layer.split(num_tokens) for layer in layers), strict=True)
        return [VisualTokens(first, tuple(rest)) for first, *rest in pictures]
