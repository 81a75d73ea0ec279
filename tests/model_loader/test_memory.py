"""Parameter counts against transformers' own classes, and the plan for the cards people have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from model_loader.errors import UnsupportedModel
from model_loader.geometry import DEFAULT_MODEL, Geometry, geometry_from_config, shipped_config
from model_loader.memory import GIB, Request, kv_bytes_per_token, plan_memory
from tests.model_loader.checkpoints import tiny_config


def known() -> dict[str, Any]:
    config = shipped_config(DEFAULT_MODEL)
    assert config is not None
    return config


def count_on_meta(config: dict[str, Any]) -> dict[str, int]:
    with torch.device("meta"):
        model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig.from_dict(config))
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
        pytest.param(known(), id="the 30B"),
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
    ("vram_gib", "fits", "slots"),
    [(24, True, 26), (22, True, 14), (20, True, 1), (19, False, 0), (16, False, 0), (80, True, 372)],
)
def test_plan_of_the_known_model_for_a_card(vram_gib: float, fits: bool, slots: int) -> None:
    plan = plan_memory(geometry_from_config(known()), vram_gib=vram_gib)
    assert (plan.fits, plan.num_slots) == (fits, slots)
    assert plan.weights_bytes / GIB == pytest.approx(17.85, abs=0.005)
    assert plan.naive_bytes / GIB == pytest.approx(55.9, abs=0.1)
    assert sum(part.num_params for part in plan.parts) == plan.num_params
    assert sum(part.size_bytes for part in plan.parts) == plan.weights_bytes + plan.workspace_bytes


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
    assert min(slots) >= 16


def changed(section: str, **values: Any) -> dict[str, Any]:
    return known() | {section: known()[section] | values}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"model_type": "llama"}, "model_type 'llama'", id="another model"),
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
