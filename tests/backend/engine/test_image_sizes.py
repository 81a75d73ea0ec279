"""The fixed picture sizes: within the budget, few, near the picture's own shape."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.engine.image_sizes import BUDGETS, Grid, choose_grid
from tests.limits import examples

SIDES = st.integers(1, 20_000)
LIMITS = st.tuples(st.integers(1, 2048), st.integers(1, 2048)).map(sorted)
TOKEN_PX = st.sampled_from([8, 32])
SHAPES = [4 ** (step / 100) for step in range(-100, 101)]  # from 1:4 to 4:1, each 1.4 % wider than the one before it


def choose(width_px: int, height_px: int, max_tokens: int = 1024, min_tokens: int = 16, token_px: int = 32) -> Grid:
    return choose_grid(width_px, height_px, max_tokens=max_tokens, min_tokens=min_tokens, token_px=token_px)


def grids_of(budget: int) -> set[Grid]:
    """What `choose` gives to pictures of many shapes, however large."""
    return {choose(round(10_000 * shape), 10_000, budget, budget) for shape in SHAPES}


def distortion(width_px: int, height_px: int, grid: Grid) -> float:
    """The factor by which width : height changes, at least 1."""
    return math.exp(abs(math.log(grid.columns / grid.rows) - math.log(width_px / height_px)))


@pytest.mark.parametrize(("budget", "side"), [(16, 4), (64, 8), (144, 12), (256, 16), (576, 24), (1024, 32)])
def test_a_square_stays_square_at_every_budget(budget: int, side: int) -> None:
    assert choose(side * 32, side * 32) == Grid(side, side)
    assert choose(5000, 5000, max_tokens=budget) == Grid(side, side)


@pytest.mark.parametrize(
    ("width_px", "height_px", "grid"),
    [
        pytest.param(1600, 1200, Grid(27, 36), id="a camera's picture"),
        pytest.param(1200, 1600, Grid(36, 27), id="the same upright"),
    ],
)
def test_a_usual_picture_gets_its_shape(width_px: int, height_px: int, grid: Grid) -> None:
    chosen = choose(width_px, height_px)
    assert chosen == grid
    assert chosen.num_tokens > 0.94 * 1024


def test_upright_and_lying_pictures_get_each_others_grid() -> None:
    for width_px, height_px in [(1600, 1200), (1080, 1920), (500, 400), (2000, 100)]:
        upright, lying = choose(width_px, height_px), choose(height_px, width_px)
        assert (upright.rows, upright.columns) == (lying.columns, lying.rows)


@pytest.mark.parametrize(("width_px", "longest"), [(100_000, Grid(18, 54)), (10_000_000, Grid(18, 54))])
def test_a_panorama_gets_the_longest_grid(width_px: int, longest: Grid) -> None:
    assert choose(width_px, 100) == longest
    assert choose(100, width_px) == Grid(longest.columns, longest.rows)


def test_a_small_picture_is_not_blown_up_beyond_the_next_budget() -> None:
    assert choose(128, 128).num_tokens == 16
    assert choose(129, 128).num_tokens <= 64
    assert choose(1, 1).num_tokens == 16
    assert choose(1, 1, min_tokens=64).num_tokens == 64


def test_a_token_of_fewer_pixels_makes_more_of_the_same_picture() -> None:
    assert choose(128, 128, token_px=32) == Grid(4, 4)
    assert choose(128, 128, token_px=8) == Grid(16, 16)


@pytest.mark.parametrize(
    ("max_tokens", "count"), [(16, 7), (64, 18), (144, 29), (256, 40), (576, 51), (1024, 64)], ids=str
)
def test_the_grids_are_few(max_tokens: int, count: int) -> None:
    assert len(set().union(*(grids_of(budget) for budget in BUDGETS if budget <= max_tokens))) == count


def test_a_single_budget_has_at_most_thirteen_grids() -> None:
    assert max(len(grids_of(budget)) for budget in range(1, 2049, 23)) == 13


@pytest.mark.parametrize("minimum", [0, -1, 257])
def test_limits_that_contradict_are_refused(minimum: int) -> None:
    with pytest.raises(ValueError, match="min_tokens"):
        choose(100, 100, 256, minimum)


@pytest.mark.parametrize(("width_px", "height_px", "token_px"), [(0, 5, 32), (5, 0, 32), (5, 5, 0)])
def test_a_picture_without_a_size_is_refused(width_px: int, height_px: int, token_px: int) -> None:
    with pytest.raises(ValueError, match="no size"):
        choose(width_px, height_px, token_px=token_px)


@given(SIDES, SIDES, LIMITS, TOKEN_PX)
def test_the_chosen_grid_is_within_the_budget(width_px: int, height_px: int, limits: list[int], token_px: int) -> None:
    minimum, maximum = limits
    grid = choose(width_px, height_px, maximum, minimum, token_px)
    assert 1 <= grid.num_tokens <= maximum
    assert min(grid.rows, grid.columns) >= 1


@given(SIDES, SIDES, TOKEN_PX)
def test_a_picture_gets_no_more_tokens_than_the_step_that_holds_it(
    width_px: int, height_px: int, token_px: int
) -> None:
    needed = width_px * height_px / token_px**2
    assert choose(width_px, height_px, token_px=token_px).num_tokens <= next((b for b in BUDGETS if b >= needed), 1024)


@given(SIDES, st.floats(1 / 3, 3), st.integers(144, 2048))
def test_ordinary_shapes_are_hardly_distorted(height_px: int, shape: float, max_tokens: int) -> None:
    width_px = max(1, round(height_px * shape))
    if not 1 / 3 <= width_px / height_px <= 3:
        return
    grid = choose(width_px, height_px, max_tokens, min_tokens=144)
    assert distortion(width_px, height_px, grid) < 1.27
    if max_tokens in BUDGETS:
        assert distortion(width_px, height_px, grid) < 1.23


def test_the_bounds_on_distortion_hold_for_every_budget() -> None:
    for budget in sorted({*BUDGETS[2:], *range(144, 2049, examples(23, 1))}):
        shapes = sorted(grid.columns / grid.rows for grid in grids_of(budget))
        gaps = [math.sqrt(b / a) for a, b in pairwise(shapes) if a * b > 1 / 9 and a * b < 9]
        assert max([*gaps, 3 / shapes[-1]]) < (1.23 if budget in BUDGETS else 1.27)


@given(SIDES, SIDES, st.integers(1, 8))
def test_a_larger_copy_of_a_picture_never_gets_fewer_tokens(width_px: int, height_px: int, factor: int) -> None:
    small, large = choose(width_px, height_px), choose(width_px * factor, height_px * factor)
    assert small.num_tokens <= large.num_tokens


@given(SIDES, SIDES, st.sampled_from(BUDGETS), st.sampled_from(BUDGETS))
def test_a_larger_budget_never_gives_fewer_tokens(width_px: int, height_px: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert choose(width_px, height_px, low).num_tokens <= choose(width_px, height_px, high).num_tokens
