"""What transformers is given of a checkpoint: a folder with the checked files alone, and the settings we know.

transformers lets a checkpoint's files choose code: an attention or a kernel from the hub, a quantizer, a tokenizer's
class, other weights beside the checked ones, an adapter on top. None of it is known here, so none of it gets through:
what is not listed is left out. What a model needs and is left out shows as tensors that do not fit.
Imports no torch and no transformers. Raises ModelFilesInvalid, and UnsupportedModel for weights that others packed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from model_loader.chat import IMAGE_PAD
from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME, Checkpoint, read_config, weights_id
from model_loader.errors import ModelFilesInvalid, UnsupportedModel
from model_loader.json_text import MAX_BYTES, read_object
from model_loader.preprocessor_file import read_preprocessor
from model_loader.tokenizer_file import MAX_ADDED_TOKENS, check_token_texts, check_tokenizer

TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"
PACKED_HERE = ("nf4_experts", "nf4_linears")
"""By one of these config.json says that the weights are a 4-bit copy of ours."""
PATCH_SIZES = {
    "patch_size": ("patch_size", 16),
    "merge_size": ("spatial_merge_size", 2),
    "temporal_patch_size": ("temporal_patch_size", 2),
}
"""What of an image processor is also the vision tower's: under which name, and what it is where nothing is said."""
_TOP = frozenset({
    "architectures", "model_type", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id",
    "tie_word_embeddings", *PACKED_HERE,
})  # fmt: skip
_TEXT = frozenset({
    "attention_bias", "attention_dropout", "bos_token_id", "decoder_sparse_step", "eos_token_id", "head_dim",
    "hidden_act", "hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings", "mlp_only_layers",
    "model_type", "moe_intermediate_size", "num_attention_heads", "num_experts", "num_experts_per_tok",
    "num_hidden_layers", "num_key_value_heads", "num_local_experts", "output_router_logits", "pad_token_id",
    "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "router_aux_loss_coef", "tie_word_embeddings",
    "use_cache", "vocab_size",
})  # fmt: skip
_VISION = frozenset({
    "deepstack_visual_indexes", "depth", "hidden_act", "hidden_size", "in_channels", "initializer_range",
    "intermediate_size", "model_type", "num_heads", "num_position_embeddings", "out_hidden_size", "patch_size",
    "rope_parameters", "spatial_merge_size", "temporal_patch_size",
})  # fmt: skip
_TOKENIZER = frozenset({
    "add_bos_token", "add_prefix_space", "added_tokens_decoder", "additional_special_tokens",
    "clean_up_tokenization_spaces", "errors", "extra_special_tokens", "split_special_tokens", "tokenizer_class",
})  # fmt: skip


def check_small_files(folder: Path) -> None:
    """Refuse what the files beside the weights say alone: nobody waits for weights that would come to nothing."""
    config = read_config(folder)
    packed = config.get("quantization_config")
    if packed is not None and not any(config.get(mark) for mark in PACKED_HERE):
        how = packed.get("quant_method") if isinstance(packed, Mapping) else packed
        raise UnsupportedModel(
            f"config.json says that it was quantised already ({str(how)[:40]}), and not by prelabel; give the original "
            "16-bit checkpoint, most often the same name without -FP8, -AWQ or the like"
        )
    _check_image_token(config, check_tokenizer(_checked(folder / TOKENIZER))[IMAGE_PAD])
    _tokenizer_config(folder / "tokenizer_config.json")
    sizes = read_preprocessor(_checked(folder / PREPROCESSOR))
    if isinstance(vision := config.get("vision_config"), Mapping):
        check_patches(sizes, vision)


def _check_image_token(config: Mapping[str, Any], of_tokenizer: int) -> None:
    """By this token the model finds where a picture belongs in a prompt."""
    wanted = config.get("image_token_id")
    if wanted is not None and wanted != of_tokenizer:
        raise ModelFilesInvalid(
            f"{TOKENIZER} has {IMAGE_PAD} as token {of_tokenizer}, and config.json image_token_id {str(wanted)[:40]}; "
            "use the tokenizer that belongs to this model"
        )


def check_patches(sizes: Mapping[str, Any], vision: Mapping[str, Any]) -> None:
    """A picture is made as many pixels large as its patches need: `sizes`, of those PATCH_SIZES that are known, are
    those of the vision tower, or no model's."""
    for name, (of_tower, usual) in PATCH_SIZES.items():
        wanted = usual if vision.get(of_tower) is None else vision[of_tower]
        if name in sizes and sizes[name] != wanted:
            raise ModelFilesInvalid(
                f"{PREPROCESSOR} has {name} {str(sizes[name])[:40]} and config.json {of_tower} {wanted}; use the file "
                "that belongs to this model"
            )


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config`, a parsed config.json, says of the model's shape, and which modules its 4-bit copy leaves in 16."""
    clean = _only(config, _TOP)
    clean["text_config"] = _only(config.get("text_config"), _TEXT)
    clean["vision_config"] = _only(config.get("vision_config"), _VISION)
    if quantised := config.get("quantization_config"):
        kept_16_bit = quantised.get("llm_int8_skip_modules") if isinstance(quantised, Mapping) else None
        clean["quantization_config"] = {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "llm_int8_skip_modules": [str(name) for name in kept_16_bit or ()],
        }
    return clean


@contextlib.contextmanager
def clean_folder(checkpoint: Checkpoint) -> Iterator[Path]:
    """A folder for the length of the block: links to the weights and tokenizer.json, and our own tokenizer_config.json
    and preprocessor_config.json. There is no config.json: `clean_config` goes in by hand."""
    tokenizer = _checked(checkpoint.folder / TOKENIZER)
    check_tokenizer(tokenizer)
    ours = _settings(checkpoint.folder)
    index = [checkpoint.folder / INDEX_NAME] if [shard.name for shard in checkpoint.shards] != [SINGLE_NAME] else []
    with tempfile.TemporaryDirectory(prefix="prelabel-model-") as place:
        folder = Path(place)
        for file in (*checkpoint.shards, *index, tokenizer):
            (folder / file.name).symlink_to(file.resolve())
        for name, content in ours.items():
            (folder / name).write_text(json.dumps(content), "utf-8")
        yield folder


def checkpoint_id(checkpoint: Checkpoint) -> str:
    """Return 8 hex digits that tell what is loaded of a checkpoint from anything else, wherever the files lie: weights,
    as `weights_id` has them, tokenizer, and the settings that are known here. Which modules a copy has packed is no
    matter: it goes by the digits of its original."""
    settings = clean_config({**checkpoint.config, "quantization_config": None}), _settings(checkpoint.folder)
    digest = hashlib.sha256(weights_id(checkpoint.shards).encode())
    digest.update(_checked(checkpoint.folder / TOKENIZER).read_bytes())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:8]


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Ours, by file, of the tokenizer and of pictures."""
    return {
        "tokenizer_config.json": _tokenizer_config(folder / "tokenizer_config.json"),
        PREPROCESSOR: read_preprocessor(_checked(folder / PREPROCESSOR)),
    }


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise ModelFilesInvalid(f"{file.parent} has no {file.name}; use a checkpoint that has it, and is whole")
    if file.stat().st_size > MAX_BYTES:
        raise ModelFilesInvalid(f"{file.name} is larger than {MAX_BYTES // 2**20} MiB, which no such file is")
    return file


def _tokenizer_config(file: Path) -> dict[str, Any]:
    config = read_object(file) if file.is_file() else {}
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    lists = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
    for name, given in [("it", named), *((name, config.get(name)) for name in lists)]:
        if isinstance(given, list | dict) and len(given) > MAX_ADDED_TOKENS:
            raise ModelFilesInvalid(
                f"{file.name}: {name} has more than {MAX_ADDED_TOKENS:,} tokens, which no model has"
            )
    kept = named | _only(config, _TOKENIZER)
    check_token_texts(file, _texts(kept))
    return kept


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, and every name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        yield from value if isinstance(value, dict) else ()
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _only(values: Any, known: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in known} if isinstance(values, Mapping) else {}
