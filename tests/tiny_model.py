"""A random Qwen3-VL of the smallest legal size, with experts or dense: it prefers nonsense, so only the grammar helps.

Random weights reach corners that a trained model never shows. float32, so that batched and single runs agree.
"""

import functools
from typing import Any

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model_loader.clean import clean_config
from model_loader.loader import LoadedModel
from training import geometry
from training.vocabulary import padded_vocabulary, train_tokenizer

CORPUS = [
    "夏季连衣裙，适合户外与通勤。",
    "a plain cotton shirt for summer",
    '{"category":["服饰","上装"],"style":"简约"}',
] * 3


def tiny_model(seed: int = 0, role: str = "engine", *, dense: bool = False) -> LoadedModel:
    """Return a model with random weights, spread wide enough that its choices differ from token to token.

    A runner switches its model's attention: whoever needs transformers' own asks for another `role`, a second copy.
    """
    return _made(seed, role, dense)


@functools.cache
def _made(seed: int, role: str, dense: bool) -> LoadedModel:
    torch.manual_seed(seed)
    tokenizer: Any = train_tokenizer(CORPUS)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (*names, "<|video_pad|>")}
    config = geometry.model_config(ids, padded_vocabulary(tokenizer))
    config.text_config.num_hidden_layers = 2
    model: Any = Qwen3VLMoeForConditionalGeneration(config)
    if dense:
        model = Qwen3VLForConditionalGeneration(_dense(config))
    model.float().eval().requires_grad_(False)
    model.lm_head.weight.normal_(0, 0.3)
    model.model.language_model.embed_tokens.weight.normal_(0, 0.5)
    processor = Qwen2VLImageProcessorPil(
        patch_size=geometry.PATCH_SIZE_PX,
        merge_size=geometry.MERGE_SIZE,
        temporal_patch_size=geometry.TEMPORAL_PATCH_SIZE,
        size={"shortest_edge": geometry.MIN_PIXELS, "longest_edge": geometry.MAX_PIXELS},
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        image_processor=processor,
        name="tiny",
        quantisation="none",
        device="cpu",
        dtype=torch.float32,
        load_s=0.0,
    )


def _dense(config: Any) -> Qwen3VLConfig:
    """The sizes of `config` without its experts, and as the published 2B and 4B with one matrix for embedding and
    head."""
    values = clean_config(config.to_dict())
    text = {name: value for name, value in values["text_config"].items() if "expert" not in name}
    types = {"text_config": "qwen3_vl_text", "vision_config": "qwen3_vl_vision"}
    sections = {name: (values | {"text_config": text})[name] | {"model_type": type_} for name, type_ in types.items()}
    kept = {name: value for name, value in values.items() if name.endswith("token_id")}
    return Qwen3VLConfig(**sections, **kept, tie_word_embeddings=True)
