"""Tensors that are left over, missing or misshapen end a load with one clear error, packed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_loader.contents import NAME as CONTENTS
from model_loader.errors import ModelFilesInvalid, UnsupportedModel
from model_loader.loader import load_model
from tests.model_loader.checkpoints import dense_only, rewrite_tensors, tiny_config, tiny_model, write_checkpoint

Tensors = dict[str, torch.Tensor]
EXPERTS = "model.language_model.layers.1.mlp.experts.gate_up_proj"
QUERY = "model.language_model.layers.0.self_attn.q_proj.weight"
NORM = "model.language_model.norm.weight"
GATE = "model.language_model.layers.1.mlp.gate_proj.weight"
EMBEDDING = "model.language_model.embed_tokens.weight"


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def with_extra(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.zeros(2)}


def cropped(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: tensors[name][..., 1:].contiguous()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(without(EXPERTS), f"1 tensors are missing: {EXPERTS}", id="experts missing"),
        pytest.param(without(QUERY), f"1 tensors are missing: {QUERY}", id="attention missing"),
        pytest.param(without("lm_head.weight"), "are missing: lm_head.weight", id="head missing"),
        pytest.param(with_extra("model.stray.weight"), "are left over: model.stray.weight", id="stray tensor"),
        pytest.param(with_extra(EXPERTS + "_absmax"), "gate_up_proj_absmax", id="absmax in a 16-bit checkpoint"),
        pytest.param(cropped(EXPERTS), rf"{EXPERTS} \[7, 256, 191\] instead of", id="experts cropped"),
        pytest.param(cropped(QUERY), "q_proj.weight .* instead of", id="attention cropped"),
        pytest.param(cropped(NORM), "norm.weight .* instead of", id="norm cropped"),
    ],
)
def test_checkpoint_that_does_not_match_its_config_is_refused(
    folder: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    rewrite_tensors(folder, change)
    with pytest.raises(ModelFilesInvalid, match=message):
        load_model(str(folder), device="cpu", quantisation="nf4")
    with pytest.raises(ModelFilesInvalid, match=message):
        load_model(str(folder), device="cpu", quantisation="none")


@dense_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(without(GATE), f"1 tensors are missing: {GATE}", id="a part of an MLP missing"),
        pytest.param(cropped(GATE), "gate_proj.weight .* instead of", id="a part of an MLP cropped"),
        pytest.param(
            without(EMBEDDING), "are missing: lm_head.weight, .*embed_tokens", id="embedding and head missing"
        ),
        pytest.param(with_extra(EXPERTS), f"are left over: {EXPERTS}", id="experts in a dense model"),
        pytest.param(with_extra(GATE + ".absmax"), "absmax", id="absmax in a 16-bit checkpoint"),
    ],
)
def test_dense_checkpoint_that_does_not_match_its_config_is_refused(
    folder: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    rewrite_tensors(folder, change)
    for quantisation in ("nf4", "none"):
        with pytest.raises(ModelFilesInvalid, match=message):
            load_model(str(folder), device="cpu", quantisation=quantisation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(without(EXPERTS), "are missing", id="packed experts missing"),
        pytest.param(without(EXPERTS + "_absmax"), f"missing: {EXPERTS}_absmax", id="absmax missing"),
        pytest.param(cropped(EXPERTS), "instead of", id="packed experts cropped"),
        pytest.param(with_extra("stray"), "left over: stray", id="stray tensor"),
    ],
)
def test_damaged_saved_checkpoint_given_as_a_folder_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    load_model(str(folder), device="cpu", save_quantised_to=tmp_path / "saved")
    (saved,) = (tmp_path / "saved").iterdir()
    rewrite_tensors(saved, change)
    (saved / CONTENTS).unlink()  # as in a copy of an earlier version; else its digests tell already
    with pytest.raises(ModelFilesInvalid, match=message):
        load_model(str(saved), device="cpu")


def test_square_experts_of_the_hub_layout_are_refused(tmp_path: Path) -> None:
    square = tiny_model(tiny_config(hidden=128, inner=128))
    with pytest.raises(UnsupportedModel, match="square"):
        load_model(str(write_checkpoint(tmp_path / "hub", square, hub_layout=True)), device="cpu")
    assert load_model(str(write_checkpoint(tmp_path / "ours", square)), device="cpu").quantisation == "nf4"
