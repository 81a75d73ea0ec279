"""The computed limit of a card, against figures worked out apart from this code."""

import pytest
from transformers import Qwen3VLMoeConfig

from benchmarks.roofline import CARDS, Sizes, Work, find_card, ideal_images_per_s, sizes_of
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config, shipped_config


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    return sizes_of(Qwen3VLMoeConfig(**(shipped_config(DEFAULT_MODEL) or {})))


def test_the_sizes_are_those_the_memory_plan_counts(sizes: Sizes) -> None:
    geometry = geometry_from_config(shipped_config(DEFAULT_MODEL) or {})
    assert (sizes.experts, sizes.attention, sizes.head) == (geometry.experts, geometry.attention, geometry.head)
    assert sizes.vision_blocks + sizes.mergers == geometry.vision_linears
    assert sizes.kv_bytes_per_token == 98_304


@pytest.mark.parametrize(
    ("card", "image_tokens", "expected"),
    [
        pytest.param("RTX 3090", 256, [4.0, 7.2, 12.5, 16.2], id="3090, 256 image tokens"),
        pytest.param("RTX 4090", 576, [4.2, 7.5, 12.4, 15.9], id="4090, 576 image tokens"),
        pytest.param("L4", 1024, [1.3, 2.3, 3.9, 5.1], id="L4, 1024 image tokens"),
        pytest.param("H100 80GB HBM3", 256, [15.3, 32.3, 67.4, 104.1], id="H100, 256 image tokens"),
    ],
)
def test_the_limit_with_16_bit_absmax(sizes: Sizes, card: str, image_tokens: int, expected: list[float]) -> None:
    works = [Work(image_tokens, slots, absmax_bytes=2) for slots in (1, 8, 32, 64)]
    assert [round(ideal_images_per_s(sizes, CARDS[card], work), 1) for work in works] == expected


def test_larger_absmax_and_fewer_forced_tokens_cost_time(sizes: Sizes) -> None:
    card = CARDS["RTX 4090"]
    limit = ideal_images_per_s(sizes, card, Work(256, 32, absmax_bytes=2))
    assert ideal_images_per_s(sizes, card, Work(256, 32, absmax_bytes=4)) < limit
    assert ideal_images_per_s(sizes, card, Work(256, 32, absmax_bytes=2, forced_share=0.1)) < limit


def test_uniform_routing_of_sixteen_rows_hits_two_thirds_of_the_experts(sizes: Sizes) -> None:
    assert sizes.distinct_experts(16) == pytest.approx(0.644, abs=0.001)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        pytest.param("NVIDIA GeForce RTX 4090", True, id="a whole name"),
        pytest.param("NVIDIA GeForce RTX 3090 Ti", False, id="a longer name is another card"),
        pytest.param("NVIDIA A10G", False, id="a suffix is another card"),
    ],
)
def test_only_whole_names_of_cards_match(name: str, known: bool) -> None:
    assert (find_card(name) is not None) == known
