"""Measure at load how this card runs packed weights: the experts' tiles for decode, and where dequantising begins to
pay, for a layer's experts and for a linear.

It uses the model's first experts and its largest linear (a dense model has no others), random inputs and CUDA graphs
(so that the time is the card's, not Python's).
`self_check` sees what may be measured before, and what was chosen after it: a kernel that is wrong or does not build
here is never used. Bounded: no new trial starts after `BUDGET_S`, and a trial that does not fit in memory counts as
very slow. Trials are plain values, so what is chosen from which times is tested without a card. Raises CaptureFailed,
and what a card raises that has failed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import torch

from model_loader.experts.capture import CaptureFailed, captured
from model_loader.experts.kept_plans import KeptPlans, facts
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import REFERENCE, ExpertsPlan, Step, Tile, plan_for, set_plan
from model_loader.experts.self_check import SelfCheck, said_of
from model_loader.experts.trials import Bench, LinearTrial, Path, Run, Trial, run_trial
from model_loader.load_errors import is_fault, is_out_of_memory

log = logging.getLogger(__name__)

BUDGET_S = 20.0
DECODE_TOKENS = (8, 32, 128, 192)  # 192: 128 rows, and what is forced
CROSSOVER_TOKENS = (512, 1024, 2048, 4096, 8192)
LINEAR_ROWS = (128, 256, 512, 1024, 2048)
GATE_UP_TILES = (Tile(32, 4, 4), Tile(64, 4, 3, unroll=2), Tile(16, 2, 4))
DOWN_TILES = (Tile(64, 4, 4), Tile(128, 4, 3, unroll=2), Tile(32, 4, 4))
REPEATS = 5
MEASURED = "measured"
NO_ROOM_MS = 1e30
"""Of a trial for which there is not enough memory. One that fails otherwise takes for ever."""

TimeMs = Callable[[Trial | LinearTrial], float]


def calibrate(model: Any, *, may_capture: bool = True, kept_in: FilePath | None = None) -> ExpertsPlan:
    """Check and measure on `model`'s device, let its experts and linears run by the result from now on, and return it.

    Takes up to about BUDGET_S seconds on CUDA (less when Triton has the kernels from an earlier start), and leaves no
    memory in use. Returns the plan named "reference" at once where there is nothing to measure. `may_capture`: whether
    what is timed is replayed from a CUDA graph, so that Python's time is not measured with it. `kept_in`: the folder
    with what an earlier start has measured, and for what this one does.
    """
    module = next((m for m in model.modules() if hasattr(m, "gate_up_proj_absmax")), None)
    linears = {(m.in_features, m.out_features): m for m in model.modules() if isinstance(m, FusedLinear4bit)}
    packed = module.gate_up_proj if module is not None else next((m.weight for m in linears.values()), None)
    if packed is None or not packed.is_cuda or plan_for(packed.device) is REFERENCE:
        return REFERENCE
    device = packed.device
    started = time.monotonic()
    top_k = 0 if module is None else model.config.get_text_config().num_experts_per_tok
    bench = Bench(module, top_k, model.dtype)
    kept = KeptPlans(kept_in) if kept_in is not None and may_capture else None
    known = facts(bench, linears, device)
    plan = tune(
        bench,
        list(linears.values()),
        plan_for(device),
        lambda trial: cuda_time_ms(trial, may_capture=may_capture),
        kept=kept.find(known) if kept else None,
    )
    if kept and plan.name == MEASURED and not plan.slower:
        kept.keep(known, plan)
    torch.cuda.synchronize()  # a card that has failed says so here, if it has not yet
    set_plan(device, plan)
    _release_memory()
    log.info("plan of the kernels after %.1f s: %s", time.monotonic() - started, plan)
    return plan


def tune(
    bench: Bench,
    linears: Sequence[FusedLinear4bit],
    plan: ExpertsPlan,
    time_ms: TimeMs,
    run: Run = run_trial,
    clock: Callable[[], float] = time.monotonic,
    kept: ExpertsPlan | None = None,
) -> ExpertsPlan:
    """Return `plan` less what is wrong, with what is fastest of the rest. What fails costs nothing else.

    `kept`, what an earlier start has measured, is returned as it is if nothing of it is wrong. The plan's name is
    MEASURED where there was time for all.
    """
    check = SelfCheck(bench, linears, run)
    if kept is not None and check.checked(kept) == kept:
        log.info("the kernels run as an earlier start has measured")
        return kept
    plan = check.checked(plan)
    until = clock() + BUDGET_S
    is_whole = True

    def is_time_left() -> bool:
        nonlocal is_whole
        is_whole &= clock() < until
        return is_whole

    try:
        plan = measure_experts(bench, plan, time_ms, is_time_left)
    except NothingRuns as error:
        others = (one for one in plan.slower if one[0] == "slow_linears")
        plan = replace(plan, fused=(), dense=None, slower=(("slow_experts", said_of(error)), *others))
    try:
        if plan.linear_max_rows and linears:
            largest = max(linears, key=lambda m: m.in_features * m.out_features)
            plan = measure_linears(bench, largest, plan, time_ms, is_time_left)
    except NothingRuns as error:
        plan = replace(plan, linear_max_rows=0, slower=(*plan.slower, ("slow_linears", said_of(error))))
    return check.checked(replace(plan, name=MEASURED if is_whole else "measured in part"))


class NothingRuns(RuntimeError):
    """A size has no kernel that runs."""


def measure_experts(bench: Bench, plan: ExpertsPlan, time_ms: TimeMs, is_time_left: Callable[[], bool]) -> ExpertsPlan:
    """Return `plan` with the tiles and the border that `time_ms` says are faster. What there was no time to measure, or
    cannot be used, stays as it was.

    Raises NothingRuns where a size has nothing that runs: tiles of which every one fails are not used all the same.
    """

    def experts(path: Path, tokens: int, step: Step) -> float:
        return _clock(bench.trial(path, tokens, step), time_ms)

    if not plan.fused or bench.module is None:
        return plan
    decode = []
    for tokens in DECODE_TOKENS:
        step = replace(plan.step(tokens), max_tokens=tokens)
        ups = [replace(step, gate_up=tile) for tile in GATE_UP_TILES]
        step = fastest(ups, lambda s: experts("fused", tokens, s), is_time_left) or step  # noqa: B023
        downs = [replace(step, down=tile) for tile in DOWN_TILES]
        step = fastest(downs, lambda s: experts("fused", tokens, s), is_time_left) or step  # noqa: B023
        decode.append(step)
    larger = [step for step in plan.fused if step.max_tokens > DECODE_TOKENS[-1]]
    plan = replace(plan, fused=(*decode, *larger))
    if (dense := plan.dense) is None:
        return plan

    def is_fused_faster(tokens: int) -> bool:
        return is_faster(experts("fused", tokens, plan.step(tokens)), experts("dequantised", tokens, dense))

    limit = crossover(CROSSOVER_TOKENS, is_fused_faster, is_time_left)
    return plan if limit is None else replace(plan, fused_max_tokens=limit)


def measure_linears(
    bench: Bench, linear: FusedLinear4bit, plan: ExpertsPlan, time_ms: TimeMs, is_time_left: Callable[[], bool]
) -> ExpertsPlan:
    """Return `plan` with the border of the linears, by one of them. Raises NothingRuns."""

    def is_linear_faster(rows: int) -> bool:
        fused, unpacked = bench.linear("fused", linear, rows), bench.linear("dequantised", linear, rows)
        return is_faster(_clock(fused, time_ms), _clock(unpacked, time_ms))

    limit = crossover(LINEAR_ROWS, is_linear_faster, is_time_left)
    return plan if limit is None else replace(plan, linear_max_rows=limit)


def _clock(trial: Trial | LinearTrial, time_ms: TimeMs) -> float:
    try:
        return time_ms(trial)
    except Exception as error:  # a kernel's border, as in the self-check
        if is_fault(error) or isinstance(error, CaptureFailed):
            raise
        if is_out_of_memory(error):
            return NO_ROOM_MS
        log.warning("a kernel does not run here (%s, %d tokens): %s", trial.path, trial.tokens, error)
        return math.inf


def fastest(
    steps: Sequence[Step], cost: Callable[[Step], float], is_time_left: Callable[[], bool] = lambda: True
) -> Step | None:
    """Return the cheapest of `steps` that could be measured in time, None if none could. Raises NothingRuns if all were
    and cost infinity: none runs."""
    best, best_cost = None, math.inf
    for step in steps:
        if not is_time_left():
            return best
        if (step_cost := cost(step)) < best_cost:
            best, best_cost = step, step_cost
    if best is None and steps:
        raise NothingRuns("none of the tiles runs")
    return best


def is_faster(fused_ms: float, dequantised_ms: float) -> bool:
    """Whether fused is to be used. Raises NothingRuns if neither runs; where neither has room, fused takes less."""
    if math.inf == fused_ms == dequantised_ms:
        raise NothingRuns("neither the fused nor the dequantised path runs")
    return fused_ms <= dequantised_ms


def crossover(
    sizes: Sequence[int], is_fused_faster: Callable[[int], bool], is_time_left: Callable[[], bool] = lambda: True
) -> int | None:
    """Return the largest of `sizes` (rising) at which fused wins, half the smallest if it never does, None out of time.

    Bisects: where fused loses it is taken to lose at every larger size.
    """
    low, high = 0, len(sizes)  # the answer is the number of sizes at which fused wins
    while low < high:
        if not is_time_left():
            return None
        middle = (low + high) // 2
        low, high = (middle + 1, high) if is_fused_faster(sizes[middle]) else (low, middle)
    return sizes[low - 1] if low else sizes[0] // 2


def cuda_time_ms(trial: Trial | LinearTrial, *, may_capture: bool = True) -> float:
    """Return the milliseconds of one run on the card: the best of three times REPEATS runs. Raises CaptureFailed."""
    trial()  # builds the kernels, and takes the scratch before the capture
    torch.cuda.synchronize()

    def repeated() -> None:
        for _ in range(REPEATS):
            trial()

    repeat = captured(repeated).replay if may_capture else repeated
    times = []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        repeat()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)) / REPEATS)
    return min(times)


def _release_memory() -> None:
    with contextlib.suppress(Exception):  # where Triton is not there, or of another version, there is no scratch
        from model_loader.experts import dequantise

        dequantise.release_scratch()
    torch.cuda.empty_cache()
