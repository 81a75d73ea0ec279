"""How many requests the engine can run at once: measured on a card, computed on a CPU.

On a card a full prefill and a decode step of its rows are run once with a small KV cache; what they leave of the
memory budget becomes the KV cache, less a margin for the CUDA context, graphs and fragmentation. Raises ModelTooLarge
when not even one request fits.
"""

from __future__ import annotations

import gc
import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from backend.engine.cache import kv_bytes_per_position
from backend.engine.kv_blocks import BLOCK_TOKENS, KvBlocks, blocks_for
from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.options import EngineOptions
from backend.engine.packing import Row
from backend.engine.runner import Runner
from backend.engine.scheduler import SchedulerLimits, Slot
from label_config.schema import LabelSchema, TextField
from model_loader.errors import ModelTooLarge
from model_loader.loader import LoadedModel

log = logging.getLogger(__name__)

MIB = 2**20
CPU_KV_BYTES = 256 * MIB
MARGIN = 0.09  # of the budget: CUDA context, graphs, fragmentation
PREFILL_TOKENS = 4096
WARM_UP_SCHEMA = LabelSchema((TextField("caption", "image"),), "image", "image")


@dataclass(frozen=True, slots=True)
class Sizes:
    """`kv_tokens` positions for `max_slots` requests, and the most tokens of one prefill."""

    max_slots: int
    kv_tokens: int
    max_prefill_tokens: int


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


def make_runner(loaded: LoadedModel, options: EngineOptions, cpu_kv_bytes: int = CPU_KV_BYTES) -> tuple[Runner, Sizes]:
    """Return a runner whose KV cache fills what memory there is, and its sizes. Raises ModelTooLarge.

    `cpu_kv_bytes`: what there is on a CPU.
    """
    position_bytes = kv_bytes_per_position(loaded.model.config.text_config, loaded.dtype)
    context = blocks_for(options.context_tokens) * BLOCK_TOKENS
    most = options.max_slots * context
    if loaded.device.startswith("cuda"):
        budget = budget_bytes(*_card_bytes(loaded.device), options.vram_gib)
        tokens, prefill_tokens = fit(
            options, position_bytes, budget, lambda sizes: _peak_of_warm_up(loaded, options, sizes)
        )
    else:
        tokens, prefill_tokens = max(context, cpu_kv_bytes // position_bytes), PREFILL_TOKENS
    sizes = Sizes(options.max_slots, min(most, tokens), prefill_tokens)
    while True:
        try:
            runner = _runner(loaded, options, sizes)
        except torch.OutOfMemoryError:  # others took memory meanwhile
            smaller = sizes.kv_tokens * 9 // 10
            if smaller < context + BLOCK_TOKENS:
                raise
            sizes = replace(sizes, kv_tokens=smaller)
            continue
        log.info("KV cache: %d positions, %.2f GiB", sizes.kv_tokens, sizes.kv_tokens * position_bytes / 2**30)
        return runner, sizes


def kv_tokens_within(budget_bytes: int, peak_bytes: int, warm_up_tokens: int, position_bytes: int) -> int:
    """Positions that fit in the budget beside a peak that was measured with `warm_up_tokens` of them."""
    return warm_up_tokens + (int(budget_bytes * (1 - MARGIN)) - peak_bytes) // position_bytes


def budget_bytes(total_bytes: int, obtainable_bytes: int, vram_gib: float | None) -> int:
    """What the engine may take of a card on which other programs leave `obtainable_bytes`."""
    budget = min(total_bytes, obtainable_bytes)
    return budget if vram_gib is None else min(budget, int(vram_gib * 2**30))


def fit(
    options: EngineOptions, position_bytes: int, budget: int, peak_of_warm_up: Callable[[Sizes], int]
) -> tuple[int, int]:
    """Run the worst case and return (KV positions, prefill tokens) that fit in `budget` bytes."""
    prefill_tokens = PREFILL_TOKENS
    while True:
        warm_up_tokens = 2 * prefill_tokens + options.context_tokens
        try:
            peak = peak_of_warm_up(Sizes(options.max_slots, warm_up_tokens, prefill_tokens))
            tokens = kv_tokens_within(budget, peak, warm_up_tokens, position_bytes)
        except torch.OutOfMemoryError:
            tokens = 0
        if tokens >= options.context_tokens + BLOCK_TOKENS:
            return tokens, prefill_tokens
        if prefill_tokens <= options.image_tokens:
            raise ModelTooLarge(
                f"the model leaves no room for a request of {options.context_tokens} tokens in "
                f"{budget / 2**30:.1f} GiB: use fewer image tokens or a larger card"
            )
        prefill_tokens //= 2
        log.warning("the heaviest prefill leaves too little memory; trying %d tokens", prefill_tokens)


def _card_bytes(device: str) -> tuple[int, int]:
    """What the card has, and what of it is ours already or free: other programs may hold a part."""
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return total_bytes, int(free_bytes) + int(torch.cuda.memory_reserved(device))


def _peak_of_warm_up(loaded: LoadedModel, options: EngineOptions, sizes: Sizes) -> int:
    """Reserved bytes at the peak of one prefill of `max_prefill_tokens` and one decode step of its rows."""
    torch.cuda.reset_peak_memory_stats()
    runner = _runner(loaded, options, sizes)
    try:
        warm_up(runner, sizes)
        return torch.cuda.max_memory_reserved()
    finally:
        runner.close()
        del runner
        gc.collect()
        torch.cuda.empty_cache()


def warm_up(runner: Runner, sizes: Sizes) -> None:
    """Run a full prefill of pictures of the largest size, and one decode step of the rows it holds.

    Longer instructions and wider decode steps take somewhat more: that is part of the margin.
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
    runner.prefill(rows, patches)
    if unfinished := [row for row in rows if not row.sequence.finished]:
        runner.decode(unfinished)


def _runner(loaded: LoadedModel, options: EngineOptions, sizes: Sizes) -> Runner:
    return Runner(
        loaded,
        image_tokens=options.image_tokens,
        context_tokens=options.context_tokens,
        kv_tokens=sizes.kv_tokens,
        max_slots=sizes.max_slots,
    )
