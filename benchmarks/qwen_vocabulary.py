"""Qwen3's own tokenizer, which `scripts/bootstrap test` installs: what a real checkpoint brings, without its weights.

`follow` has the engine's own `Sequence` write a given answer. Raises FileNotFoundError where the tokenizer is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llguidance.hf

from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.sequence import GrammarCache, GrammarError, Sequence
from label_config.grammar import text_slices
from label_config.schema import LabelSchema
from model_loader.loader import load_tokenizer

FOLDER = Path(__file__).parents[1] / ".tools" / "qwen3-tokenizer"
NUM_LOGITS = 151_936  # of Qwen3-VL's head: some more than the tokenizer has tokens
TEXT_MAX_CHARS = 400


@cache
def qwen_tokenizer() -> Any:
    if not (FOLDER / "tokenizer.json").is_file():
        raise FileNotFoundError(f"{FOLDER} has no tokenizer.json: run scripts/bootstrap test")
    return load_tokenizer(FOLDER)


@cache
def qwen_grammars() -> GrammarCache:
    return GrammarCache(llguidance.hf.from_tokenizer(qwen_tokenizer(), n_vocab=NUM_LOGITS, slices=text_slices()))


@dataclass(frozen=True, slots=True)
class Followed:
    """An answer, token by token. `num_steps`: how many tokens were chosen; the grammar has forced the others."""

    pieces: tuple[bytes, ...]
    num_steps: int

    @property
    def num_forced(self) -> int:
        return len(self.pieces) - self.num_steps


def start(schema: LabelSchema, request_id: int = 0) -> Sequence:
    request = Submit(schema, "", Picture(1, 1, bytes(3)), Sampling(10_000), TEXT_MAX_CHARS, request_id=request_id)
    return Sequence(request, qwen_grammars(), num_prompt_tokens=0, num_image_tokens=0)


def follow(schema: LabelSchema, answer: str) -> Followed:
    """Choose the tokens that the tokenizer has for `answer`, wherever there is something to choose.

    Raises GrammarError for an answer that the grammar does not admit.
    """
    sequence, left, num_steps = start(schema), answer.encode(), 0
    left = _without(left, b"".join(map(qwen_grammars().piece, sequence.pending)))
    while not sequence.finished:
        token = qwen_grammars().tokenizer.tokenize_bytes(left)[0]
        sequence.append(token, 1.0)
        num_steps += 1
        left = _without(left, b"".join(map(qwen_grammars().piece, sequence.pending)))
    if left:
        raise GrammarError(f"the answer goes on where the grammar ends: {left[:40]!r}")
    return Followed(sequence.result().pieces, num_steps)


def _without(text: bytes, beginning: bytes) -> bytes:
    if not text.startswith(beginning):
        raise GrammarError(f"the grammar forces {beginning!r} where the answer has {text[:40]!r}")
    return text.removeprefix(beginning)
