"""A picture becomes the patches of exactly the grid its prompt was made for."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from backend.engine.image_sizes import Grid
from backend.engine.messages import Picture
from backend.engine.pictures import to_patches
from tests.tiny_model import tiny_model
from training import geometry

PATCH_VALUES = 3 * geometry.TEMPORAL_PATCH_SIZE * geometry.PATCH_SIZE_PX**2


def noise(width_px: int, height_px: int) -> Picture:
    return Picture(width_px, height_px, random.Random(width_px).randbytes(width_px * height_px * 3))


def patches_of(picture: Picture, grid: Grid, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return to_patches(picture, grid, tiny_model().image_processor, dtype)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        pytest.param((32, 32), Grid(4, 4), id="as large as its grid"),
        pytest.param((300, 200), Grid(3, 5), id="shrunk"),
        pytest.param((1, 1), Grid(4, 4), id="one pixel"),
        pytest.param((1000, 2), Grid(1, 16), id="a line"),
        pytest.param((31, 33), Grid(5, 4), id="odd sides"),
        pytest.param((4, 4), Grid(1, 1), id="one token"),
    ],
)
def test_a_picture_gives_four_patches_a_token_of_its_grid(size: tuple[int, int], grid: Grid) -> None:
    patches = patches_of(noise(*size), grid, torch.bfloat16)
    assert patches.shape == (4 * grid.num_tokens, PATCH_VALUES)
    assert patches.dtype == torch.bfloat16
    assert 0 < patches.float().abs().max() < 3  # normalised


def test_a_picture_of_the_right_size_is_cut_as_transformers_cuts_it() -> None:
    picture = noise(32, 32)
    image = Image.frombytes("RGB", (32, 32), picture.rgb)
    stock = tiny_model().image_processor(images=[image], return_tensors="pt")
    assert stock["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert torch.equal(patches_of(picture, Grid(4, 4)), stock["pixel_values"])


def test_width_and_height_are_not_mixed_up() -> None:
    """The left half is black, the right half white: so are the tokens of every row."""
    grid = Grid(1, 4)
    rgb = (bytes(16 * 3) + b"\xff" * 16 * 3) * 8
    patches = patches_of(Picture(32, 8, rgb), grid)
    assert (patches.mean(dim=1) > 0).tolist() == [False] * 8 + [True] * 8


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        pytest.param((40, 400), Grid(4, 4), id="upright"),
        pytest.param((400, 40), Grid(4, 4), id="lying"),
        pytest.param((2, 200), Grid(16, 1), id="a line of two pixels"),
        pytest.param((1, 200), Grid(16, 1), id="a line of one pixel"),
        pytest.param((50, 40), Grid(4, 4), id="a little wider than its grid"),
        pytest.param((1500, 100), Grid(4, 16), id="long in a long grid"),
    ],
)
def test_what_does_not_fit_its_grid_stands_undistorted_on_white(size: tuple[int, int], grid: Grid) -> None:
    """A black picture: the share of black in what the model sees is that of the picture in a paper of that shape."""
    patches = patches_of(Picture(*size, bytes(3 * size[0] * size[1])), grid)
    shape = size[0] / size[1] * grid.rows / grid.columns
    white, black = (patches_of(Picture(4, 4, bytes([value] * 48)), Grid(1, 1)).mean() for value in (255, 0))
    share = ((patches.mean() - white) / (black - white)).item()
    assert share == pytest.approx(min(shape, 1 / shape), rel=0.1, abs=0.01)


def test_threads_at_the_same_time_give_the_same_patches() -> None:
    pictures = [noise(20 + i, 50) for i in range(16)]
    expected = [patches_of(picture, Grid(5, 4)) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda picture: patches_of(picture, Grid(5, 4)), pictures))
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


def test_a_picture_with_too_few_bytes_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not enough image data"):
        patches_of(Picture(8, 8, b"short"), Grid(1, 1))
