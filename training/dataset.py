"""Fashion-MNIST as the garments model sees it: reading, enlarging, augmenting and cutting into patches.

Reads the files of Debian's package dataset-fashion-mnist (MIT licence). Knows nothing of labels' words.
Raises FileNotFoundError when the package is not installed, ValueError when a file is not what it says.
"""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.geometry import (
    MERGE_SIZE,
    NORM_MEAN,
    NORM_STD,
    PATCH_SIZE_PX,
    SQUARE_SIDE_PX,
    TEMPORAL_PATCH_SIZE,
)

DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
PICTURE_SIDE_PX = 224  # how large a picture is written for people; training sees the same resizing
Split = Literal["train", "t10k"]


def read_split(folder: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return (pictures [N,28,28] 0..255, classes [N] 0..9) of one split."""
    pictures = _read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    classes = _read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    if pictures.ndim != 3 or len(pictures) != len(classes):
        raise ValueError(f"{folder}: pictures {pictures.shape} and classes {classes.shape} do not belong together")
    return pictures, classes.astype(np.int64)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes: http://yann.lecun.com/exdb/mnist/ (magic 0x0000_08_<ndim>, sizes, data)."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    num_dims = raw[3]
    shape = np.frombuffer(raw, ">u4", num_dims, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * num_dims).reshape(shape)


def enlarge(picture: NDArray[np.uint8]) -> Image.Image:
    """One 28x28 picture as people see it: 224x224, bicubic."""
    return Image.fromarray(picture, "L").resize((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.BICUBIC)


def to_model_size(pictures: NDArray[np.uint8]) -> Tensor:
    """[N,28,28] -> uint8 [N,32,32]: enlarged as `enlarge` does, then shrunk as the image processor does."""
    side = (SQUARE_SIDE_PX, SQUARE_SIDE_PX)

    def one(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(enlarge(picture).resize(side, Image.Resampling.BICUBIC))

    with ThreadPoolExecutor(2) as pool:
        return torch.from_numpy(np.stack(list(pool.map(one, pictures))))


def normalise(pictures: Tensor) -> Tensor:
    """uint8 [B,H,W] -> float32 [B,1,H,W] as the image processor normalises."""
    return ((pictures.float() / 255.0 - NORM_MEAN) / NORM_STD)[:, None]


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, shift, scale, change contrast and erase a patch; float [B,1,H,W] in, the same out."""
    batch = len(pictures)

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    flip = torch.where(rand(batch) < 0.5, -1.0, 1.0)
    scale = 1.0 + 0.10 * (rand(batch) - 0.5)
    stretch = 1.0 + 0.06 * (rand(batch) - 0.5)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = flip * scale * stretch
    theta[:, 1, 1] = scale / stretch
    theta[:, :, 2] = 0.16 * (rand(batch, 2) - 0.5)
    theta[:, 0, 1] = 0.06 * (rand(batch) - 0.5)
    grid = F.affine_grid(theta, [batch, 1, *pictures.shape[2:]], align_corners=False)
    moved = F.grid_sample(pictures + 1.0, grid, align_corners=False) - 1.0  # outside is black, that is -1
    moved = (moved + 1.0) * (0.9 + 0.2 * rand(batch, 1, 1, 1)) - 1.0
    return _erase(moved.clamp(-1.0, 1.0), rand)


def _erase(pictures: Tensor, rand: object) -> Tensor:
    """Fill one random rectangle of up to a quarter of the side with grey, in one of seven pictures."""
    assert callable(rand)
    batch, _, height, width = pictures.shape
    low, size = rand(batch, 2), 0.1 + 0.2 * rand(batch, 2)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    inside_y = (rows >= low[:, :1]) & (rows < low[:, :1] + size[:, :1])
    inside_x = (columns >= low[:, 1:]) & (columns < low[:, 1:] + size[:, 1:])
    mask = inside_y[:, :, None] & inside_x[:, None, :] & (rand(batch) < 0.15)[:, None, None]
    filling = 2.0 * rand(batch, 1, 1, 1) - 1.0
    return torch.where(mask[:, None], filling, pictures)


def to_patches(pictures: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """float [B,1,H,W] -> ([B*gh*gw, 3*2*4*4] in the processor's order, (gh, gw)); all pictures share one grid."""
    batch, _, height, width = pictures.shape
    grid_h, grid_w = height // PATCH_SIZE_PX, width // PATCH_SIZE_PX
    blocks = pictures.reshape(
        batch, grid_h // MERGE_SIZE, MERGE_SIZE, PATCH_SIZE_PX, grid_w // MERGE_SIZE, MERGE_SIZE, PATCH_SIZE_PX
    )
    patches = blocks.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch * grid_h * grid_w, PATCH_SIZE_PX**2)
    return patches.repeat(1, 3 * TEMPORAL_PATCH_SIZE), (grid_h, grid_w)
