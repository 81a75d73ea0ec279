"""Parameter counts against transformers' own classes, and the plan for the cards people have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from model_loader.errors import UnsupportedModel
from model_loader.geometry import (
    ARCHITECTURES,
    COMMITS,
    DEFAULT_MODEL,
    Geometry,
    geometry_from_config,
    shipped_config,
)
from model_loader.memory import (
    CUDA_CONTEXT_BYTES,
    GIB,
    MARGIN,
    Request,
    budget_bytes,
    kv_bytes_per_token,
    plan_memory,
)  # fmt: skip
from tests.limits import examples
from tests.model_loader.checkpoints import dense_config, tiny_config

DENSE = {name: f"Qwen/Qwen3-VL-{name}-Instruct" for name in ("2B", "4B", "8B", "32B")}


def known(model: str = DEFAULT_MODEL) -> dict[str, Any]:
    config = shipped_config(model)
    assert config is not None
    return config


def count_on_meta(config: dict[str, Any]) -> dict[str, int]:
    with torch.device("meta"):
        model_class = getattr(transformers, ARCHITECTURES[config["model_type"]])
        model = model_class(model_class.config_class.from_dict(config))
    counts = dict.fromkeys(("experts", "attention", "embeddings", "head", "vision", "dense_mlp", "router_and_norms"), 0)
    counts["vision_linears"] = 0
    for name, value in model.named_parameters():
        counts[_part_of(name)] += value.numel()
        if ".visual." in name and value.ndim == 2 and "_embed" not in name:
            counts["vision_linears"] += value.numel()
    return counts


def _part_of(name: str) -> str:
    for mark, part in (
        (".visual.", "vision"),
        (".mlp.experts.", "experts"),
        ("embed_tokens", "embeddings"),
        ("lm_head", "head"),
        ("_norm.", "router_and_norms"),
        (".self_attn.", "attention"),
        (".mlp.gate.", "router_and_norms"),
        (".mlp.", "dense_mlp"),
    ):
        if mark in name:
            return part
    return "router_and_norms"


@pytest.mark.parametrize(
    "config",
    [
        *(pytest.param(known(model), id=model) for model in COMMITS),
        pytest.param(dense_config().to_dict(), id="tiny and dense, one matrix for embedding and head"),
        pytest.param(dense_config(tied=False, attention_bias=True).to_dict(), id="tiny and dense, with biases"),
        pytest.param(tiny_config().to_dict(), id="tiny"),
        pytest.param(tiny_config(mlp_only_layers=[0]).to_dict(), id="a dense layer"),
        pytest.param(
            tiny_config(attention_bias=True, decoder_sparse_step=2).to_dict(), id="biases, every second sparse"
        ),
    ],
)
def test_every_count_equals_transformers_on_the_meta_device(config: dict[str, Any]) -> None:
    geometry = geometry_from_config(config)
    counted = count_on_meta(config)
    assert {name: getattr(geometry, name) for name in counted} == counted
    assert geometry.total == sum(counted.values()) - counted["vision_linears"]


def test_known_model_has_the_published_size() -> None:
    geometry = geometry_from_config(known())
    assert (geometry.total, geometry.experts) == (31_070_754_032, 28_991_029_248)
    assert kv_bytes_per_token(geometry) == 98_304
    assert shipped_config("qwen/qwen3-vl-30b-a3b-thinking") == known()
    assert shipped_config("someone/else") is None


@pytest.mark.parametrize(
    ("name", "total", "kv_bytes", "weights_gib", "needed_gib"),
    [
        ("2B", 2_127_532_032, 114_688, 2.08, 3.54),
        ("4B", 4_437_815_808, 147_456, 3.40, 5.07),
        ("8B", 8_767_123_696, 147_456, 7.03, 9.06),
        ("32B", 33_357_390_064, 262_144, 20.36, 23.94),
    ],
)
def test_dense_models_have_the_published_sizes(
    name: str, total: int, kv_bytes: int, weights_gib: float, needed_gib: float
) -> None:
    geometry = geometry_from_config(known(DENSE[name]))
    plan = plan_memory(geometry)
    assert (geometry.total, geometry.experts, kv_bytes_per_token(geometry)) == (total, 0, kv_bytes)
    assert plan.weights_bytes / GIB == pytest.approx(weights_gib, abs=0.005)
    assert plan.needed_bytes / GIB == pytest.approx(needed_gib, abs=0.005)
    assert "experts" not in {part.name for part in plan.parts}


@pytest.mark.parametrize(
    ("name", "vram_gib", "slots"),
    [
        ("4B", 7.6, 52), ("8B", 7.6, 0), ("8B", 11.6, 73), ("8B", 15.6, 128), ("8B", 24, 128), ("32B", 23.6, 0),
        ("32B", 31.3, 95),
    ],
)  # fmt: skip
def test_how_many_requests_run_at_once_with_a_dense_model(name: str, vram_gib: float, slots: int) -> None:
    """The 4B's head is its embedding, which so stays on the card."""
    plan = plan_memory(geometry_from_config(known(DENSE[name])), vram_gib=vram_gib)
    assert (plan.num_slots, plan.fits) == (slots, slots > 0)
    assert bool(plan.host_bytes) == (name != "4B" and slots > 0 and vram_gib != 24)


DESKTOP_GIB = 0.8


@pytest.mark.parametrize(
    ("vram_gib", "taken_gib", "most", "slots", "has_scratch", "on_host_gib"),
    [
        pytest.param(24, 0, 128, 128, False, 0, id="24 GiB, headless, by the default"),
        pytest.param(24, 0, 512, 151, False, 0.58, id="24 GiB, headless"),
        pytest.param(23.65, 0, 128, 128, False, 0.58, id="24 GiB as torch sees them, headless, by the default"),
        pytest.param(23.65, 0, 512, 141, False, 0.58, id="24 GiB as torch sees them, headless"),
        pytest.param(23.65, DESKTOP_GIB, 512, 120, False, 0.58, id="24 GiB with a desktop"),
        pytest.param(22.05, 0, 512, 99, False, 0.58, id="A10, L4"),
        pytest.param(40, 0, 128, 128, True, 0, id="40 GiB, by the default"),
        pytest.param(40, 0, 512, 512, True, 0, id="40 GiB"),
        pytest.param(80, 0, 128, 128, True, 0, id="80 GiB, by the default"),
        pytest.param(80, 0, 512, 512, True, 0, id="80 GiB"),
        pytest.param(141, 0, 512, 512, True, 0, id="141 GiB"),
        pytest.param(32, 0, 512, 356, False, 0.58, id="32 GiB"),
        pytest.param(20, 0, 512, 46, False, 0.58, id="20 GiB"),
        pytest.param(24, 5, 512, 0, False, 0, id="24 GiB, much of them taken"),
        pytest.param(19, 0, 512, 0, False, 0, id="19 GiB"),
        pytest.param(16, 0, 512, 0, False, 0, id="16 GiB"),
    ],
)
def test_how_many_requests_run_at_once_on_a_card(
    vram_gib: float, taken_gib: float, most: int, slots: int, has_scratch: bool, on_host_gib: float
) -> None:
    free_gib = vram_gib - CUDA_CONTEXT_BYTES / GIB - taken_gib
    plan = plan_memory(geometry_from_config(known()), vram_gib=vram_gib, free_gib=free_gib, max_slots=most)
    assert (plan.num_slots, plan.fits, plan.has_scratch) == (slots, slots > 0, has_scratch)
    assert plan.host_bytes / GIB == pytest.approx(on_host_gib, abs=0.005)
    assert (plan.weights_bytes + plan.host_bytes) / GIB == pytest.approx(17.00, abs=0.005)
    assert plan.naive_bytes / GIB == pytest.approx(55.9, abs=0.1)
    assert sum(part.num_params for part in plan.parts) == plan.num_params
    assert sum(part.size_bytes for part in plan.parts) == plan.weights_bytes + plan.workspace_bytes


@pytest.mark.parametrize("model", COMMITS)
def test_what_is_needed_just_fits_and_less_does_not(model: str) -> None:
    geometry = geometry_from_config(known(model))
    needed = plan_memory(geometry).needed_bytes / GIB
    assert plan_memory(geometry, vram_gib=needed + 0.001).fits
    assert not plan_memory(geometry, vram_gib=needed - 0.001).fits


@settings(max_examples=examples(50, 1000), deadline=None)
@given(
    vram_gib=st.floats(16, 141),
    taken_gib=st.floats(0, 8),
    instruction=st.integers(1, 3000),
    image=st.sampled_from([16, 256, 1024]),
    answer=st.integers(1, 512),
    most=st.integers(1, 512),
)
def test_what_runs_at_once_fits_in_the_budget_and_one_more_does_not(
    vram_gib: float, taken_gib: float, instruction: int, image: int, answer: int, most: int
) -> None:
    request = Request(instruction, image, answer)
    plan = plan_memory(
        geometry_from_config(known()), vram_gib=vram_gib, free_gib=vram_gib - taken_gib, request=request, max_slots=most
    )
    assert plan.budget_bytes is not None
    assert plan.num_slots is not None
    if not plan.fits:
        return
    blocks = -(-(instruction % 16 + image + answer) // 16)

    def taken(slots: int) -> int:
        kv_tokens = instruction // 16 * 16 + slots * 16 * blocks
        return plan.weights_bytes + plan.workspace_bytes + kv_tokens * 98_304

    free = plan.budget_bytes * (1 - MARGIN)
    assert plan.num_slots == 1 or taken(plan.num_slots) <= free
    assert plan.num_slots == most or taken(plan.num_slots + 1) > free - 98_304


@pytest.mark.parametrize(
    ("card", "vram", "free", "expected"),
    [
        pytest.param(24, None, None, 23.5, id="a whole card, not looked at"),
        pytest.param(24, None, 23.6, 23.5, id="a small context is no gain"),
        pytest.param(24, None, 20, 20, id="others hold a part"),
        pytest.param(24, 20, None, 19.5, id="a share, with CUDA's context"),
        pytest.param(24, 20, 23.5, 19.5, id="a share that is free"),
        pytest.param(24, 20, 12, 12, id="a share that is not free"),
        pytest.param(24, 80, None, 23.5, id="a share larger than the card"),
        pytest.param(24, 0.25, None, 0, id="a share smaller than CUDA's context"),
    ],
)
def test_the_budget_is_what_was_given_and_is_there(
    card: float, vram: float | None, free: float | None, expected: float
) -> None:
    assert budget_bytes(card, vram, free) == int(expected * GIB)


def test_plan_without_a_card_gives_no_verdict() -> None:
    plan = plan_memory(geometry_from_config(known()))
    assert (plan.fits, plan.num_slots, plan.free_bytes) == (None, None, None)


def test_sixteen_bit_needs_the_whole_checkpoint() -> None:
    plan = plan_memory(geometry_from_config(known()), vram_gib=80, quantisation="none")
    assert plan.weights_bytes == 2 * 31_070_754_032
    assert plan.fits


def test_more_image_tokens_leave_fewer_slots() -> None:
    geometry = geometry_from_config(known())
    slots = [plan_memory(geometry, vram_gib=24, request=Request(image_tokens=n)).num_slots for n in (256, 576, 1024)]
    assert slots == sorted(slots, reverse=True)
    assert min(slots) >= 40


def changed(section: str, **values: Any) -> dict[str, Any]:
    return known() | {section: known()[section] | values}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"model_type": "llama"}, "model_type 'llama'", id="another model"),
        pytest.param({"model_type": ["qwen3_vl"]}, "model_type \\['qwen3_vl'\\]", id="a list of models"),
        pytest.param({"model_type": "qwen3_vl"}, "no text_config", id="no text part of a dense one"),
        pytest.param(
            known(DENSE["8B"]) | {"text_config": known()["text_config"] | {"intermediate_size": 0}},
            "text_config.intermediate_size",
            id="a dense one without its MLP",
        ),
        pytest.param(changed("text_config", head_dim=None), "text_config.head_dim", id="no size of a head"),
        pytest.param({}, "model_type None", id="no model type"),
        pytest.param({"model_type": "qwen3_vl_moe"}, "no text_config", id="no text part"),
        pytest.param(changed("text_config", num_experts=None), "text_config.num_experts", id="no experts"),
        pytest.param(changed("text_config", hidden_size="2048"), "text_config.hidden_size", id="a word for a number"),
        pytest.param(changed("vision_config", depth=-1), "vision_config.depth", id="a negative number"),
        pytest.param(changed("vision_config", depth=True), "vision_config.depth", id="a truth value"),
    ],
)
def test_config_of_another_kind_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        geometry_from_config(config)


def test_geometry_is_frozen() -> None:
    assert Geometry.__dataclass_params__.frozen  # type: ignore[attr-defined]
