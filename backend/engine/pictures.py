"""A decoded picture to the vision tower's input, at one of a few fixed sizes. Thread-safe, so that a pool does it.

Resized by Pillow to exactly the grid that the prompt was made for (out of shape by `MAX_DISTORTION` at most: what would
be more stands in the middle of white paper), then scaled, normalised and cut into patches by transformers' own image
processor. Raises ValueError for what that refuses.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from backend.engine.image_sizes import Grid, paper
from backend.engine.messages import Picture

_MIN_SIDE_PX = 8  # of what is laid on paper, whose sides are whole pixels: else rounding them would distort it


def to_patches(picture: Picture, grid: Grid, image_processor: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return [patches, channels * temporal * patch * patch] in `dtype` on the CPU; 4 patches an image token."""
    token_px = image_processor.patch_size * image_processor.merge_size
    image = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
    if paper(*image.size, grid) != image.size:
        image = _on_paper(image, grid)
    size_px = (grid.columns * token_px, grid.rows * token_px)
    if image.size != size_px:
        image = image.resize(size_px, Image.Resampling.BICUBIC)
    patches: torch.Tensor = image_processor(images=[image], do_resize=False, return_tensors="pt")["pixel_values"]
    return patches.to(dtype)


def _on_paper(image: Image.Image, grid: Grid) -> Image.Image:
    if (times := -(-_MIN_SIDE_PX // min(image.size))) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", paper(*image.size, grid), (255, 255, 255))
    sheet.paste(image, ((sheet.width - image.width) // 2, (sheet.height - image.height) // 2))
    return sheet
