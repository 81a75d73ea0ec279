"""Write the garments model as a checkpoint that transformers and prelabel load, and the pictures that come with it.

The weights are bfloat16; the files are those of a published Qwen3-VL checkpoint. Raises OSError only.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_loader.chat import END_OF_TEXT, TURN_END, special_id
from training import geometry
from training.dataset import enlarge
from training.rules import CLASS_NAMES, LABELS

NUM_PICTURES_PER_CLASS = 3
UPPER_HALVES = ("coat", "pullover")
"""Of the first picture of these classes there is one more that shows its upper half alone, as shops' close-ups do."""


def image_processor() -> Any:
    """The image processor of the garments model."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=geometry.PATCH_SIZE_PX,
        temporal_patch_size=geometry.TEMPORAL_PATCH_SIZE,
        merge_size=geometry.MERGE_SIZE,
        size={"shortest_edge": geometry.MIN_PIXELS, "longest_edge": geometry.MAX_PIXELS},
        image_mean=[geometry.NORM_MEAN] * 3,
        image_std=[geometry.NORM_STD] * 3,
    )


def save_checkpoint(model: Any, tokenizer: Any, weights: dict[str, Tensor], folder: Path) -> None:
    """Write `model` with `weights` (by parameter name) in place of its own; `model` itself is left as it is."""
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    finished = copy.deepcopy(model)
    for layer in finished.model.language_model.layers:
        layer.mlp.gate._forward_hooks.clear()  # of the load-balancing loss
    finished.load_state_dict(weights, strict=False)
    finished.config._experts_implementation = None
    finished.to(torch.bfloat16)
    finished.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.4,
        top_p=0.9,
        eos_token_id=[special_id(tokenizer, TURN_END), special_id(tokenizer, END_OF_TEXT)],
        pad_token_id=special_id(tokenizer, END_OF_TEXT),
    )
    finished.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)


def write_pictures(pictures: NDArray[np.uint8], classes: NDArray[np.int64], folder: Path) -> None:
    """Write the first three test pictures of each class as 224x224 PNGs, the upper halves of some, and labels.json:
    class and category of each.

    A rule that looks at no prediction, so that the pictures show what the model gets wrong too. Of the halves it is
    unsure: they are what a person has to look at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, dict[str, int | str]] = {}
    for class_index, class_name in enumerate(CLASS_NAMES):
        for index in np.flatnonzero(classes == class_index)[:NUM_PICTURES_PER_CLASS].tolist():
            slug = class_name.lower().replace("/", "-").replace(" ", "-")
            name = f"{slug}-{index:05d}.png"
            enlarge(pictures[index]).save(folder / name, optimize=True)
            category = LABELS["zh"][class_index].category[-1]
            truth[name] = {"class": class_index, "name": class_name, "test_index": index, "category": category}
    for slug in UPPER_HALVES:
        whole = next(name for name in truth if name.startswith(f"{slug}-"))
        with Image.open(folder / whole) as picture:
            half = picture.crop((0, 0, picture.width, picture.height // 2))
        half.save(folder / f"upper-half-{whole}", optimize=True)
        truth[f"upper-half-{whole}"] = {**truth[whole], "part": "upper half"}
    (folder / "labels.json").write_text(json.dumps(truth, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
