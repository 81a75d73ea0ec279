"""A decoded picture to the vision tower's input, at one of a few fixed sizes. Thread-safe, so that a pool does it.

Resized by Pillow to exactly the grid that the prompt was made for (at most a few per cent out of shape), then scaled,
normalised and cut into patches by transformers' own image processor. Raises ValueError for what that refuses.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from backend.engine.image_sizes import Grid
from backend.engine.messages import Picture


def to_patches(picture: Picture, grid: Grid, image_processor: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return [patches, channels * temporal * patch * patch] in `dtype` on the CPU; 4 patches an image token."""
    token_px = image_processor.patch_size * image_processor.merge_size
    image = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
    size_px = (grid.columns * token_px, grid.rows * token_px)
    if image.size != size_px:
        image = image.resize(size_px, Image.Resampling.BICUBIC)
    patches: torch.Tensor = image_processor(images=[image], do_resize=False, return_tensors="pt")["pixel_values"]
    return patches.to(dtype)
