"""The engine at one load: a given number of image tokens and slots, measured while all slots are busy.

Three times as many requests as slots are asked for; the figures are of the time between the first `slots` answers and
the next `slots`. Every answer has the same number of tokens, because `max_new_tokens` cuts it inside its last text.
Needs a LoadedModel; knows nothing of where its weights come from. Raises ModelTooLarge, torch.OutOfMemoryError,
CaptureFailed, and RuntimeError when a request fails or the time does not suffice.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backend.engine.cache import kv_bytes_per_position
from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.options import EngineOptions
from backend.engine.process import MAX_PICTURE_THREADS
from backend.engine.scheduler import MIXED_FROM
from benchmarks.in_process import InProcessEngine
from label_config.schema import Choice, ChoicesField, LabelSchema, TextField
from model_loader.chat import encode_prompt
from model_loader.experts.quantizer import fused_experts
from model_loader.loader import LoadedModel

LABELS = ("连衣裙", "半身裙", "衬衫", "外套", "运动鞋", "手提包", "毛衣", "长裤")
NUM_LABELS, TEXT_MAX_CHARS = 2, 90  # about a fifth of the tokens is forced, as of an answer to ecommerce.zh
CONTEXT_TOKENS = 4096
NUM_PICTURES = 4
MIN_RUN_S = 5.0
NEVER = 2**31


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the engine. All in tokens but `slots`; `image_tokens` is a square number.

    `mixes`: whether prefills of many rows are their decode steps, too.
    """

    image_tokens: int
    slots: int
    answer_tokens: int
    prefix_tokens: int
    mixes: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine did in `window_s`. Milliseconds of wall clock end when the device's results have arrived.

    `running`: most requests at once. `prefill_ms` is of one prefill of `pictures_per_prefill` (with their vision pass,
    on a card). `read_gbs`: what decode steps have to read (see `step_gb`) a second. `kv_tokens`: the KV cache.
    `steps_share`: of the window that steps took; the rest is spent on the host. `forced`: share of the tokens that the
    grammar left no choice about. Peaks are 0 on a CPU.
    """

    images_per_s: float
    running: int
    decode_step_ms: float
    tokens_per_step: float
    read_gbs: float
    prefill_ms: float
    pictures_per_prefill: float
    steps_share: float
    forced: float
    peak_reserved_gib: float
    peak_allocated_gib: float
    kv_tokens: int
    tokens_per_answer: int
    window_s: float
    graph_error: str


def measure(
    loaded: LoadedModel,
    load: Load,
    *,
    cap_gib: float | None,
    budget_s: float,
    min_run_s: float = MIN_RUN_S,
    no_graphs: str = "",
) -> Measured:
    """Run `load` and return what was measured. Requests stop `budget_s` after the call, but have `min_run_s`.
    `no_graphs`: as in InProcessEngine."""
    started = time.perf_counter()
    num_threads = min(MAX_PICTURE_THREADS, max(1, len(os.sched_getaffinity(0)) - 1))
    mixed_from = MIXED_FROM if load.mixes else NEVER
    engine = InProcessEngine(loaded, _options(loaded, load, cap_gib), num_threads, mixed_from, no_graphs)
    try:
        engine.submit(make_requests(loaded, load, 3 * load.slots))
        deadline = max(started + budget_s, time.perf_counter() + min_run_s)
        while len(engine.answers) < 2 * load.slots and time.perf_counter() < deadline:
            engine.loop.turn()
        if len(engine.answers) < 3 * load.slots:
            engine.loop.turn()  # begins by saying what was done until now
        return _summarise(engine, loaded, load)
    finally:
        engine.close()


def release_memory() -> None:
    """Give back what is held no more, and forget its peak. Outside any `except`: a traceback keeps tensors alive."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _summarise(engine: InProcessEngine, loaded: LoadedModel, load: Load) -> Measured:
    """From what the engine itself has counted, at the first answer of a whole batch and at the last."""
    told = [(at_s, stats) for at_s, stats in engine.stats if stats.num_finished >= load.slots]
    if not told or told[-1][1].num_finished == told[0][1].num_finished:
        raise RuntimeError(
            f"the time was up after {len(engine.answers)} answers, too few for a figure: raise --budget-s"
        )
    (start, before), (end, after) = told[0], told[-1]
    finished, steps = after.num_finished - before.num_finished, after.num_steps - before.num_steps
    prefills, window_s = after.num_prefills - before.num_prefills, end - start
    decode_s, prefill_s = after.decode_s - before.decode_s, after.prefill_s - before.prefill_s
    tokens = len(next(iter(engine.answers.values())).pieces)
    running = max(stats.num_running for _, stats in engine.stats)
    tokens_per_step = tokens * finished / max(1, steps + after.num_mixed - before.num_mixed)
    context = load.prefix_tokens + load.image_tokens + load.answer_tokens // 2
    kv_bytes = running * context * kv_bytes_per_position(loaded.model.config.text_config, loaded.dtype)
    on_card = engine.device.startswith("cuda")
    return Measured(
        images_per_s=finished / window_s,
        running=running,
        decode_step_ms=1e3 * decode_s / max(1, steps),
        tokens_per_step=tokens_per_step,
        read_gbs=step_gb(loaded, tokens_per_step, kv_bytes) * steps / decode_s if steps else 0.0,
        prefill_ms=1e3 * prefill_s / max(1, prefills),
        pictures_per_prefill=finished / max(1, prefills),
        steps_share=(decode_s + prefill_s) / window_s,
        forced=statistics.mean(p == 1.0 for answer in engine.answers.values() for p in answer.probabilities),
        peak_reserved_gib=torch.cuda.max_memory_reserved() / 2**30 if on_card else 0.0,
        peak_allocated_gib=torch.cuda.max_memory_allocated() / 2**30 if on_card else 0.0,
        kv_tokens=engine.sizes.kv_tokens,
        tokens_per_answer=tokens,
        window_s=window_s,
        graph_error=engine.graph_error,
    )


def step_gb(loaded: LoadedModel, tokens: float, kv_bytes: float) -> float:
    """GB that a decode step of so many tokens must read: the experts that uniform routing hits, all other weights of
    the language model but the embeddings, and the keys and values of all that run."""
    experts = sum(_num_bytes(module) for module in fused_experts(loaded.model).values())  # 0 of a dense model
    language_model = loaded.model.model.language_model
    others = _num_bytes(language_model) - experts - _num_bytes(language_model.embed_tokens)
    text = loaded.model.config.text_config
    hit = 1 - (1 - text.num_experts_per_tok / text.num_experts) ** tokens if experts else 0.0
    return float(experts * hit + others + _num_bytes(loaded.model.lm_head) + kv_bytes) / 1e9


def _num_bytes(module: Any) -> int:
    """With the absmax of bitsandbytes' linears, which is no parameter."""
    parameters = list(module.parameters())
    states = [state for parameter in parameters if (state := getattr(parameter, "quant_state", None))]
    return sum(int(tensor.nbytes) for tensor in [*parameters, *(state.absmax for state in states)])


def make_requests(loaded: LoadedModel, load: Load, count: int) -> list[Submit]:
    """Return requests with noise for pictures, whose prompts and answers are exactly as long as `load` says."""
    processor = loaded.image_processor
    side_px = round(load.image_tokens**0.5) * processor.patch_size * processor.merge_size
    noise = np.random.default_rng(0)
    pictures = [Picture(side_px, side_px, noise.bytes(3 * side_px**2)) for _ in range(NUM_PICTURES)]
    schema, instruction = make_schema(load.answer_tokens), make_instruction(loaded.tokenizer, load.prefix_tokens)
    return [
        Submit(
            schema=schema,
            instruction=instruction,
            picture=pictures[number % NUM_PICTURES],
            sampling=Sampling(max_new_tokens=load.answer_tokens, seed=number),
            text_max_chars=TEXT_MAX_CHARS,
            request_id=number,
        )
        for number in range(count)
    ]


def make_schema(answer_tokens: int) -> LabelSchema:
    """Return labels, then texts: more of them than any answer of `answer_tokens` can reach the end of."""
    choices = tuple(Choice(label) for label in LABELS)
    labels = [ChoicesField(f"label{n}", "image", choices, required=True) for n in range(NUM_LABELS)]
    # an empty answer of one text is four tokens at least: its key, its quotes, one character
    texts = [TextField(f"text{n}", "image", required=True) for n in range(answer_tokens // 4 + 1)]
    return LabelSchema((*labels, *texts), "image", "image")


def make_instruction(tokenizer: Any, prefix_tokens: int) -> str:
    """Return a text whose prompt, up to the image, has `prefix_tokens` tokens, or the first number above it."""
    text = "描述图片。"
    while (length := len(encode_prompt(tokenizer, text, 1).prefix_ids)) < prefix_tokens:
        text += "a" if prefix_tokens - length < 4 else " 请按图片填写每一项。"
    return text


def _options(loaded: LoadedModel, load: Load, cap_gib: float | None) -> EngineOptions:
    """As many slots as leave `load.slots` to bulk requests (a sixteenth is kept for people), each of the right size."""
    total = next(n for n in range(load.slots + 1, 2 * load.slots + 2) if n - max(1, n // 16) >= load.slots)
    return EngineOptions(
        device=loaded.device,
        vram_gib=cap_gib,
        max_slots=total,
        image_tokens=load.image_tokens,
        context_tokens=CONTEXT_TOKENS,
    )
