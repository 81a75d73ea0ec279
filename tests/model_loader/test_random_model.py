"""Random weights of a geometry: the formats of a loaded model, of either kind, and numbers that are numbers."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from model_loader.errors import UnsupportedModel
from model_loader.experts.quantizer import fused_experts
from model_loader.random_model import CPU_LAYERS, random_model
from tests.model_loader.checkpoints import dense_config, tiny_config


@pytest.mark.parametrize(
    ("config", "has_experts"),
    [
        (tiny_config(num_hidden_layers=5), True),
        (dense_config(num_hidden_layers=5), False),
        (dense_config(tied=False), False),
    ],
    ids=["mixture of experts", "dense, tied", "dense"],
)
def test_a_geometry_becomes_a_model_that_computes(config: Any, has_experts: bool) -> None:
    loaded = random_model(config.to_dict(), "cpu")
    layers = loaded.model.model.language_model.layers
    assert len(layers) == CPU_LAYERS
    assert all(type(layer.self_attn.o_proj) is bnb.nn.Linear4bit for layer in layers)
    assert bool(fused_experts(loaded.model)) == has_experts
    tied = loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight
    assert tied == config.tie_word_embeddings
    ids = torch.tensor([loaded.tokenizer("连衣裙")["input_ids"]])
    with torch.no_grad():
        assert loaded.model(input_ids=ids).logits.isfinite().all()


def test_what_is_no_model_of_ours_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="llama"):
        random_model({"model_type": "llama"}, "cpu")
