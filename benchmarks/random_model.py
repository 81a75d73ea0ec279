"""Qwen3-VL-30B-A3B with random 4-bit weights, made on the device in seconds: for measuring speed where nothing can be
downloaded. `build("30b", "cuda")` has every shape, format and kernel of the real model after `load_model`.

What random weights change: nothing in the number of bytes read or products made, except that the routing is not the
trained one (`experts_hit` measures what it is). What the tokenizer changes: it is the built-in garments one, 2,304
tokens of the 151,936 that the head has, so grammar masks have the real width but fewer tokens to look at, and cost
less CPU time than Qwen's; prompts are made as long as wanted. Answers mean nothing.
16-bit experts are held one projection of one layer at a time. Raises torch.OutOfMemoryError.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, Literal

import bitsandbytes as bnb
import torch
from torch import nn
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import model_loader
from model_loader import experts
from model_loader.chat import SPECIAL_TOKENS
from model_loader.experts import EXPERTS_IMPLEMENTATION, quantizer
from model_loader.experts.reference import BLOCK_SIZE
from model_loader.geometry import DEFAULT_MODEL, shipped_config
from model_loader.loader import LoadedModel, load_tokenizer
from model_loader.norms import use_fused_norms
from model_loader.patch_embed import use_linear_patch_embedding
from training import geometry as garments

GeometryName = Literal["30b", "small"]

WEIGHT_STD = 0.02
EMBEDDING_STD = 1.0  # large, so that tokens stay different and are routed apart through all layers
PIXELS_30B = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
PIXELS_SMALL = {"shortest_edge": 64, "longest_edge": 65_536}


def build(name: GeometryName, device: str) -> LoadedModel:
    """Return the model as `load_model` would: NF4 experts and attention, the rest in bfloat16 (float32 on a CPU).

    The weights are the same each time on one device.
    """
    started = time.perf_counter()
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    tokenizer = load_tokenizer(Path(model_loader.__file__).parent / "garments" / "checkpoint")
    config = model_config(name, tokenizer)
    with torch.device("meta"):
        model = Qwen3VLMoeForConditionalGeneration(config)
    torch.manual_seed(0)
    fill(model, device, dtype)
    use_linear_patch_embedding(model)
    use_fused_norms(model)
    processor = Qwen2VLImageProcessorPil(
        patch_size=config.vision_config.patch_size,
        merge_size=config.vision_config.spatial_merge_size,
        temporal_patch_size=config.vision_config.temporal_patch_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size=PIXELS_30B if name == "30b" else PIXELS_SMALL,
    )
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    load_s = time.perf_counter() - started
    return LoadedModel(
        model.eval().requires_grad_(False), tokenizer, processor, f"random-{name}", "nf4", device, dtype, load_s
    )


def model_config(name: GeometryName, tokenizer: Any) -> Any:
    """Return the config of a geometry, with the ids that `tokenizer` gives Qwen's special tokens."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    if name == "small":
        config = garments.model_config(ids, len(tokenizer))
        config.text_config.num_hidden_layers = 2
        return config
    shipped = shipped_config(DEFAULT_MODEL)
    assert shipped is not None
    return Qwen3VLMoeConfig(
        **shipped
        | {
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }
    )


@torch.no_grad()
def fill(model: Any, device: str, dtype: torch.dtype) -> None:
    """Give every module of `model`, which lies on the meta device, its tensors on `device`: norms 1, biases 0, the rest
    normal, packed where `load_model` packs."""
    experts.register()
    for module in quantizer.fused_experts(model).values():
        for projection in quantizer.PROJECTIONS:
            codes, absmax = quantizer.pack_experts(
                _normal(getattr(module, projection).shape, WEIGHT_STD, device, dtype)
            )
            setattr(module, projection, nn.Parameter(codes, requires_grad=False))
            module.register_parameter(projection + "_absmax", nn.Parameter(absmax, requires_grad=False))
    for module in list(model.model.language_model.modules()):
        for child_name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, child_name, _random_linear(child, device, dtype))
    embeddings = model.get_input_embeddings()
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = _normal(parameter.shape, EMBEDDING_STD if module is embeddings else WEIGHT_STD, device, dtype)
                if parameter.ndim == 1 and "Norm" in type(module).__name__:
                    value.fill_(float(name != "bias"))
                setattr(module, name, nn.Parameter(value, requires_grad=False))
        if hasattr(module, "original_inv_freq"):  # rotary frequencies are computed, not random
            for name, buffer in type(module)(module.config).named_buffers():
                setattr(module, name, nn.Buffer(buffer.to(device), persistent=False))
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    assert not left, f"still on the meta device: {left}"
    model.config.dtype = dtype
    model.set_experts_implementation(EXPERTS_IMPLEMENTATION)


def _random_linear(linear: nn.Linear, device: str, dtype: torch.dtype) -> Any:
    """Return what bitsandbytes makes of a linear: NF4 in blocks of 64, float32 absmax, not nested."""
    columns, rows, has_bias = linear.in_features, linear.out_features, linear.bias is not None
    with torch.device("meta"):
        packed: Any = bnb.nn.Linear4bit(columns, rows, has_bias, compute_dtype=dtype, quant_type="nf4")
    packed.weight = bnb.nn.Params4bit(
        _normal(linear.weight.shape, WEIGHT_STD, device, dtype),
        requires_grad=False,
        blocksize=BLOCK_SIZE,
        compress_statistics=False,
        quant_type="nf4",
        module=packed,
    ).to(device)  # packs it
    packed.support_avx512bf16_for_cpu = False  # as `quantizer` does: no repacking on a CPU
    return packed


def _normal(shape: torch.Size, std: float, device: str, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, std)


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
