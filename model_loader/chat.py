"""The prompt of Qwen3-VL's chat template, cut where its KV cache can be shared: prefix, image, suffix.

The instruction stands before the image, so the prefix is the same for every picture of a project. Text is encoded
with special tokens split: `<|im_end|>` inside a label or an instruction stays text and can end nothing.
Same ids as the chat template gives for one user turn of text, then one image (a test compares them for the built-in
model; the format is that of Qwen3-VL-30B-A3B-Instruct).
Knows no model. Raises ValueError when the tokenizer lacks one of Qwen's special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
OF_PROMPTS = (TURN_START, TURN_END, VISION_START, VISION_END, IMAGE_PAD)
"""Those that `encode_prompt` needs."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """One prompt as token ids.

    `prefix_ids` open the user turn and hold the instruction; `image_ids` are `<|vision_start|>`, one pad a merged
    patch, `<|vision_end|>`; `suffix_ids` close the turn and open the assistant's.
    """

    prefix_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]

    @property
    def input_ids(self) -> list[int]:
        return [*self.prefix_ids, *self.image_ids, *self.suffix_ids]


def encode_prompt(tokenizer: Any, instruction: str, num_image_tokens: int) -> ChatPrompt:
    """Return the prompt that asks `instruction` about one image of `num_image_tokens` merged patches."""
    turn_start, turn_end = special_id(tokenizer, TURN_START), special_id(tokenizer, TURN_END)
    pads = (special_id(tokenizer, IMAGE_PAD),) * num_image_tokens
    return ChatPrompt(
        prefix_ids=(turn_start, *encode_text(tokenizer, "user\n" + instruction)),
        image_ids=(special_id(tokenizer, VISION_START), *pads, special_id(tokenizer, VISION_END)),
        suffix_ids=(turn_end, *encode_text(tokenizer, "\n"), turn_start, *encode_text(tokenizer, "assistant\n")),
    )


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Encode plain text; what looks like a special token in it stays text."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


def special_id(tokenizer: Any, token: str) -> int:
    """The id of one special token. Raises ValueError when the tokenizer has none of that name."""
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise ValueError(f"the tokenizer has no {token} token; is this a Qwen3-VL model?")
    return int(token_id)
