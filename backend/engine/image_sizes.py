"""A few fixed picture sizes under a pixel budget, so that pictures of equal size share one vision pass and prefill.

Qwen-VL itself gives nearly each picture a size of its own. Here the budget, in image tokens, is one of BUDGETS, and
the shape one of few. Pure arithmetic: knows no picture, no tensor. Raises ValueError for sizes below 1.

The picture is resized to its grid, which changes its width : height by a factor of MAX_DISTORTION at most: where no
grid is so near, it is laid on `paper` of the grid's shape first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

BUDGETS = (16, 64, 144, 256, 576, 1024)
MAX_DISTORTION = 1.1
_USUAL = (1, 9 / 10, 4 / 5, 3 / 4, 2 / 3, 9 / 16, 1 / 2, 5 / 12, 1 / 3)
_TALL = (*_USUAL, *(1 / (3 * 1.2**i) for i in range(1, 24)))
"""Columns / rows, up to 1 : 200; their inverses come with them. No two neighbours are further apart than a picture
between them may be distorted, to either side: 1.1 * 1.1."""


@dataclass(frozen=True, slots=True, order=True)
class Grid:
    """A picture's size in merged patches; it becomes rows*columns image tokens."""

    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        return self.rows * self.columns


def choose_grid(width_px: int, height_px: int, *, max_tokens: int, min_tokens: int, token_px: int) -> Grid:
    """Return the grid of a picture: the smallest budget that holds its pixels, then the nearest shape.

    Small pictures are not blown up beyond the next budget; larger ones than `max_tokens` shrink to it.
    """
    if min(width_px, height_px, token_px) < 1:
        raise ValueError(f"a picture of {width_px} x {height_px} px in tokens of {token_px} px has no size")
    budgets = _budgets(max_tokens, min_tokens)
    num_pixels = width_px * height_px
    budget = next((budget for budget in budgets if num_pixels <= budget * token_px**2), budgets[-1])
    shape = math.log(width_px) - math.log(height_px)
    return min(_grids_of(budget), key=lambda grid: (abs(_shape(grid) - shape), grid))


def paper(width_px: int, height_px: int, grid: Grid) -> tuple[int, int]:
    """Return the width and height, in pixels of the picture, of what is resized to `grid`: the picture, or the smallest
    paper of the grid's shape that holds it if the picture itself would be distorted by more than MAX_DISTORTION."""
    factor = math.exp(_shape(grid)) * height_px / width_px
    if 1 / MAX_DISTORTION <= factor <= MAX_DISTORTION:
        return width_px, height_px
    return max(width_px, round(width_px * factor)), max(height_px, round(height_px / factor))


def scale(width_px: int, height_px: int, grid: Grid, token_px: int) -> float:
    """Return how many pixels the model sees of each pixel of the picture, along its longer side; above 1: enlarged."""
    across, down = paper(width_px, height_px, grid)
    return grid.columns * token_px / across if width_px > height_px else grid.rows * token_px / down


def _budgets(max_tokens: int, min_tokens: int) -> tuple[int, ...]:
    if not 1 <= min_tokens <= max_tokens:
        raise ValueError(f"min_tokens is {min_tokens}, not within 1..max_tokens ({max_tokens})")
    return (*(budget for budget in BUDGETS if min_tokens <= budget < max_tokens), max_tokens)


def _shape(grid: Grid) -> float:
    return math.log(grid.columns) - math.log(grid.rows)


@lru_cache(maxsize=64)
def _grids_of(budget: int) -> tuple[Grid, ...]:
    """The grids of one budget, one for each shape; two shapes may share one where the budget is small."""
    tall = [_nearest(budget, shape) for shape in _TALL]
    return tuple(sorted({*tall, *(Grid(grid.columns, grid.rows) for grid in tall)}))


def _nearest(budget: int, shape: float) -> Grid:
    """Return the grid for columns / rows = `shape` (at most 1); a factor of distortion weighs like two of tokens."""
    candidates = [
        Grid(max(columns, min(budget // columns, rows)), columns)
        for columns in range(1, math.isqrt(budget) + 1)
        for rows in (math.floor(columns / shape), math.ceil(columns / shape))
    ]
    return min(candidates, key=lambda grid: (2 * abs(_shape(grid) - math.log(shape)) - math.log(grid.num_tokens), grid))
