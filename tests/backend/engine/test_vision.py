"""The vision tower over many pictures gives what transformers gives for each alone."""

from __future__ import annotations

import random

import pytest
import torch

from backend.engine.image_sizes import Grid
from backend.engine.messages import Picture
from backend.engine.pictures import to_patches
from backend.engine.vision import VisionTower, VisualTokens
from tests.tiny_model import tiny_model

MIXED = [Grid(4, 4), Grid(2, 8), Grid(4, 4), Grid(8, 2), Grid(4, 4), Grid(1, 1), Grid(2, 8)]


def patches_of(number: int, grid: Grid) -> torch.Tensor:
    rgb = random.Random(number).randbytes(40 * 30 * 3)
    return to_patches(Picture(40, 30, rgb), grid, tiny_model().image_processor, torch.float32)


@torch.inference_mode()
def stock(patches: torch.Tensor, grid: Grid) -> VisualTokens:
    """One picture through transformers' own tower, eager attention."""
    visual = tiny_model(role="stock").model.model.visual
    visual.set_attn_implementation("eager")
    output = visual(patches, grid_thw=torch.tensor([[1, 2 * grid.rows, 2 * grid.columns]]))
    return VisualTokens(output.pooler_output, tuple(output.deepstack_features))


def assert_same(one: VisualTokens, other: VisualTokens) -> None:
    assert len(one.deepstack) == len(other.deepstack) == 3
    for a, b in zip((one.embeddings, *one.deepstack), (other.embeddings, *other.deepstack), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 32, 4096], ids=["one by one", "two at once", "all at once"])
def test_mixed_sizes_come_back_in_their_order(max_tokens: int) -> None:
    patches = [patches_of(i, grid) for i, grid in enumerate(MIXED)]
    tower = VisionTower(tiny_model().model, max_tokens=max_tokens)
    with torch.inference_mode():
        results = tower.encode(patches, MIXED)
    assert len(results) == len(MIXED)
    for result, part, grid in zip(results, patches, MIXED, strict=True):
        assert result.embeddings.shape == (grid.num_tokens, 128)
        assert_same(result, stock(part, grid))


def test_one_pass_holds_no_more_tokens_than_it_may() -> None:
    tower, widths = VisionTower(tiny_model().model, max_tokens=40), list[int]()
    watch = tiny_model().model.model.visual.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[0]))
    with torch.inference_mode():
        tower.encode([patches_of(i, Grid(4, 4)) for i in range(5)], [Grid(4, 4)] * 5)
    watch.remove()
    assert widths == [4 * 32, 4 * 32, 4 * 16]


def test_no_picture_gives_no_result() -> None:
    assert VisionTower(tiny_model().model, max_tokens=10).encode([], []) == []
