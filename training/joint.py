"""Phase 2: the whole model learns to answer prompts about pictures, end to end.

One batch shares one prompt: its KV cache is computed once, with gradient, and expanded over the batch, so that a long
instruction costs next to nothing. The loss counts the tokens a grammar leaves open most, JSON punctuation least.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model_loader.chat import ChatPrompt, encode_prompt, special_id
from training import dataset
from training.geometry import MERGE_SIZE
from training.phases import GRID, MovingAverage, one_cycle, parameter_groups, shuffled_batches
from training.rules import Looks
from training.variants import LANGUAGES, Variant, random_variant, shipped_variant
from training.vision import ClassifierHead, grid_constants, run_tower_with

log = logging.getLogger(__name__)

LABEL_WEIGHT, CAPTION_WEIGHT, PUNCTUATION_WEIGHT = 3.0, 0.5, 0.3
_BALANCE = 0.01  # weight of the router's load-balancing loss (Fedus et al. 2021, eq. 4-6)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as tokens with their loss weights; `num_label_tokens` end before the caption begins."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    num_label_tokens: int


def encode_answer(tokenizer: Any, text: str, labels: list[str]) -> Answer:
    """Tokenise `text` + the end of the turn; `labels` are the label strings in the order they stand in it."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    spans, end = [], 0
    for label in labels:
        start = text.index(f'"{label}"', end) + 1
        end = start + len(label)
        spans.append((start, end))
    caption = len(text) if text.endswith(('"]}', "null}")) else text.rfind('":"') + 3
    has_caption = caption > end
    weights, num_label_tokens = [], 0
    for low, high in encoded["offset_mapping"]:
        is_label = any(low < stop and high > start for start, stop in spans)
        in_caption = has_caption and low >= caption
        weights.append(LABEL_WEIGHT if is_label else CAPTION_WEIGHT if in_caption else PUNCTUATION_WEIGHT)
        num_label_tokens += not in_caption
    ids = (*encoded["input_ids"], special_id(tokenizer, "<|im_end|>"))
    if not has_caption:
        num_label_tokens += 1
    return Answer(ids, (*weights, CAPTION_WEIGHT), num_label_tokens)


class AnswerBook:
    """Answers of one variant, encoded once for each class, looks and template."""

    def __init__(self, tokenizer: Any, variant: Variant) -> None:
        self._tokenizer, self._variant = tokenizer, variant
        self._known: dict[tuple[int, Looks, int], Answer] = {}

    def get(self, class_index: int, looks: Looks, template: int) -> Answer:
        key = (class_index, looks, template)
        if key not in self._known:
            text = self._variant.answer(*key)
            self._known[key] = encode_answer(self._tokenizer, text, self._variant.label_strings(class_index))
        return self._known[key]


def forward_batch(
    model: Any, prompt: ChatPrompt, tower: tuple[Tensor, list[Tensor]], grid: tuple[int, int], answers: Tensor
) -> Tensor:
    """Logits [B, L, vocabulary] that predict `answers` [B, L], given what the vision tower says of the pictures.

    The same result as transformers' own forward for each picture alone (a test compares them).
    """
    from transformers import DynamicCache

    text, batch = model.model.language_model, len(answers)
    tokens, deepstack = tower
    tail = torch.tensor([*prompt.image_ids, *prompt.suffix_ids])
    num_prefix, num_answer = len(prompt.prefix_ids), answers.shape[1]
    example = torch.cat([torch.tensor(prompt.prefix_ids), tail, answers[0]])[None]
    is_image = example == model.config.image_token_id
    positions, _ = model.model.get_rope_index(example, is_image.int(), image_grid_thw=torch.tensor([[1, *grid]]))

    prefix_cache = DynamicCache()
    text(input_ids=example[:, :num_prefix], position_ids=positions[:, :, :num_prefix], past_key_values=prefix_cache)
    cache = DynamicCache()
    for index, layer in enumerate(prefix_cache.layers):
        cache.update(layer.keys.expand(batch, -1, -1, -1), layer.values.expand(batch, -1, -1, -1), index)
    ids = torch.cat([tail.expand(batch, -1), answers[:, :-1]], dim=1)
    image_mask = ids == model.config.image_token_id
    embedded = text.embed_tokens(ids).masked_scatter(image_mask[..., None], tokens.flatten(0, 1))
    length = ids.shape[1]
    causal = torch.ones(length, num_prefix + length, dtype=torch.bool).tril(num_prefix)
    hidden = text(
        inputs_embeds=embedded,
        position_ids=positions[:, :, num_prefix:-1].expand(3, batch, -1),
        attention_mask=causal[None, None],
        past_key_values=cache,
        visual_pos_masks=image_mask,
        deepstack_visual_embeds=[stack.flatten(0, 1) for stack in deepstack],
    ).last_hidden_state
    logits: Tensor = model.lm_head(hidden[:, -num_answer:])
    return logits


class Tower:
    """The vision tower in training: frozen or not, compiled for square pictures or not."""

    def __init__(self, module: Any, *, frozen: bool, compiled: bool) -> None:
        self._module, self._frozen = module, frozen
        self._square = torch.compile(run_tower_with) if compiled else run_tower_with
        self._constants = {grid: grid_constants(module, grid) for grid in (GRID, (10, 6), (6, 10))}

    def __call__(self, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
        run = self._square if grid == GRID else run_tower_with
        with torch.set_grad_enabled(not self._frozen):
            return run(self._module, patches, *self._constants[grid])


class LoadBalance:
    """Collects router logits through hooks and turns them into the load-balancing loss of one forward."""

    def __init__(self, model: Any) -> None:
        self._logits: list[Tensor] = []
        self._top_k = model.config.text_config.num_experts_per_tok
        self.share = torch.zeros(0)
        self._hooks = [
            layer.mlp.gate.register_forward_hook(lambda _m, _i, output: self._logits.append(output[0]))
            for layer in model.model.language_model.layers
        ]

    def loss(self) -> Tensor:
        total = torch.zeros(())
        shares = []
        for logits in self._logits:
            probabilities = logits.float().softmax(-1)
            chosen = probabilities.topk(self._top_k, dim=-1).indices
            share = F.one_hot(chosen, logits.shape[-1]).float().mean((0, 1))
            total = total + logits.shape[-1] * (share * probabilities.mean(0)).sum()
            shares.append(share.detach())
        self.share = torch.stack(shares).min()
        self._logits.clear()
        return total

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()


@dataclass(frozen=True, slots=True)
class Examples:
    """Training pictures uint8 [N,32,32], classes [N] and what the pixels of each say."""

    pictures: Tensor
    classes: Tensor
    looks: list[Looks]


@dataclass(frozen=True, slots=True)
class Schedule:
    epochs: float
    batch: int = 96
    peak: float = 2e-3
    tower_factor: float = 0.5  # of the peak learning rate; 0 freezes the tower
    compiled: bool = False
    minutes_between_saves: float = 3.0


def train_jointly(
    model: Any,
    head: ClassifierHead,
    tokenizer: Any,
    examples: Examples,
    schedule: Schedule,
    seed: int,
    on_save: Callable[[dict[str, Tensor]], None],
) -> None:
    """Train `model` in place; `on_save` gets the averaged weights every few minutes and at the end."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311
    balance, average = LoadBalance(model), MovingAverage(model)
    tower = Tower(model.model.visual, frozen=schedule.tower_factor == 0.0, compiled=schedule.compiled)
    optimiser = torch.optim.AdamW(_groups(model, head, schedule), lr=schedule.peak, betas=(0.9, 0.98), fused=True)
    num_steps = int(schedule.epochs * len(examples.pictures)) // schedule.batch
    books: dict[str, tuple[Variant, AnswerBook]] = {}
    step, started, saved = 0, time.monotonic(), time.monotonic()
    while step < num_steps:
        for rows in shuffled_batches(len(examples.pictures), schedule.batch, generator):
            rate = one_cycle(step, num_steps, warmup=0.05)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate
            variant, book = _pick_variant(rng, tokenizer, books)
            losses = _losses(model, tower, head, tokenizer, variant, book, examples, rows, rng, generator)
            loss = losses[0] + 0.3 * losses[1] + _BALANCE * balance.loss()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 1.0)
            optimiser.step()
            average.update()
            step += 1
            if step % 25 == 0:
                speed = step * schedule.batch / (time.monotonic() - started)
                log.info(
                    "joint: step %d/%d answer %.4f class %.4f least used expert %.3f, %.0f pictures/s",
                    step, num_steps, losses[0].item(), losses[1].item(), balance.share.item(), speed,
                )  # fmt: skip
            if time.monotonic() - saved > 60 * schedule.minutes_between_saves:
                on_save(average.state_dict())
                saved = time.monotonic()
            if step >= num_steps:
                break
    balance.close()
    on_save(average.state_dict())


def _groups(model: Any, head: ClassifierHead, schedule: Schedule) -> list[dict[str, Any]]:
    groups = []
    for part, peak in ((model.model.visual, schedule.peak * schedule.tower_factor), (head, schedule.peak)):
        groups += [{**group, "peak": peak} for group in parameter_groups(part, 0.05)]
    rest = nn.ModuleList([model.model.language_model, model.lm_head])
    return groups + [{**group, "peak": schedule.peak} for group in parameter_groups(rest, 0.05)]


def _pick_variant(
    rng: random.Random, tokenizer: Any, books: dict[str, tuple[Variant, AnswerBook]]
) -> tuple[Variant, AnswerBook]:
    """Of ten batches four ask in the shipped Chinese config, two in the English one, four in a variant."""
    share = rng.random()
    if share < 0.6:
        language = LANGUAGES[0] if share < 0.4 else LANGUAGES[1]
        if language not in books:
            variant = shipped_variant(language)
            books[language] = variant, AnswerBook(tokenizer, variant)
        return books[language]
    variant = random_variant(rng)
    return variant, AnswerBook(tokenizer, variant)


def _losses(
    model: Any,
    tower: Tower,
    head: ClassifierHead,
    tokenizer: Any,
    variant: Variant,
    book: AnswerBook,
    examples: Examples,
    rows: Tensor,
    rng: random.Random,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(weighted loss of the answer tokens, loss of the auxiliary classifier) of one batch."""
    classes = examples.classes[rows]
    answers = [
        book.get(c, examples.looks[r], rng.randrange(2)) for c, r in zip(classes.tolist(), rows.tolist(), strict=True)
    ]
    with_caption = rng.random() < 0.3 or answers[0].num_label_tokens < 3
    ids, weights = _pad([a if with_caption else _labels_only(a) for a in answers])
    pictures = dataset.augment(dataset.normalise(examples.pictures[rows]), generator)
    patches, grid = dataset.to_patches(_reshape(pictures, rng))
    prompt = encode_prompt(tokenizer, variant.instruction, grid[0] * grid[1] // MERGE_SIZE**2)
    seen = tower(patches, grid)
    logits = forward_batch(model, prompt, seen, grid, ids)
    each = F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none") * weights.flatten()
    return each.sum() / weights.sum(), F.cross_entropy(head(*seen), classes)


def _labels_only(answer: Answer) -> Answer:
    end = answer.num_label_tokens
    return Answer(answer.ids[:end], answer.weights[:end], end)


def _pad(answers: list[Answer]) -> tuple[Tensor, Tensor]:
    """Token ids and weights [B, L]; padding weighs nothing, and the causal mask hides it from what counts."""
    length = max(len(a.ids) for a in answers)
    ids = torch.zeros(len(answers), length, dtype=torch.long)
    weights = torch.zeros(len(answers), length)
    for row, answer in enumerate(answers):
        ids[row, : len(answer.ids)] = torch.tensor(answer.ids)
        weights[row, : len(answer.ids)] = torch.tensor(answer.weights)
    return ids, weights


def _reshape(pictures: Tensor, rng: random.Random) -> Tensor:
    """In one batch of eight, cut both sides off and enlarge the rest: a portrait or landscape grid."""
    share = rng.random()
    if share < 1 / 16:
        return F.interpolate(pictures[:, :, :, 4:28], (40, 24), mode="bilinear", align_corners=False)
    if share < 1 / 8:
        return F.interpolate(pictures[:, :, 4:28, :], (24, 40), mode="bilinear", align_corners=False)
    return pictures
