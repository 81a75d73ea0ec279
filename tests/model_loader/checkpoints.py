"""Writes small checkpoints: a random Qwen3-VL of either kind, experts in both layouts; tokenizer, image processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLMoeConfig

from model_loader.chat import SPECIAL_TOKENS
from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME
from model_loader.geometry import ARCHITECTURES

KINDS = ("mixture of experts", "dense")
both_kinds = pytest.mark.parametrize("folder", KINDS, indirect=True)
dense_only = pytest.mark.parametrize("folder", KINDS[1:], indirect=True)
"""Which kind of model the fixture `folder` holds; without them a mixture-of-experts."""

UNREADABLE = Path("/proc/self/mem")
"""A file that is there, and gives an input/output error to who reads it, as one of a disk that fails."""
NUM_PLAIN = 495
"""Tokens of the tokenizer before SPECIAL_TOKENS."""
VISION_START, VISION_END, IMAGE_TOKEN, VIDEO_TOKEN = 498, 499, 500, 501
PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "patch_size": 8,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 256, "longest_edge": 4096},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def tiny_config(*, hidden: int = 192, inner: int = 128, num_experts: int = 7, **text: Any) -> Qwen3VLMoeConfig:
    """A config with odd numbers of experts and no square expert weight, unless asked."""
    experts = {"moe_intermediate_size": inner, "num_experts": num_experts, "num_experts_per_tok": 2}
    return Qwen3VLMoeConfig(**_sections(hidden, **(experts | text)), tie_word_embeddings=False)


def dense_config(*, tied: bool = True, **text: Any) -> Qwen3VLConfig:
    """A config without experts. `tied`: one matrix is embedding and head, as in the published 2B and 4B."""
    return Qwen3VLConfig(**_sections(192, **text), tie_word_embeddings=tied)


def _sections(hidden: int, **text: Any) -> dict[str, Any]:
    """What both kinds say alike, with further sizes of the text section."""
    return {
        "text_config": {
            "vocab_size": 512,
            "hidden_size": hidden,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 5, 5]},
            **text,
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
            "patch_size": 8,
        },
        "image_token_id": IMAGE_TOKEN,
        "video_token_id": VIDEO_TOKEN,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
    }


def tiny_model(config: Any = None, *, seed: int = 0) -> Any:
    """A model of either kind with random weights, by default a mixture-of-experts."""
    config = config or tiny_config()
    torch.manual_seed(seed)
    return getattr(transformers, ARCHITECTURES[config.model_type])(config).eval()


def write_checkpoint(folder: Path, model: Any = None, *, hub_layout: bool = False, shards: int = 1) -> Path:
    """Write a whole checkpoint folder in bfloat16. `hub_layout`: experts as [experts, in, out], as the hub has them."""
    model = model or tiny_model()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]  # as on the hub
    if hub_layout:
        tensors = {n: v.transpose(1, 2).contiguous() if ".mlp.experts." in n else v for n, v in tensors.items()}
    write_shards(folder, tensors, shards)
    config = model.config.to_dict() | {"dtype": "bfloat16", "architectures": [type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(config, default=str), "utf-8")
    write_small_files(folder)
    return folder


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / SINGLE_NAME, metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[index::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")


def write_small_files(folder: Path) -> None:
    """A byte-level tokenizer that merges nothing, and the image processor's numbers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [*alphabet, *(f"unused{n}" for n in range(len(alphabet), NUM_PLAIN))]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR), "utf-8")


def rewrite_tensors(folder: Path, change: Any) -> None:
    """Apply `change(tensors)` (it returns the new dict) to a single-file checkpoint."""
    tensors = load_file(folder / SINGLE_NAME)
    save_file(change({name: value.clone() for name, value in tensors.items()}), folder / SINGLE_NAME)


def rewrite_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")


def image_inputs(batch: int = 1, *, seed: int = 1) -> dict[str, torch.Tensor]:
    """Token ids with one 8x8-patch picture (16 merged tokens) in the middle."""
    random = torch.Generator().manual_seed(seed)
    before = torch.randint(0, 400, (batch, 5), generator=random)
    after = torch.randint(0, 400, (batch, 3), generator=random)
    picture = torch.tensor([[VISION_START, *[IMAGE_TOKEN] * 16, VISION_END]]).expand(batch, -1)
    ids = torch.cat([before, picture, after], dim=1)
    return {
        "input_ids": ids,
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
        "pixel_values": torch.randn(64 * batch, 3 * 2 * 8 * 8, generator=random),
        "image_grid_thw": torch.tensor([[1, 8, 8]] * batch),
    }
