"""How many parameters each part of a Qwen3-VL has, mixture-of-experts or dense, from its config.json alone; and the
models whose config.json comes with the package.

Knows the module shapes of transformers' `qwen3_vl_moe` and `qwen3_vl` (a test compares every count with the real
classes on the meta device). Reads no weights and imports no torch. A config of another model type, or one without the
numbers needed, raises UnsupportedModel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from model_loader.errors import UnsupportedModel

ARCHITECTURES = {
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
"""The model types that are loaded, and transformers' class for each."""
DEFAULT_MODEL = "Qwen/Qwen3-VL-30B-A3B-Instruct"
COMMITS = {
    DEFAULT_MODEL: "9c4b90e1e4ba969fd3b5378b57d966d725f1b86c",
    "Qwen/Qwen3-VL-32B-Instruct": "0cfaf48183f594c314753d30a4c4974bc75f3ccb",
    "Qwen/Qwen3-VL-8B-Instruct": "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    "Qwen/Qwen3-VL-4B-Instruct": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "Qwen/Qwen3-VL-2B-Instruct": "89644892e4d85e24eaac8bacfd4f463576704203",
}
"""The models that were chosen, best first, each at its commit on the Hugging Face hub, whatever is put there later.
`auto` takes the first that fits."""
_SHIPPED = {
    **{model.lower(): model.split("/")[1].lower().removesuffix("-instruct") + ".json" for model in COMMITS},
    "qwen/qwen3-vl-30b-a3b-thinking": "qwen3-vl-30b-a3b.json",
}
_LARGEST = {"num_hidden_layers": 512, "depth": 512}
_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
_TEXT_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_LARGEST_OF_OTHERS = 2**20
"""Beyond these no model is one: what is computed and built for each layer would take for ever, and all memory."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Parameter counts by part, and the sizes the memory plan needs.

    `vision_linears` are the weights of the vision tower's linear layers: the part of `vision` that a naive
    `load_in_4bit` would pack. A dense model has no experts: all that speaks of them is 0. `dense_mlp` and
    `intermediate_size` are 0 where every layer has experts.
    """

    experts: int
    attention: int
    embeddings: int
    head: int
    vision: int
    vision_linears: int
    dense_mlp: int
    router_and_norms: int
    num_layers: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_token: int
    vocab_size: int
    vision_hidden_size: int
    vision_intermediate_size: int
    patches_per_image_token: int

    @property
    def total(self) -> int:
        parts = (self.experts, self.attention, self.embeddings, self.head)
        return sum(parts) + self.vision + self.dense_mlp + self.router_and_norms


def geometry_from_config(config: Mapping[str, Any]) -> Geometry:
    """Count the parameters of the model that `config` (a parsed config.json) describes.

    Raises:
        UnsupportedModel: the model type is another one, or a number is missing or no positive whole number.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise UnsupportedModel(
            f"config.json says model_type {repr(model_type)[:80]}; prelabel loads Qwen3-VL models only "
            f"({', '.join(ARCHITECTURES)})"
        )
    text, vision = _Numbers(config, "text_config"), _Numbers(config, "vision_config")
    _check_tokens(config, text)
    _check_positions(text)
    tied = bool(config.get("tie_word_embeddings", False))
    return Geometry(**_text_part(text, tied=tied, is_dense=model_type == "qwen3_vl"), **_vision_part(vision))


def shipped_config(model: str) -> dict[str, Any] | None:
    """Return the config.json numbers that come with the package for a known hub id, or None."""
    name = _SHIPPED.get(model.lower())
    if name is None:
        return None
    text = files("model_loader").joinpath("geometries", name).read_text("utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


class _Numbers:
    """The numbers of one section of config.json, each checked when it is read."""

    def __init__(self, config: Mapping[str, Any], section: str) -> None:
        values = config.get(section)
        if not isinstance(values, Mapping):
            raise UnsupportedModel(f"config.json has no {section}; the folder does not hold a whole model")
        self.section, self.values = section, values

    def __getitem__(self, name: str) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            shown = repr(value)[:40]
            raise UnsupportedModel(f"config.json: {self.section}.{name} must be a positive whole number, got {shown}")
        if value > (largest := _LARGEST.get(name, _LARGEST_OF_OTHERS)):
            shown = f"{value:,}"[:40]
            raise UnsupportedModel(f"config.json: {self.section}.{name} is {shown}; no model has more than {largest:,}")
        return value

    def either(self, name: str, default: int) -> int:
        return default if self.values.get(name) is None else self[name]

    def layers(self, name: str, num_layers: int) -> list[int]:
        """The numbers of some of the layers, [] by default."""
        value = self.values.get(name) or []
        if not isinstance(value, list) or len(value) > num_layers or not all(isinstance(one, int) for one in value):
            raise UnsupportedModel(f"config.json: {self.section}.{name} must list some of the {num_layers} layers")
        return value


def _check_tokens(config: Mapping[str, Any], text: _Numbers) -> None:
    """Those that are named are in the vocabulary: else each picture fails, for a reason that tells nobody of it."""
    vocab = text["vocab_size"]
    named = [(name, config.get(name)) for name in _TOKENS]
    named += [(f"text_config.{name}", text.values.get(name)) for name in _TEXT_TOKENS]
    for name, value in named:
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not (type(one) is int and 0 <= one < vocab):
                raise UnsupportedModel(
                    f"config.json: {name} must be a token of the vocabulary of {vocab:,}, got {repr(one)[:40]}"
                )


def _check_positions(text: _Numbers) -> None:
    """A head's positions are divided among time, height and width: a wrong division is no error, but wrong answers."""
    half = text["head_dim"] // 2
    for name in ("rope_scaling", "rope_parameters"):
        values = text.values.get(name)
        section = values.get("mrope_section") if isinstance(values, Mapping) else None
        if section is not None and not (
            isinstance(section, list)
            and len(section) == 3
            and all(type(one) is int and one > 0 for one in section)
            and sum(section) == half
        ):
            raise UnsupportedModel(
                f"config.json: {name}.mrope_section must be three numbers that are {half} together, got "
                f"{repr(section)[:40]}"
            )


def _text_part(text: _Numbers, *, tied: bool, is_dense: bool) -> dict[str, int]:
    hidden, layers, heads = text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"]
    # named, as they are in every published model: where they are not, transformers' classes differ in what they take
    kv_heads, head_dim, vocab = text["num_key_value_heads"], text["head_dim"], text["vocab_size"]
    sparse = num_experts = inner = top_k = 0
    if not is_dense:
        written_by_transformers = "num_local_experts" in text.values  # its save_pretrained renames num_experts
        num_experts = text["num_local_experts" if written_by_transformers else "num_experts"]
        inner, top_k = text["moe_intermediate_size"], text["num_experts_per_tok"]
        if top_k > num_experts:
            raise UnsupportedModel(
                f"config.json: {text.section}.num_experts_per_tok is {top_k:,}, of {num_experts:,} experts"
            )
        sparse = _num_sparse_layers(text, layers)
    wide = text["intermediate_size"] if sparse < layers else 0
    query, key_value = heads * head_dim, kv_heads * head_dim
    bias = query + 2 * key_value + hidden if text.values.get("attention_bias") else 0
    norms = 2 * hidden + 2 * head_dim
    return {
        "experts": sparse * num_experts * 3 * hidden * inner,
        "attention": layers * (2 * hidden * query + 2 * hidden * key_value + bias),
        "embeddings": vocab * hidden,
        "head": 0 if tied else vocab * hidden,
        "dense_mlp": (layers - sparse) * 3 * hidden * wide,
        "router_and_norms": sparse * num_experts * hidden + layers * norms + hidden,
        "num_layers": layers,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "moe_intermediate_size": inner,
        "num_experts": num_experts,
        "num_experts_per_token": top_k,
        "vocab_size": vocab,
    }


def _num_sparse_layers(text: _Numbers, layers: int) -> int:
    """Layers that have experts; the rule of `Qwen3VLMoeTextDecoderLayer`."""
    step, dense = text.either("decoder_sparse_step", 1), text.layers("mlp_only_layers", layers)
    return sum(1 for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)


def _vision_part(vision: _Numbers) -> dict[str, int]:
    hidden, inner, depth = vision["hidden_size"], vision["intermediate_size"], vision["depth"]
    merge, patch = vision.either("spatial_merge_size", 2), vision.either("patch_size", 16)
    if hidden % (heads := vision["num_heads"]):
        raise UnsupportedModel(
            f"config.json: {vision.section}.num_heads is {heads:,}, which does not divide {hidden:,}"
        )
    merged, out = hidden * merge**2, vision["out_hidden_size"]
    deepstack = len(vision.layers("deepstack_visual_indexes", depth))
    patch_volume = vision.either("in_channels", 3) * vision.either("temporal_patch_size", 2) * patch**2
    block_linears = 4 * hidden * hidden + 2 * hidden * inner
    block_rest = 4 * hidden + 4 * hidden + inner + hidden  # two norms, then the biases of qkv+proj and of the MLP
    merger_linears, merger_bias = merged * merged + merged * out, merged + out
    linears = depth * block_linears + (1 + deepstack) * merger_linears
    norms = 2 * hidden + deepstack * 2 * merged  # the DeepStack mergers normalise after joining the patches
    patches = patch_volume * hidden + hidden + vision["num_position_embeddings"] * hidden
    return {
        "vision": linears + depth * block_rest + (1 + deepstack) * merger_bias + norms + patches,
        "vision_linears": linears,
        "vision_hidden_size": hidden,
        "vision_intermediate_size": inner,
        "patches_per_image_token": merge**2,
    }
