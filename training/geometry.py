"""The geometry of the embedded garments model: a Qwen3-VL mixture-of-experts of a few MB.

Every part of the 30B model is there: 8 experts of which 2 answer, DeepStack, interleaved mRoPE, merged 2x2
patches. The input width of every weight that NF4 packs is a multiple of 64 (one absmax block).
A square picture becomes 32x32 px = 8x8 patches = 16 image tokens; other shapes get other grids of at most 20.
"""

from __future__ import annotations

from typing import Any

PATCH_SIZE_PX = 4
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
MIN_PIXELS = 1024
MAX_PIXELS = 1280  # 32x32 fits and 40x32 too; one more row of tokens would not
SQUARE_SIDE_PX = 32
NORM_MEAN = 0.5
NORM_STD = 0.5

HIDDEN_SIZE = 128
NUM_EXPERTS = 8
NUM_EXPERTS_PER_TOKEN = 2


def model_config(token_ids: dict[str, int], vocab_size: int) -> Any:
    """Return the `Qwen3VLMoeConfig`. `token_ids` maps Qwen's special tokens to ids of the garments tokenizer."""
    from transformers import Qwen3VLMoeConfig

    return Qwen3VLMoeConfig(
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": HIDDEN_SIZE,
            "intermediate_size": 128,
            "moe_intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "tie_word_embeddings": False,
            "num_experts": NUM_EXPERTS,
            "num_experts_per_tok": NUM_EXPERTS_PER_TOKEN,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]},
            "bos_token_id": token_ids["<|endoftext|>"],
            "eos_token_id": token_ids["<|im_end|>"],
            "pad_token_id": token_ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 4,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 3,
            "out_hidden_size": HIDDEN_SIZE,
            "deepstack_visual_indexes": [0, 1, 2],
            "num_position_embeddings": 64,
            "patch_size": PATCH_SIZE_PX,
            "spatial_merge_size": MERGE_SIZE,
            "temporal_patch_size": TEMPORAL_PATCH_SIZE,
        },
        image_token_id=token_ids["<|image_pad|>"],
        video_token_id=token_ids["<|video_pad|>"],
        vision_start_token_id=token_ids["<|vision_start|>"],
        vision_end_token_id=token_ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
