"""`model_loader.random_model` in the geometries that are measured, and how its tokens are routed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch

from model_loader.chat import SPECIAL_TOKENS
from model_loader.geometry import shipped_config
from model_loader.loader import LoadedModel, load_tokenizer
from model_loader.random_model import random_model
from model_loader.sources import GARMENTS_CHECKPOINT
from training import geometry as garments

SMALL, SMALL_DENSE = "small", "small-dense"
_OF_EXPERTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step", "mlp_only_layers")


def build(name: str, device: str) -> LoadedModel:
    """`name`: SMALL, SMALL_DENSE or a model of docs/cards.md."""
    return random_model(model_config(name), device, name=f"random-{name.rpartition('/')[2]}")


def small_of(model: str) -> str:
    """The small geometry of the same kind as `model`."""
    return SMALL_DENSE if model_config(model)["model_type"] == "qwen3_vl" else SMALL


def model_config(name: str) -> Mapping[str, Any]:
    if name not in (SMALL, SMALL_DENSE):
        shipped = shipped_config(name)
        assert shipped is not None
        return shipped
    tokenizer = load_tokenizer(GARMENTS_CHECKPOINT)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config: Mapping[str, Any] = garments.model_config(ids, len(tokenizer)).to_dict()
    if name == SMALL:
        return config
    text = {key: value for key, value in config["text_config"].items() if key not in (*_OF_EXPERTS, "model_type")}
    vision = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    return {**config, "model_type": "qwen3_vl", "architectures": None, "text_config": text, "vision_config": vision}


@torch.inference_mode()
def experts_hit(loaded: LoadedModel, num_rows: int, length: int = 8) -> float:
    """Return the mean share of a layer's experts that `num_rows` tokens of different random texts are routed to.

    For a model that no `Runner` was made for: a runner switches its attention.
    """
    shares: list[float] = []

    def count(module: Any, args: Any, output: tuple[torch.Tensor, ...]) -> None:
        last = output[2].view(num_rows, length, -1)[:, -1]
        shares.append(int(torch.bincount(last.flatten()).count_nonzero()) / module.num_experts)

    language_model = loaded.model.model.language_model
    gates = [module for name, module in language_model.named_modules() if name.endswith(".mlp.gate")]
    hooks = [gate.register_forward_hook(count) for gate in gates]
    try:
        ids = torch.randint(0, len(loaded.tokenizer), (num_rows, length), device=loaded.device)
        language_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return statistics.mean(shares)
