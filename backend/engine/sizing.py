"""How many requests the engine can run at once: measured on a card, computed on a CPU.

The rule is that of `model_loader.memory`, and so of `prelabel doctor`. On a card a full prefill, a decode step of its
rows and a choice for as many rows as the plan has are run once with a small KV cache: their peak takes the place of the
plan's weights and workspace. Raises ModelTooLarge when not even one request fits, CardUnusable where the card has
failed, LoadingFailed where the model gives no answer.
"""

from __future__ import annotations

import gc
import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from backend.engine.cache import kv_bytes_per_position
from backend.engine.embedding import keep_on_host
from backend.engine.kv_blocks import BLOCK_TOKENS, KvBlocks, blocks_for
from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.options import EngineOptions
from backend.engine.packing import Row
from backend.engine.runner import Runner
from backend.engine.scheduler import SchedulerLimits, Slot
from backend.engine.token_choice import Draw, choose_tokens
from label_config.schema import LabelSchema, TextField
from model_loader.cards import Card, find_card, judge_memory
from model_loader.errors import CardUnusable, LoadingFailed, ModelTooLarge
from model_loader.experts import never_dequantise
from model_loader.geometry import geometry_from_config
from model_loader.load_errors import is_out_of_memory
from model_loader.loader import LoadedModel
from model_loader.memory import (
    GIB,
    PREFILL_TOKENS,
    MemoryPlan,
    kv_positions,
    requests_at_once,
    whole_blocks,
)  # fmt: skip
from model_loader.troubles import Trouble

log = logging.getLogger(__name__)

CPU_KV_BYTES = GIB // 4
TAKEN_BYTES = GIB // 4
"""Kernels that are loaded later take less of a card."""
CPU_SLOTS = 64  # more rows make a step longer there, and not more answers a second
WARM_UP_SCHEMA = LabelSchema((TextField("caption", "image"),), "image", "image")


@dataclass(frozen=True, slots=True)
class Sizes:
    """`kv_tokens` positions for `max_slots` requests, and the most tokens of one prefill. `computed_slots`: how many
    requests were computed for the card as it is, 0 where it was not measured."""

    max_slots: int
    kv_tokens: int
    max_prefill_tokens: int
    computed_slots: int = field(default=0, compare=False)


def scheduler_limits(sizes: Sizes, context_tokens: int) -> SchedulerLimits:
    """Keep a sixteenth of the slots, and room for one long request, for people who wait."""
    reserved_slots = 0 if sizes.max_slots == 1 else max(1, sizes.max_slots // 16)
    return SchedulerLimits(
        max_slots=sizes.max_slots,
        kv_tokens=sizes.kv_tokens,
        reserved_slots=reserved_slots,
        reserved_tokens=min(context_tokens, sizes.kv_tokens // 8) if reserved_slots else 0,
        max_prefill_tokens=sizes.max_prefill_tokens,
    )


def measure_sizes(loaded: LoadedModel, options: EngineOptions, cpu_kv_bytes: int = CPU_KV_BYTES) -> Sizes:
    """Return the sizes that fill what memory there is. Raises ModelTooLarge. `cpu_kv_bytes`: what there is on a CPU."""
    position_bytes = kv_bytes_per_position(loaded.model.config.text_config, loaded.dtype)
    context = whole_blocks(options.context_tokens)
    if loaded.device.startswith("cuda"):
        plan, _ = _judged(loaded, options)
        if not plan.has_scratch:
            never_dequantise(loaded.model.device)
        if plan.host_bytes:
            keep_on_host(loaded.model.model.language_model)
        sizes = fit(
            plan,
            position_bytes,
            lambda sizes: _peak_of_warm_up(loaded, options, sizes),
            lambda: _judged(loaded, options)[1],
        )
    else:
        sizes = Sizes(min(options.max_slots, CPU_SLOTS), max(context, cpu_kv_bytes // position_bytes), PREFILL_TOKENS)
    return replace(sizes, kv_tokens=min(sizes.max_slots * context, sizes.kv_tokens))


def least_kv_tokens(options: EngineOptions) -> int:
    """Below this a request as long as the context finds no room."""
    return whole_blocks(options.context_tokens) + BLOCK_TOKENS


def make_runner(loaded: LoadedModel, options: EngineOptions, sizes: Sizes) -> tuple[Runner, Sizes]:
    """Return a runner of `sizes`, or of a smaller KV cache where others took memory meanwhile, and its sizes."""
    while True:
        try:
            runner = _runner(loaded, options, sizes)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            smaller = sizes.kv_tokens * 9 // 10
            if smaller < least_kv_tokens(options):
                raise
            sizes = replace(sizes, kv_tokens=smaller)
            continue
        kv_gib = sizes.kv_tokens * kv_bytes_per_position(loaded.model.config.text_config, loaded.dtype) / GIB
        log.info("KV cache: %d positions, %.2f GiB; %d requests at once", sizes.kv_tokens, kv_gib, sizes.max_slots)
        return runner, sizes


def fit(
    plan: MemoryPlan,
    position_bytes: int,
    peak_of_warm_up: Callable[[Sizes], int],
    look: Callable[[], Trouble | None] = lambda: None,
) -> Sizes:
    """Run the worst case of `plan` and return the sizes that its peak leaves: no more requests than were planned.

    Prefills are halved until there is room. `peak_of_warm_up(sizes)` returns bytes, its KV cache among them. `look`
    says what speaks against the model on the card as it is now: others may have taken its memory while it was loaded.
    """
    assert plan.budget_bytes is not None
    assert plan.num_slots is not None
    request, prefill_tokens = plan.request, PREFILL_TOKENS
    while True:
        tried = Sizes(max(1, plan.num_slots), 2 * prefill_tokens + request.longest_tokens, prefill_tokens)
        try:
            others = peak_of_warm_up(tried) - tried.kv_tokens * position_bytes
            positions = kv_positions(plan.budget_bytes, others, position_bytes)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            positions = 0
        if slots := requests_at_once(positions, request, tried.max_slots):
            return Sizes(slots, positions, prefill_tokens, plan.num_slots)
        if prefill_tokens <= request.image_tokens:
            against = look()
            if against is not None and against.refuses:
                raise ModelTooLarge(str(against), against)
            raise ModelTooLarge(
                f"the model leaves no room for a request of {request.longest_tokens} tokens in "
                f"{plan.budget_bytes / GIB:.1f} GiB: use fewer image tokens or a larger card"
            )
        prefill_tokens //= 2
        log.warning("the heaviest prefill leaves too little memory; trying %d tokens", prefill_tokens)


def taken_since(device: str, left_bytes: Callable[[], int] | None = None) -> Callable[[], bool]:
    """What says later whether other programs hold more of the card's memory than now, by more than TAKEN_BYTES.

    `left_bytes`: what is free, or torch's already.
    """
    left = left_bytes or _left_bytes
    if not device.startswith("cuda"):
        return lambda: False
    before = left()
    return lambda: left() < before - TAKEN_BYTES


def _left_bytes() -> int:
    return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())


def slots_of_empty_card(loaded: LoadedModel, options: EngineOptions) -> int:
    """How many requests would run at once if nothing else held memory of the card."""
    plan, _ = _judged(loaded, options, is_empty=True)
    return plan.num_slots or 0


def _judged(
    loaded: LoadedModel, options: EngineOptions, *, is_empty: bool = False
) -> tuple[MemoryPlan, Trouble | None]:
    """As `judge_memory`, of the card that holds the model already."""
    card = find_card(loaded.device)
    if not isinstance(card, Card):  # a model is on it: it has failed since
        raise CardUnusable(card)
    if is_empty:
        card = replace(card, free_gib=card.memory_gib)
    return judge_memory(
        geometry_from_config(loaded.model.config.to_dict()),
        card,
        vram_gib=options.vram_gib,
        request=options.request,
        max_slots=options.max_slots,
        quantisation=loaded.quantisation,
    )


def _peak_of_warm_up(loaded: LoadedModel, options: EngineOptions, sizes: Sizes) -> int:
    """Reserved bytes at the peak of one prefill of `max_prefill_tokens`, one decode step of its rows, and a choice."""
    torch.cuda.reset_peak_memory_stats()
    runner = _runner(loaded, options, sizes)
    try:
        warm_up(runner, sizes)
        choose_for_all(loaded, sizes.max_slots)
        return torch.cuda.max_memory_reserved()
    finally:
        runner.close()
        del runner
        gc.collect()
        torch.cuda.empty_cache()


def warm_up(runner: Runner, sizes: Sizes) -> None:
    """Run a full prefill of pictures of the largest size, and one decode step of the rows it holds.

    Longer instructions take somewhat more: that is part of the margin. Raises LoadingFailed where a row fails: every
    request would.
    """
    rows: list[Row] = []
    patches: list[torch.Tensor] = []
    num_tokens = 0
    kv = KvBlocks(sizes.kv_tokens // BLOCK_TOKENS)
    side_px = runner.prompts.token_px * (int(runner.prompts.max_image_tokens**0.5) + 1)
    picture = Picture(side_px, side_px, bytes(3 * side_px * side_px))
    while not rows or (num_tokens < sizes.max_prefill_tokens and len(rows) < sizes.max_slots):
        request = Submit(
            WARM_UP_SCHEMA, "", picture, Sampling(temperature=1.0, max_new_tokens=64), request_id=len(rows)
        )
        prompt = runner.prompts.encode(request)
        num_blocks = blocks_for(prompt.num_tokens + 64)
        if num_blocks > kv.num_free:
            break
        slot = Slot(len(rows), len(rows), kv.share(()), array("i", kv.take(num_blocks)))
        rows.append(runner.start(request, prompt, slot))
        patches.append(runner.to_patches(request, prompt))
        num_tokens += len(prompt.suffix_ids)
    try:
        runner.prefill(rows, patches)
        if unfinished := [row for row in rows if not row.sequence.finished]:
            runner.decode(unfinished)
        if failed := next((row.sequence.failure for row in rows if row.sequence.failure), ""):
            raise ArithmeticError(failed)
    except ArithmeticError as error:
        raise LoadingFailed(
            f"the loaded model gave no answer in a trial ({error}): its weights are damaged, or the card computes "
            "wrong. Fetch the model anew; if it comes back, look for Xid in `dmesg`, and try another card"
        ) from error


@torch.inference_mode()
def choose_for_all(loaded: LoadedModel, rows: int) -> None:
    """Choose the next token of `rows` rows, all sampled: what the widest decode step adds to a prefill's."""
    vocabulary = int(loaded.model.config.text_config.vocab_size)
    logits = torch.zeros(rows, vocabulary, dtype=loaded.dtype, device=loaded.device)
    mask = torch.full((rows, (vocabulary + 31) // 32), -1, dtype=torch.int32, device=loaded.device)
    choose_tokens(logits, mask, [Draw(temperature=1.0, top_p=0.9, uniform=0.5)] * rows)


def _runner(loaded: LoadedModel, options: EngineOptions, sizes: Sizes) -> Runner:
    return Runner(
        loaded,
        image_tokens=options.image_tokens,
        context_tokens=options.context_tokens,
        kv_tokens=sizes.kv_tokens,
        max_slots=sizes.max_slots,
    )
