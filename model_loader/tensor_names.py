"""Compares the tensor names and shapes of a checkpoint with those a model wants, before any weight is read.

transformers only warns about tensors that are missing (it makes up random weights) or left over, and it skips the shape
check for tensors it quantises. Uses transformers' own renaming rules; reads safetensors headers only.
Raises ModelFilesInvalid naming the tensors, or UnsupportedModel where their layout cannot be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from model_loader.checkpoint import TensorEntry, read_headers
from model_loader.errors import ModelFilesInvalid, UnsupportedModel, shorten


def check_tensor_names(model: Any, checkpoint_files: Sequence[str], *, quantizer: Any = None) -> None:
    """Raise ModelFilesInvalid unless `checkpoint_files` hold exactly the tensors of `model` (on the meta device)."""
    tensors = read_headers(Path(file) for file in checkpoint_files)
    wanted = model.state_dict()
    mapping = get_model_conversion_mapping(model, None, quantizer)
    renamings = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in mapping if isinstance(rule, WeightConverter)]
    found: set[str] = set()
    left_over: list[str] = []
    misshapen: list[str] = []
    for name, entry in tensors.items():
        target, converter = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        if (
            target not in wanted and name in wanted
        ):  # a rule of another variant of the model; transformers does the same
            target, converter = name, None
        if target not in wanted:
            left_over.append(name)
            continue
        found.add(target)
        packed = quantizer is not None and quantizer.pre_quantized
        if not _shape_matches(entry, target, tuple(wanted[target].shape), converted=bool(converter), packed=packed):
            misshapen.append(f"{name} {list(entry.shape)} instead of {list(wanted[target].shape)}")
    _refuse_ambiguous_layout(tensors, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    missing = sorted(name for name in set(wanted) - found if not _may_be_missing(model, name, found, quantizer))
    left_over = [name for name in left_over if not _matches(model._keys_to_ignore_on_load_unexpected, name)]
    report(missing=missing, left_over=left_over, misshapen=misshapen)


def report(*, missing: Sequence[str], left_over: Sequence[str], misshapen: Sequence[str] = ()) -> None:
    """Raise one ModelFilesInvalid that names what is wrong; do nothing when all three are empty."""
    problems = [
        f"{len(names)} tensors {what}: {shorten(sorted(names))}"
        for what, names in (("are missing", missing), ("are left over", left_over), ("have another shape", misshapen))
        if names
    ]
    if problems:
        raise ModelFilesInvalid(
            f"the checkpoint does not match its config.json ({'; '.join(problems)}); download it again, "
            "or use the config.json that belongs to these weights"
        )


def _refuse_ambiguous_layout(tensors: Mapping[str, TensorEntry], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """The hub stores experts as [experts, in, out], transformers wants [experts, out, in] and tells the two by shape.

    Where in == out it cannot, and would load the hub's layout untransposed: silently wrong answers.
    """
    stacks = {name: shape for name, shape in wanted.items() if len(shape) == 3 and name in tensors}
    square = sorted(name for name, shape in stacks.items() if shape[1] == shape[2])
    if square and any(tensors[name].shape != shape for name, shape in stacks.items()):
        raise UnsupportedModel(
            f"{square[0]} is square in a checkpoint of the hub's transposed layout, which transformers would not "
            "transpose; save the model with transformers' save_pretrained first"
        )


def _shape_matches(entry: TensorEntry, target: str, wanted: tuple[int, ...], *, converted: bool, packed: bool) -> bool:
    if entry.shape == wanted:
        return True
    if packed:  # the companions of a packed linear all end up in its weight: bitsandbytes checks them itself
        return converted and target.endswith(".weight")
    transposed = len(wanted) == 3 and entry.shape == (wanted[0], wanted[2], wanted[1])
    flattened = len(entry.shape) != len(wanted)  # Conv3d patch embedding -> Linear
    return converted and (transposed or flattened)


def _may_be_missing(model: Any, name: str, found: set[str], quantizer: Any) -> bool:
    if name.endswith("_absmax") and quantizer is not None and not quantizer.pre_quantized:
        return True  # made while loading; if its weight is missing, that is said
    tied = (getattr(model, "all_tied_weights_keys", None) or {}).get(name)
    return tied in found or _matches(model._keys_to_ignore_on_load_missing, name)


def _matches(patterns: Any, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns or ())
