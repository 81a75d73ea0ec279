"""A model of any geometry with random 4-bit weights, made on the device in seconds: nothing is downloaded.

It has every shape, format and kernel of the real model after `load_model`; so a start can be tried, and its speed
measured, before 62 GB are fetched. What random weights change: nothing in the number of bytes read or products made,
except that the routing is not the trained one. The tokenizer is the built-in model's, 2,304 tokens of the 151,936 that
the real head has, so grammar masks have the real width but fewer tokens to look at. Answers mean nothing.
16-bit experts are held one projection of one layer at a time. Raises UnsupportedModel, torch.OutOfMemoryError.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import bitsandbytes as bnb
import torch
import transformers
from torch import nn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model_loader import experts
from model_loader.chat import SPECIAL_TOKENS
from model_loader.clean import clean_config
from model_loader.experts import EXPERTS_IMPLEMENTATION, quantizer
from model_loader.experts.reference import BLOCK_SIZE
from model_loader.geometry import ARCHITECTURES, geometry_from_config
from model_loader.loader import LoadedModel, load_tokenizer
from model_loader.norms import use_fused_norms
from model_loader.patch_embed import use_linear_patch_embedding
from model_loader.sources import GARMENTS_CHECKPOINT

WEIGHT_STD = 0.02
EMBEDDING_STD = 1.0  # large, so that tokens stay different and are routed apart through all layers
CPU_LAYERS = 2
"""Of the language model, where there is no card: more would take minutes, and show nothing else."""
PIXELS_A_TOKEN = {"shortest_edge": 4, "longest_edge": 16_384}
"""Least and most of a picture, in pixels of a token (its side squared)."""


def random_model(config: Mapping[str, Any], device: str, *, name: str = "random") -> LoadedModel:
    """Return a model of the geometry of `config` (a config.json) as `load_model` would: NF4 experts and attention, the
    rest in bfloat16; on a CPU in float32, with CPU_LAYERS layers at most. The weights are the same each time on one
    device."""
    started = time.perf_counter()
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    tokenizer = load_tokenizer(GARMENTS_CHECKPOINT)
    own = config_of(config, tokenizer, device)
    with torch.device("meta"):
        model: Any = model_class(config)(own)
    torch.manual_seed(0)
    fill(model, device, dtype)
    use_linear_patch_embedding(model)
    use_fused_norms(model)
    vision = own.vision_config
    token_px = (vision.patch_size * vision.spatial_merge_size) ** 2
    processor = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={edge: tokens * token_px for edge, tokens in PIXELS_A_TOKEN.items()},
    )
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    load_s = time.perf_counter() - started
    return LoadedModel(model.eval().requires_grad_(False), tokenizer, processor, name, "nf4", device, dtype, load_s)


def config_of(config: Mapping[str, Any], tokenizer: Any, device: str) -> Any:
    """Return what `config`, a config.json, is to `random_model`: with the ids that `tokenizer` gives special tokens."""
    own = model_class(config).config_class.from_dict(clean_config({**config, "quantization_config": None}))
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    own.image_token_id, own.video_token_id = ids["<|image_pad|>"], ids["<|video_pad|>"]
    own.vision_start_token_id, own.vision_end_token_id = ids["<|vision_start|>"], ids["<|vision_end|>"]
    own.text_config.vocab_size = max(own.text_config.vocab_size, len(tokenizer))
    if not device.startswith("cuda"):
        own.text_config.num_hidden_layers = min(CPU_LAYERS, own.text_config.num_hidden_layers)
    return own


def model_class(config: Mapping[str, Any]) -> Any:
    """transformers' class of what `config`, a config.json, describes."""
    geometry_from_config(config)  # refuses what is none of ours
    return getattr(transformers, ARCHITECTURES[config["model_type"]])


@torch.no_grad()
def fill(model: Any, device: str, dtype: torch.dtype) -> None:
    """Give every module of `model`, which lies on the meta device, its tensors on `device`: norms 1, biases 0, the rest
    normal, packed where `load_model` packs."""
    experts.register()
    packed = quantizer.fused_experts(model)
    for module in packed.values():
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
    model.tie_weights()
    if packed:
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
