"""Grouping routes by expert, against a sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_loader.experts.tiles import CHUNK, Tiles, group_routes, num_tiles
from tests.limits import examples


def check(tiles: Tiles, index: torch.Tensor, num_experts: int) -> None:
    """Each kept route is in exactly one tile, of its expert; no tile is larger than it may be."""
    routes = index.flatten().tolist()
    seen: list[int] = []
    order = tiles.order.tolist()
    for expert, start, rows in zip(*tiles.table.tolist(), strict=True):
        assert 0 <= rows <= tiles.block_m
        held = order[start : start + rows] if rows else []
        assert all(routes[route] == expert for route in held)
        seen += held
    assert seen == sorted(seen, key=lambda route: (routes[route], route)), "an expert's routes keep their order"
    assert sorted(seen) == [route for route, expert in enumerate(routes) if expert < num_experts]
    assert tiles.num_tiles == num_tiles(len(routes), num_experts, tiles.block_m)


@pytest.mark.parametrize("block_m", [16, 64])
@pytest.mark.parametrize(
    ("routes", "num_experts"),
    [
        pytest.param([0], 1, id="one route"),
        pytest.param([3] * 65, 5, id="all on one expert"),
        pytest.param([2] * 16 + [0] * 17, 3, id="a full tile and one row more"),
        pytest.param([4] * 40, 4, id="all dropped"),
        pytest.param([0] * 5 + [8] * 700 + [7] * 40, 8, id="mostly dropped"),
        pytest.param(list(range(8)) * 150, 8, id="more routes than a program reads at once"),
    ],
)
def test_every_kept_route_is_in_one_tile_of_its_expert(routes: list[int], num_experts: int, block_m: int) -> None:
    index = torch.tensor(routes).view(-1, 1)
    check(group_routes(index, num_experts, block_m), index, num_experts)


@settings(max_examples=examples(6, 60), deadline=None)
@given(st.integers(1, 9), st.data())
def test_every_kept_route_is_in_one_tile_of_its_expert_for_any_routing(num_experts: int, data: st.DataObject) -> None:
    routes = data.draw(st.lists(st.integers(0, num_experts), min_size=1, max_size=90))
    index = torch.tensor(routes, dtype=torch.int32).view(-1, 1)
    check(group_routes(index, num_experts, 16), index, num_experts)


def test_the_number_of_tiles_does_not_depend_on_the_routing() -> None:
    assert len({group_routes(torch.full((50, 2), expert), 3, 16).num_tiles for expert in range(4)}) == 1
    assert CHUNK >= 512, "a decode step of 64 tokens to 8 experts is read at once"
