"""The fixed picture sizes: within the budget, few, near the picture's own shape."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.engine.image_sizes import BUDGETS, MAX_DISTORTION, Grid, choose_grid, paper, scale

SIDES = st.integers(1, 20_000)
LIMITS = st.tuples(st.integers(1, 2048), st.integers(1, 2048)).map(sorted)
TOKEN_PX = st.sampled_from([8, 32])
SHAPES = [200 ** (step / 400) for step in range(-400, 401)]  # from 1:200 to 200:1, each 1.3 % wider than the last


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


@pytest.mark.parametrize(("width_px", "longest"), [(100_000, Grid(2, 398)), (10_000_000, Grid(2, 398))])
def test_a_line_gets_the_longest_grid(width_px: int, longest: Grid) -> None:
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
    ("budget", "usual", "all_shapes"),
    [(16, 9, 23), (64, 15, 45), (144, 15, 53), (256, 15, 57), (576, 15, 57), (1024, 17, 61)],
    ids=str,
)
def test_the_grids_of_a_budget_are_few(budget: int, usual: int, all_shapes: int) -> None:
    """Usual: up to 1:3. So long are few pictures, and they have most of the shapes."""
    grids = grids_of(budget)
    assert len(grids) == all_shapes
    assert len([grid for grid in grids if max(grid.rows, grid.columns) <= 3.01 * min(grid.rows, grid.columns)]) == usual


def test_a_single_budget_has_at_most_63_grids() -> None:
    assert max(len(grids_of(budget)) for budget in range(1, 2049, 93)) == 63


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


@given(SIDES, st.floats(1 / 200, 200), LIMITS, TOKEN_PX)
def test_no_picture_is_distorted(height_px: int, shape: float, limits: list[int], token_px: int) -> None:
    """What is laid on paper is at least 8 pixels wide and high: see `backend.engine.pictures`."""
    size = (max(8, round(height_px * shape)), max(8, height_px))
    grid = choose(*size, limits[1], limits[0], token_px)
    on = paper(*size, grid)
    assert distortion(*on, grid) <= MAX_DISTORTION
    assert on[0] >= size[0]
    assert on[1] >= size[1]
    assert on == size or distortion(*size, grid) > MAX_DISTORTION


@pytest.mark.parametrize("max_tokens", [256, 576, 1024])
def test_usual_shapes_fill_their_grid(max_tokens: int) -> None:
    """Up to 1:3 next to nothing is spent on white paper."""
    for shape in SHAPES:
        if 1 / 3 <= shape <= 3:
            size = (round(3000 * math.sqrt(shape)), round(3000 / math.sqrt(shape)))
            assert math.prod(size) >= 0.89 * math.prod(paper(*size, choose(*size, max_tokens, 64)))


@pytest.mark.parametrize(
    ("size", "grid", "seen"),
    [
        pytest.param((512, 512), Grid(16, 16), 1.0, id="as it is"),
        pytest.param((1024, 1024), Grid(16, 16), 0.5, id="half"),
        pytest.param((100, 1000), Grid(25, 3), 0.8, id="upright"),
        pytest.param((1000, 100), Grid(3, 25), 0.8, id="lying"),
        pytest.param((100, 1000), Grid(16, 16), 0.512, id="upright on paper"),
    ],
)
def test_the_scale_is_that_of_the_longer_side(size: tuple[int, int], grid: Grid, seen: float) -> None:
    assert scale(*size, grid, 32) == pytest.approx(seen)


@given(SIDES, SIDES, st.integers(1, 8))
def test_a_larger_copy_of_a_picture_never_gets_fewer_tokens(width_px: int, height_px: int, factor: int) -> None:
    small, large = choose(width_px, height_px), choose(width_px * factor, height_px * factor)
    assert small.num_tokens <= large.num_tokens


@given(SIDES, SIDES, st.sampled_from(BUDGETS), st.sampled_from(BUDGETS))
def test_a_larger_budget_never_gives_fewer_tokens(width_px: int, height_px: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert choose(width_px, height_px, low).num_tokens <= choose(width_px, height_px, high).num_tokens
