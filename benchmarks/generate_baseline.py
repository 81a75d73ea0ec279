"""What transformers alone does: the same prompts, pictures and grammar through `generate()`, in static batches.

The yardstick of the engine, for speed and for answers: a batch is left-padded, reads the whole prompt of every row,
makes one token a row and step, and ends with its slowest row. The grammar and the choice of tokens are the engine's
own, in a `LogitsProcessor` that leaves `generate()` one token to pick. Needs a model that no `Runner` was made for: a
runner switches its attention.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Rows

import llguidance.hf
import numpy as np
import torch
from llguidance.numpy import fill_next_token_bitmask
from transformers import LogitsProcessor, LogitsProcessorList

from backend.engine.messages import Finished, Submit
from backend.engine.pictures import to_patches
from backend.engine.prompts import PromptEncoder
from backend.engine.runner import draw_of
from backend.engine.sequence import GrammarCache, Sequence
from backend.engine.token_choice import choose_tokens
from label_config.grammar import text_slices
from model_loader.loader import LoadedModel


class GenerateBaseline:
    """Answers lists of requests with `loaded.model.generate()`."""

    def __init__(self, loaded: LoadedModel, *, image_tokens: int, context_tokens: int = 4096) -> None:
        self._loaded = loaded
        vocabulary = loaded.model.config.text_config.vocab_size
        tokenizer = llguidance.hf.from_tokenizer(loaded.tokenizer, n_vocab=vocabulary, slices=text_slices())
        self._grammars = GrammarCache(tokenizer)
        self._prompts = PromptEncoder(
            loaded.tokenizer, loaded.image_processor, image_tokens=image_tokens, context_tokens=context_tokens
        )

    @torch.inference_mode()
    def answer(self, requests: Rows[Submit]) -> list[Finished]:
        """Answer `requests` in one batch."""
        loaded, model, tokenizer = self._loaded, self._loaded.model, self._loaded.tokenizer
        prompts = [self._prompts.encode(request) for request in requests]
        sequences = [
            Sequence(request, self._grammars, prompt.num_tokens, prompt.num_image_tokens)
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        patches = [
            to_patches(request.picture, prompt.grid, loaded.image_processor, loaded.dtype)
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        width = max(prompt.num_tokens for prompt in prompts)
        input_ids = torch.full((len(requests), width), tokenizer.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            input_ids[row, width - prompt.num_tokens :] = torch.tensor([*prompt.prefix_ids, *prompt.suffix_ids])
            attention_mask[row, width - prompt.num_tokens :] = 1
        merge = loaded.image_processor.merge_size
        grids = torch.tensor([[1, p.grid.rows * merge, p.grid.columns * merge] for p in prompts])
        model.generate(
            input_ids=input_ids.to(loaded.device),
            attention_mask=attention_mask.to(loaded.device),
            pixel_values=torch.cat(patches).to(loaded.device),
            image_grid_thw=grids.to(loaded.device),
            mm_token_type_ids=(input_ids == model.config.image_token_id).int().to(loaded.device),
            logits_processor=LogitsProcessorList([_GrammarProcessor(sequences)]),
            do_sample=False,
            max_new_tokens=max(s.request.sampling.max_new_tokens for s in sequences) + 1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return [sequence.result() for sequence in sequences]


class _GrammarProcessor(LogitsProcessor):  # type: ignore[misc]
    """Chooses each row's next token, and leaves only that one with a finite score."""

    def __init__(self, sequences: Rows[Sequence]) -> None:
        self._sequences = sequences
        self._queues = [deque(sequence.pending) for sequence in sequences]  # chosen or forced, not yet generated

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        rows = [i for i, s in enumerate(self._sequences) if not self._queues[i] and not s.finished]
        if rows:
            self._choose(rows, scores[rows])
        result = torch.full_like(scores, -torch.inf)
        eos = self._sequences[0].eos_token
        for row, queue in enumerate(self._queues):
            result[row, queue.popleft() if queue else eos] = 0.0
        return result

    def _choose(self, rows: list[int], logits: torch.Tensor) -> None:
        mask = np.zeros((len(rows), (logits.shape[1] + 31) // 32), dtype=np.int32)
        for i, row in enumerate(rows):
            fill_next_token_bitmask(self._sequences[row].matcher, mask, i)
        draws = [draw_of(self._sequences[row]) for row in rows]
        tokens, probabilities = choose_tokens(logits, torch.from_numpy(mask).to(logits.device), draws)
        for row, token, probability in zip(rows, tokens, probabilities, strict=True):
            self._sequences[row].append(token, probability)
            self._queues[row].extend(self._sequences[row].pending)
