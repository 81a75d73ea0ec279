"""Plain `from_pretrained(BitsAndBytesConfig(load_in_4bit=True))` after `register()`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import pytest
import torch
from transformers import (
    BitsAndBytesConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from model_loader.errors import UnsupportedModel
from model_loader.experts import quantizer
from tests.model_loader.checkpoints import (
    dense_config,
    image_inputs,
    rewrite_json,
    rewrite_tensors,
    tiny_config,
    tiny_model,
    write_checkpoint,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _registered() -> None:
    quantizer.register()


def load(folder: Path, **options: Any) -> Any:
    options = {"dtype": torch.float32, "quantization_config": BitsAndBytesConfig(load_in_4bit=True)} | options
    return Qwen3VLMoeForConditionalGeneration.from_pretrained(folder, **options)


def reload(folder: Path) -> Any:
    return Qwen3VLMoeForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def experts_of(model: Any, layer: int = 0) -> Any:
    return model.model.language_model.layers[layer].mlp.experts


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**image_inputs(2)).logits
    return result


def test_registering_twice_leaves_one_plug_in() -> None:
    quantizer.register()
    assert AUTO_QUANTIZER_MAPPING["bitsandbytes_4bit"] is quantizer.Nf4Quantizer


@pytest.mark.parametrize(
    ("hidden", "inner", "num_experts"),
    [
        pytest.param(192, 128, 7, id="odd number of experts"),
        pytest.param(128, 192, 4, id="inner wider than hidden"),
        pytest.param(64, 64, 3, id="smallest blocks, down square"),
        pytest.param(320, 64, 1, id="one expert"),
    ],
)
def test_experts_are_packed_as_bitsandbytes_packs_them(
    tmp_path: Path, hidden: int, inner: int, num_experts: int
) -> None:
    top_k = {"num_experts_per_tok": 1} if num_experts == 1 else {}
    original = tiny_model(tiny_config(hidden=hidden, inner=inner, num_experts=num_experts, **top_k))
    packed = load(write_checkpoint(tmp_path, original))
    for projection in quantizer.PROJECTIONS:
        weight = getattr(experts_of(original), projection).detach().bfloat16()
        codes, state = bnb_functional.quantize_4bit(weight.flatten(0, 1), blocksize=64, quant_type="nf4")
        experts = experts_of(packed)
        num, rows, columns = weight.shape
        assert torch.equal(getattr(experts, projection), codes.view(num, rows, columns // 2))
        absmax = getattr(experts, projection + "_absmax")
        assert absmax.dtype == torch.bfloat16
        assert torch.equal(absmax.float(), state.absmax.view(num, rows, columns // 64)), "of bfloat16 it is exact"


def test_both_checkpoint_layouts_give_the_same_bytes(tmp_path: Path) -> None:
    model = tiny_model()
    ours = load(write_checkpoint(tmp_path / "transformers", model)).state_dict()
    hub = load(write_checkpoint(tmp_path / "hub", model, hub_layout=True, shards=3)).state_dict()
    assert ours.keys() == hub.keys()
    assert all(torch.equal(value, hub[name]) for name, value in ours.items())


@pytest.mark.parametrize("asked", [None, ["nothing_of_this_name"]], ids=["no skip list", "skip list of the user"])
def test_attention_is_packed_and_all_else_stays_16_bit(folder: Path, asked: list[str] | None) -> None:
    config = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=asked)
    model = load(folder, quantization_config=config, dtype=torch.bfloat16)
    linears = [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(linears) == 2 * 4
    assert all(".self_attn." in name for name in linears)
    unpacked = {name: value.dtype for name, value in model.named_parameters() if value.dtype == torch.bfloat16}
    assert {"lm_head.weight", "model.language_model.embed_tokens.weight"} <= unpacked.keys()
    assert "model.language_model.layers.0.mlp.gate.weight" in unpacked
    assert all(value.dtype == torch.bfloat16 for value in model.model.visual.parameters())
    assert asked in (None, ["nothing_of_this_name"])  # the user's own config object is left alone


@pytest.mark.parametrize("tied", [True, False], ids=["one matrix for embedding and head", "a head of its own"])
def test_a_dense_models_attention_and_mlps_are_packed_as_bitsandbytes_packs_them(tmp_path: Path, tied: bool) -> None:
    original = tiny_model(dense_config(tied=tied)).to(torch.bfloat16)
    packed: Any = Qwen3VLForConditionalGeneration.from_pretrained(
        write_checkpoint(tmp_path / "original", original),
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(load_in_4bit=True),
    )
    linears = {name: module for name, module in packed.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    assert len(linears) == 2 * (4 + 3)
    assert all(".self_attn." in name or ".mlp." in name for name in linears if ".visual." not in name)
    for name, module in linears.items():
        weight = original.get_submodule(name).weight
        codes, state = bnb_functional.quantize_4bit(weight.detach(), blocksize=64, quant_type="nf4")
        assert torch.equal(module.weight.data, codes)
        assert torch.equal(module.weight.quant_state.absmax, state.absmax)
    assert all(value.dtype == torch.bfloat16 for value in packed.model.visual.parameters())
    assert packed.lm_head.weight.dtype == torch.bfloat16
    assert packed.config.nf4_linears == {"format": 1, "block_size": 64, "absmax_dtype": "float32"}
    assert not hasattr(packed.config, "nf4_experts")


def test_packed_model_needs_no_experts_implementation_named(folder: Path) -> None:
    model = load(folder)
    assert model.config._experts_implementation == "nf4"
    assert not any(value.requires_grad for value in model.parameters())
    assert torch.cosine_similarity(logits(model).flatten(), logits(tiny_model()).flatten(), dim=0) > 0.95


@pytest.mark.parametrize("used_before", [False, True], ids=["fresh", "after a forward"])
@pytest.mark.parametrize("hub_layout", [False, True], ids=["transformers layout", "hub layout"])
def test_saved_checkpoint_reloads_bit_by_bit(tmp_path: Path, used_before: bool, hub_layout: bool) -> None:
    packed = load(write_checkpoint(tmp_path / "original", hub_layout=hub_layout))
    if used_before:  # bitsandbytes would round absmax in place at the first forward on some CPUs
        logits(packed)
    packed.save_pretrained(tmp_path / "saved")
    again = reload(tmp_path / "saved")
    before, after = packed.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())
    assert torch.equal(logits(packed), logits(again))


def test_saved_config_records_the_format(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["nf4_experts"] == {"format": 2, "block_size": 64, "absmax_dtype": "bfloat16"}
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"


def test_format_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "saved")
    rewrite_json(tmp_path / "saved" / "config.json", nf4_experts={"format": 3})
    with pytest.raises(UnsupportedModel, match="format this version does not read"):
        reload(tmp_path / "saved")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_earlier_copy_with_float32_absmax_loads_to_the_same_bits(
    folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    packed = load(folder, dtype=dtype)
    packed.save_pretrained(tmp_path / "new")
    packed.save_pretrained(tmp_path / "old")

    def as_before(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.float() if name.endswith("_absmax") else value for name, value in tensors.items()}

    rewrite_tensors(tmp_path / "old", as_before)
    earlier = {"format": 1, "block_size": 64, "absmax_dtype": "float32"}
    rewrite_json(tmp_path / "old" / "config.json", nf4_experts=earlier)
    new, old = (
        Qwen3VLMoeForConditionalGeneration.from_pretrained(tmp_path / name, dtype=dtype) for name in ("new", "old")
    )
    assert old.config.nf4_experts == new.config.nf4_experts != earlier
    assert experts_of(old).down_proj_absmax.dtype == torch.bfloat16
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in new.state_dict().items())


def test_rows_that_are_no_multiple_of_the_block_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, tiny_model(tiny_config(inner=96)))
    with pytest.raises(UnsupportedModel, match=r"down_proj has rows of 96 weights, which is no multiple of 64"):
        load(folder)


def test_packed_experts_cannot_be_unpacked_in_place(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="load the 16-bit checkpoint"):
        load(folder).dequantize()


def test_model_without_fused_experts_is_handled_as_without_the_plug_in(tmp_path: Path) -> None:
    config = Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, head_dim=32
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    model = Qwen3ForCausalLM.from_pretrained(tmp_path, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    assert isinstance(model.model.layers[0].mlp.up_proj, bnb.nn.Linear4bit)
    assert model.config.quantization_config.bnb_4bit_quant_type == "fp4"
    assert not hasattr(model.config, "nf4_experts")
