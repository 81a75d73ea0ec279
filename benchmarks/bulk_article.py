"""The seed article's way: four threads, each calling `generate()` for one picture after the other, free output, parsed.

The same weights, pictures, instruction and sampling as the command has, but no grammar: the model writes what it
likes, a regular expression and `json.loads` find the object in it. The weights are the unpacked ones that the engine
uses on a CPU; packed ones, as transformers has them, take longer. Needs a model that no `Runner` was made for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.pictures import to_patches
from backend.engine.prompts import PromptEncoder
from label_config.prompt import PromptOptions, build_instruction
from label_config.schema import LabelSchema
from model_loader.loader import LoadedModel

NUM_THREADS = 4
CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class FreeRun:
    """`texts` are what the model wrote, in the order of the pictures."""

    seconds: float
    texts: tuple[str, ...]

    @property
    def images_per_s(self) -> float:
        return len(self.texts) / self.seconds


class FreeOutput:
    """`generate()` as its manual shows it. May be called by several threads at once: what it keeps on the model between
    two calls (`rope_deltas`) is the same for pictures of one size under one instruction, as they are here."""

    def __init__(self, loaded: LoadedModel, schema: LabelSchema, image_tokens: int, sampling: Sampling) -> None:
        self._loaded, self._schema, self._sampling = loaded, schema, sampling
        self._instruction = build_instruction(schema, PromptOptions())
        self._prompts = PromptEncoder(
            loaded.tokenizer, loaded.image_processor, image_tokens=image_tokens, context_tokens=CONTEXT_TOKENS
        )
        self._encoding = threading.Lock()  # tokenizers are not shared

    @torch.inference_mode()
    def __call__(self, path: Path) -> str:
        loaded, sampling = self._loaded, self._sampling
        with Image.open(path) as file:
            image = file.convert("RGB")
        picture = Picture(image.width, image.height, image.tobytes())
        request = Submit(request_id=0, schema=self._schema, instruction=self._instruction, picture=picture)
        with self._encoding:
            prompt = self._prompts.encode(request)
        merge = loaded.image_processor.merge_size
        input_ids = torch.tensor([[*prompt.prefix_ids, *prompt.suffix_ids]], device=loaded.device)
        sampled = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        output = loaded.model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            pixel_values=to_patches(picture, prompt.grid, loaded.image_processor, loaded.dtype).to(loaded.device),
            image_grid_thw=torch.tensor(
                [[1, prompt.grid.rows * merge, prompt.grid.columns * merge]], device=loaded.device
            ),
            mm_token_type_ids=(input_ids == loaded.model.config.image_token_id).int(),
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=loaded.tokenizer.eos_token_id,
            pad_token_id=loaded.tokenizer.pad_token_id,
            **(sampled if sampling.temperature else {"do_sample": False}),
        )
        return str(loaded.tokenizer.decode(output[0, input_ids.shape[1] :], skip_special_tokens=True))


def run(free: FreeOutput, pictures: Sequence[Path]) -> FreeRun:
    """After one picture that warms it up."""
    free(pictures[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        texts = tuple(pool.map(free, pictures))
    return FreeRun(time.perf_counter() - began, texts)


def same_in_threads(loaded: LoadedModel, schema: LabelSchema, image_tokens: int, pictures: Sequence[Path]) -> int:
    """How many pictures have the same greedy answer in four threads as in one."""
    greedy = FreeOutput(loaded, schema, image_tokens, Sampling(temperature=0.0))
    return sum(a == b for a, b in zip(map(greedy, pictures), run(greedy, pictures).texts, strict=True))
