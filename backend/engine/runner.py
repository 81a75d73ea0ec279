"""All tensors of generation: a list of sequences in, their answers out, in one left-padded batch.

Uses the stock `generate()` of transformers; the grammar, the choice of the next token and the confidences live in a
`LogitsProcessor`, which leaves `generate()` exactly one token per row to pick. Knows no policy: which sequences
run together is the caller's choice. Raises torch.OutOfMemoryError when a batch does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Rows
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.sequence import GrammarCache, GrammarError, Sequence
from label_config.grammar import text_slices
from model_loader.chat import encode_prompt
from model_loader.loader import LoadedModel

MIN_TEMPERATURE = 0.01  # below it sampling is the most probable token, but for overflows


class PromptTooLong(ValueError):
    """Prompt, image and answer together exceed the context; the message gives the numbers."""


class Prepared(NamedTuple):
    """A sequence and its inputs: input_ids [T], pixel_values [P, C*t*p*p], image_grid_thw [3], all on the CPU."""

    sequence: Sequence
    input_ids: torch.Tensor
    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor


class Runner:
    """Prepares and generates. One instance per loaded model; not thread-safe (one thread owns the device)."""

    def __init__(self, loaded: LoadedModel, *, image_tokens: int, context_tokens: int) -> None:
        import llguidance.hf

        self._loaded = loaded
        self._context_tokens = context_tokens
        vocabulary = loaded.model.config.text_config.vocab_size
        tokenizer = llguidance.hf.from_tokenizer(loaded.tokenizer, n_vocab=vocabulary, slices=text_slices())
        self._grammars = GrammarCache(tokenizer)
        self._image_size = _image_size(loaded.image_processor, image_tokens)

    def prepare(self, request: Submit) -> Prepared:
        """Tokenise the prompt and patchify the picture. Raises PromptTooLong, GrammarError."""
        pixels = self._loaded.image_processor(
            images=[_to_image(request.picture)], size=self._image_size, return_tensors="pt"
        )
        grid = pixels["image_grid_thw"][0]
        merge = self._loaded.image_processor.merge_size
        num_image_tokens = int(grid.prod()) // merge**2
        ids = encode_prompt(self._loaded.tokenizer, request.instruction, num_image_tokens).input_ids
        needed = len(ids) + request.sampling.max_new_tokens
        if needed > self._context_tokens:
            raise PromptTooLong(
                f"prompt {len(ids)} + answer {request.sampling.max_new_tokens} tokens exceed the context of "
                f"{self._context_tokens}: shorten the extra instructions or the label lists"
            )
        sequence = Sequence(request, self._grammars, len(ids), num_image_tokens)
        return Prepared(sequence, torch.tensor(ids), pixels["pixel_values"], grid)

    @torch.inference_mode()
    def generate(
        self,
        batch: Rows[Prepared],
        is_cancelled: Callable[[int], bool] = lambda _: False,
        on_finished: Callable[[Sequence], None] = lambda _: None,
    ) -> None:
        """Run every sequence of `batch` to its end; the answers are then in `sequence.result()`.

        `is_cancelled(request_id)` is asked before every token; a cancelled row ends at the next step. `on_finished` is
        called for each sequence as soon as its last token is chosen, while the others go on.
        """
        model, tokenizer, device = self._loaded.model, self._loaded.tokenizer, self._loaded.device
        sequences = [row.sequence for row in batch]
        width = max(len(row.input_ids) for row in batch)
        input_ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for i, row in enumerate(batch):
            input_ids[i, width - len(row.input_ids) :] = row.input_ids
            attention_mask[i, width - len(row.input_ids) :] = 1
        is_image = (input_ids == model.config.image_token_id).int()
        model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            pixel_values=torch.cat([row.pixel_values for row in batch]).to(device, model.dtype),
            image_grid_thw=torch.stack([row.image_grid_thw for row in batch]).to(device),
            mm_token_type_ids=is_image.to(device),
            logits_processor=LogitsProcessorList([GrammarProcessor(sequences, is_cancelled, on_finished)]),
            do_sample=False,
            max_new_tokens=max(s.request.sampling.max_new_tokens for s in sequences) + 1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )


class GrammarProcessor(LogitsProcessor):  # type: ignore[misc]
    """Chooses each row's next token under its grammar, and leaves only that one with a finite score.

    A row that fails (logits that are no numbers, a grammar at its end) fails alone.
    """

    def __init__(
        self,
        sequences: Rows[Sequence],
        is_cancelled: Callable[[int], bool],
        on_finished: Callable[[Sequence], None],
    ) -> None:
        self._sequences = sequences
        self._is_cancelled = is_cancelled
        self._on_finished = on_finished
        self._generators = [torch.Generator().manual_seed(s.request.sampling.seed % (1 << 63)) for s in sequences]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores`: [rows, vocabulary] logits. Returns the same shape, -inf but for the chosen tokens."""
        chosen: dict[int, int] = {}
        free: list[int] = []
        running = [row for row, sequence in enumerate(self._sequences) if not sequence.finished]
        for row in running:
            sequence = self._sequences[row]
            sequence.cancelled = self._is_cancelled(sequence.request.request_id)
            token = sequence.forced_token()
            if token is None:
                free.append(row)
            else:
                chosen[row] = self._append(sequence, token, 1.0)
        if free:
            for row, (token, probability) in zip(free, self._choose(free, scores), strict=True):
                chosen[row] = self._append(self._sequences[row], token, probability)
        for row in running:
            if self._sequences[row].finished:
                self._on_finished(self._sequences[row])
        result = torch.full_like(scores, -torch.inf)
        eos = self._sequences[0].eos_token
        for row in range(len(self._sequences)):
            result[row, chosen.get(row, eos)] = 0.0
        return result

    def _append(self, sequence: Sequence, token: int, probability: float) -> int:
        """Give `token` to the sequence; a probability that is no number, or a refusal, ends the sequence."""
        try:
            if not math.isfinite(probability):
                raise GrammarError("the model's probabilities are not numbers")
            sequence.append(token, probability)
        except GrammarError as error:
            sequence.fail(str(error))
        return sequence.eos_token if sequence.finished else token

    def _choose(self, rows: list[int], scores: torch.Tensor) -> list[tuple[int, float]]:
        logits = scores[rows].float()
        mask = torch.zeros(len(rows), (logits.shape[1] + 31) // 32, dtype=torch.int32)
        for i, row in enumerate(rows):
            self._sequences[row].fill_mask(mask[i].data_ptr(), mask.shape[1] * 4)
        allowed = unpack_mask(mask.to(logits.device), logits.shape[1])
        logits = logits.masked_fill(~allowed, -torch.inf)
        probabilities = torch.softmax(logits, dim=-1)
        best = probabilities.argmax(dim=-1).tolist()
        picks: list[tuple[int, float]] = []
        for i, row in enumerate(rows):
            sequence = self._sequences[row]
            sampling = sequence.request.sampling
            token = int(best[i])
            certain = sampling.temperature < MIN_TEMPERATURE or not math.isfinite(float(probabilities[i, token]))
            if sequence.in_text and not certain:
                token = sample(logits[i], sampling, self._generators[row])
            picks.append((token, float(probabilities[i, token])))
        return picks


def unpack_mask(mask: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """[rows, words] int32 bitmask -> [rows, vocabulary] bool, on the same device."""
    bits = torch.arange(32, device=mask.device, dtype=torch.int32)
    return ((mask[:, :, None] >> bits) & 1).bool().flatten(1)[:, :vocabulary]


def sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Nucleus sampling (Holtzman et al. 2020) of one row of masked logits [vocabulary], on the CPU."""
    probabilities = torch.softmax(logits.cpu() / sampling.temperature, dim=-1)
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    kept = ordered.cumsum(0) - ordered < sampling.top_p
    kept[0] = True
    pick = torch.multinomial(ordered * kept, 1, generator=generator)
    return int(tokens[pick])


def _to_image(picture: Picture) -> Image.Image:
    return Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)


def _image_size(processor: Any, image_tokens: int) -> dict[str, int]:
    """The processor's own pixel limits, capped at `image_tokens` merged patches."""
    pixels_per_token = (processor.patch_size * processor.merge_size) ** 2
    longest = min(int(processor.size["longest_edge"]), image_tokens * pixels_per_token)
    return {"shortest_edge": min(int(processor.size["shortest_edge"]), longest), "longest_edge": longest}
