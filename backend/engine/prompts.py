"""The prompt of one request as token ids, positions and lengths, before its picture has been looked at.

Text before the image, so that the keys and values of an instruction serve every picture (`Prompt.prefix_ids`).
Knows the tokenizer and the sizes of pictures; no tensor, no model. Raises PromptTooLong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backend.engine.image_sizes import Grid, choose_grid
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.messages import Submit
from model_loader.chat import encode_prompt

MAX_CACHED_PROMPTS = 64


class PromptTooLong(ValueError):
    """Prompt, image and answer together exceed the context; the message gives the numbers."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`prefix_ids`: the instruction. `suffix_ids`: one pad an image token, and what closes the turn."""

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    grid: Grid

    @property
    def num_tokens(self) -> int:
        return len(self.prefix_ids) + len(self.suffix_ids)

    @property
    def shared_ids(self) -> tuple[int, ...]:
        """The part of the instruction that fills whole blocks of the KV cache: requests share their keys."""
        return self.prefix_ids[: len(self.prefix_ids) // BLOCK_TOKENS * BLOCK_TOKENS]

    @property
    def num_image_tokens(self) -> int:
        return self.grid.rows * self.grid.columns

    @property
    def rope_delta(self) -> int:
        """A token's mRoPE position after the image, less its number: an image advances it by its longer side only."""
        return max(self.grid.rows, self.grid.columns) - self.num_image_tokens

    def suffix_positions(self) -> NDArray[np.int64]:
        """mRoPE positions (time, height, width) of the suffix, [3, tokens]. The image begins at its second token.

        The same as `Qwen3VLMoeModel.get_rope_index` of transformers gives.
        """
        first, image = len(self.prefix_ids), slice(1, 1 + self.num_image_tokens)
        positions = np.arange(first, first + len(self.suffix_ids))
        positions[image.stop :] += self.rope_delta
        positions = np.tile(positions, (3, 1))
        rows, columns = np.divmod(np.arange(self.num_image_tokens), self.grid.columns)
        positions[:, image] = first + 1 + np.stack([np.zeros_like(rows), rows, columns])
        return positions


class PromptEncoder:
    """Encodes prompts, remembering the last `MAX_CACHED_PROMPTS`. For one thread: tokenizers are not shared."""

    def __init__(self, tokenizer: Any, image_processor: Any, *, image_tokens: int, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self.token_px = int(image_processor.patch_size * image_processor.merge_size)
        pixels = self.token_px**2
        self.max_image_tokens = max(1, min(image_tokens, int(image_processor.size["longest_edge"]) // pixels))
        self.min_image_tokens = min(self.max_image_tokens, max(1, int(image_processor.size["shortest_edge"]) // pixels))
        self._cached: LRUCache[tuple[str, Grid], Prompt] = LRUCache(MAX_CACHED_PROMPTS)

    def encode(self, request: Submit) -> Prompt:
        """Return the prompt of `request`. Raises PromptTooLong."""
        picture = request.picture
        grid = choose_grid(
            picture.width_px,
            picture.height_px,
            max_tokens=self.max_image_tokens,
            min_tokens=self.min_image_tokens,
            token_px=self.token_px,
        )
        key = (request.instruction, grid)
        prompt = self._cached.get(key)
        if prompt is None:
            prompt = self._cached[key] = self._encode(request.instruction, grid)
        max_new_tokens = request.sampling.max_new_tokens
        if prompt.num_tokens + max_new_tokens > self._context_tokens:
            raise PromptTooLong(
                f"prompt {prompt.num_tokens} + answer {max_new_tokens} tokens exceed the context of "
                f"{self._context_tokens}: shorten the extra instructions or the label lists"
            )
        return prompt

    def _encode(self, instruction: str, grid: Grid) -> Prompt:
        chat = encode_prompt(self._tokenizer, instruction, grid.rows * grid.columns)
        return Prompt(chat.prefix_ids, chat.image_ids + chat.suffix_ids, grid)
