"""The engine at one load: a given number of image tokens and slots, measured while all slots are busy.

`measure` fills the slots, keeps them full, and times the window between the moment the first `slots` answers are done
and the moment only the last `slots` are not. Every answer has the same number of tokens, because `max_new_tokens` cuts
it inside its last text. Needs a LoadedModel; knows nothing of where its weights come from. Raises ModelTooLarge,
torch.OutOfMemoryError, and RuntimeError when a request fails or the time does not suffice for one window.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backend.engine.image_sizes import Grid
from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.options import EngineOptions
from backend.engine.process import MAX_PICTURE_THREADS
from benchmarks.in_process import InProcessEngine
from label_config.schema import Choice, ChoicesField, LabelSchema, TextField
from model_loader.chat import encode_prompt
from model_loader.loader import LoadedModel

LABELS = ("连衣裙", "半身裙", "衬衫", "外套", "运动鞋", "手提包", "毛衣", "长裤")
TEXT_MAX_CHARS = 24  # short texts with forced keys between them: about two tokens in five are forced
WINDOWS = 3  # requests are this many times the slots
NUM_PICTURES = 4
MIN_RUN_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the engine. All in tokens but `slots`; `image_tokens` is a square number."""

    image_tokens: int
    slots: int
    answer_tokens: int
    prefix_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine did. Times in milliseconds of wall clock, which ends when the device's results have arrived.

    `running`: most requests in one decode step. `forced_share`: tokens that the grammar chose without the model.
    `prefill_ms` is of one prefill of `pictures_per_prefill` (with their vision pass, on a card), `vision_ms` of the
    vision tower alone, for one picture. `kv_tokens`: the KV cache. `steps_share`: of the window that steps took; the
    rest is spent on the host. Peaks are 0 on a CPU.
    """

    images_per_s: float
    tokens_per_s: float
    decode_step_ms: float
    tokens_per_step: float
    prefill_ms: float
    pictures_per_prefill: float
    vision_ms: float
    peak_reserved_gib: float
    peak_allocated_gib: float
    kv_tokens: int
    running: int
    forced_share: float
    prompt_tokens: int
    tokens_per_answer: float
    answers_in_window: int
    window_s: float
    steps_share: float
    setup_s: float
    graph_error: str


def measure(
    loaded: LoadedModel, load: Load, *, cap_gib: float | None, budget_s: float, min_run_s: float = MIN_RUN_S
) -> Measured:
    """Run `load` and return what was measured. Requests stop `budget_s` after the call, but have `min_run_s`."""
    started = time.perf_counter()
    engine = InProcessEngine(loaded, _options(loaded, load, cap_gib), _num_threads())
    try:
        meter = StepMeter(engine.runner)
        requests = make_requests(loaded, load, WINDOWS * load.slots)
        vision_ms = _vision_ms(engine, requests)
        setup_s = time.perf_counter() - started
        deadline = max(started + budget_s, time.perf_counter() + min_run_s)
        engine.submit(requests)
        while len(engine.answers) < len(requests) and time.perf_counter() < deadline:
            engine.loop.turn()
        return _summarise(engine, meter, load, vision_ms, setup_s)
    finally:
        engine.close()


def release_memory() -> None:
    """Give back what a closed engine held. Outside any `except`: a traceback would keep the tensors alive."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the runner. `produced` counts the tokens that the grammar added, too."""

    kind: str
    started_s: float
    seconds: float
    rows: int
    produced: int


class StepMeter:
    """Times every step of a runner. Both kinds end by reading the chosen tokens, so the device has finished then."""

    def __init__(self, runner: Any) -> None:
        self.steps: list[Step] = []
        for kind in ("prefill", "decode"):
            setattr(runner, kind, self._timed(kind, getattr(runner, kind)))

    def _timed(self, kind: str, step: Callable[..., None]) -> Callable[..., None]:
        def timed(rows: Sequence[Any], *pictures: Any) -> None:
            # what the grammar forced at the start of an answer is produced by its prefill
            before = 0 if kind == "prefill" else sum(row.sequence.num_tokens for row in rows)
            started = time.perf_counter()
            step(rows, *pictures)
            seconds = time.perf_counter() - started
            produced = sum(row.sequence.num_tokens for row in rows) - before
            self.steps.append(Step(kind, started, seconds, len(rows), produced))

        return timed


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
    """Return labels, then short texts: more of them than any answer of `answer_tokens` can reach the end of."""
    choices = tuple(Choice(label) for label in LABELS)
    labels = [ChoicesField(f"label{n}", "image", choices, required=True) for n in range(4)]
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
    suffix = load.image_tokens + 32  # the image, the closing tokens, and the rounding of KV ranges
    needed = load.prefix_tokens + suffix + load.answer_tokens
    # the engine measures itself with answers of 64 tokens, and keeps instructions in an eighth of the KV cache
    context = max(needed, suffix + 128, 9 * load.prefix_tokens // total)
    return EngineOptions(
        device=loaded.device,
        vram_gib=cap_gib,
        max_slots=total,
        image_tokens=load.image_tokens,
        context_tokens=-(-context // 16) * 16,
    )


def _num_threads() -> int:
    return min(MAX_PICTURE_THREADS, max(1, len(os.sched_getaffinity(0)) - 1))


def _vision_ms(engine: InProcessEngine, requests: Sequence[Submit]) -> float:
    """Milliseconds of the vision tower for one picture, in passes as large as a prefill's."""
    runner = engine.runner
    prompts = [runner.prompts.encode(request) for request in requests]
    at_once = max(1, engine.sizes.max_prefill_tokens // len(prompts[0].suffix_ids))
    chosen = list(zip(requests, prompts, strict=True))[:at_once]
    # on the device already: the copy there is not the tower's time
    patches = [runner.to_patches(request, prompt).to(engine.device) for request, prompt in chosen]
    grids: list[Grid] = [prompt.grid for _, prompt in chosen]

    def run() -> float:
        synchronize(engine.device)
        started = time.perf_counter()
        runner.encode(patches, grids)
        synchronize(engine.device)
        return (time.perf_counter() - started) * 1e3

    run()
    return min(run() for _ in range(3)) / len(chosen)


def synchronize(device: str) -> None:
    """Wait for the card; a CPU has nothing to wait for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _summarise(engine: InProcessEngine, meter: StepMeter, load: Load, vision_ms: float, setup_s: float) -> Measured:
    finished = sorted(engine.finished_s.values())
    running = max((step.rows for step in meter.steps if step.kind == "decode"), default=0)
    last = min(len(finished), WINDOWS * load.slots - running)
    if not running or last <= running:
        raise RuntimeError(f"the time was up after {len(finished)} answers, too few for a figure: raise --budget-s")
    start, end = finished[running - 1], finished[last - 1]
    inside = [step for step in meter.steps if start <= step.started_s < end]
    decodes = [step for step in inside if step.kind == "decode"]
    prefills = [step for step in inside if step.kind == "prefill"]
    answers = list(engine.answers.values())
    produced, chosen = sum(step.produced for step in meter.steps), sum(step.rows for step in meter.steps)
    images_per_s = (last - running) / (end - start)
    tokens_per_answer = statistics.mean(len(answer.pieces) for answer in answers)
    on_card = engine.device.startswith("cuda")
    return Measured(
        images_per_s=images_per_s,
        tokens_per_s=images_per_s * tokens_per_answer,
        decode_step_ms=_mean([step.seconds * 1e3 for step in decodes]),
        tokens_per_step=_mean([float(step.produced) for step in decodes]),
        prefill_ms=_mean([step.seconds * 1e3 for step in prefills]),
        pictures_per_prefill=_mean([float(step.rows) for step in prefills]),
        vision_ms=vision_ms,
        peak_reserved_gib=torch.cuda.max_memory_reserved() / 2**30 if on_card else 0.0,
        peak_allocated_gib=torch.cuda.max_memory_allocated() / 2**30 if on_card else 0.0,
        kv_tokens=engine.sizes.kv_tokens,
        running=running,
        forced_share=1 - chosen / produced,
        prompt_tokens=answers[0].num_prompt_tokens,
        tokens_per_answer=tokens_per_answer,
        answers_in_window=last - running,
        window_s=end - start,
        steps_share=sum(step.seconds for step in inside) / (end - start),
        setup_s=setup_s,
        graph_error=engine.graph_error,
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else 0.0
