"""`model_loader.random_model` in the two geometries that are measured, and how its tokens are routed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Literal

import torch

from model_loader.chat import SPECIAL_TOKENS
from model_loader.geometry import DEFAULT_MODEL, shipped_config
from model_loader.loader import LoadedModel, load_tokenizer
from model_loader.random_model import random_model
from model_loader.sources import GARMENTS_CHECKPOINT
from training import geometry as garments

GeometryName = Literal["30b", "small"]


def build(name: GeometryName, device: str) -> LoadedModel:
    return random_model(model_config(name), device, name=f"random-{name}")


def model_config(name: GeometryName) -> Mapping[str, Any]:
    if name == "30b":
        shipped = shipped_config(DEFAULT_MODEL)
        assert shipped is not None
        return shipped
    tokenizer = load_tokenizer(GARMENTS_CHECKPOINT)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config: Mapping[str, Any] = garments.model_config(ids, len(tokenizer)).to_dict()
    return config


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
