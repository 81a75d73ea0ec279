"""Measure at load how this card runs packed weights: the experts' tiles for decode, and where dequantising begins to
pay, for a layer's experts and for a linear.

It uses the model's first experts and its largest linear (a dense model has no others), random inputs and CUDA graphs
(so that the time is the card's, not Python's), and first compares the kernels with the reference, for a linear with
bitsandbytes' own: what is wrong or does not build here is never used.
Bounded: no new trial starts after `BUDGET_S`, and a trial that does not fit in memory counts as very slow.
Trials are plain values, so what is chosen from which times is tested without a card. Raises nothing of its own.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from subprocess import CalledProcessError
from typing import Any, Literal

import torch

from model_loader.experts import reference
from model_loader.experts.dispatch import packed_weights
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import DENSE, FUSED, REFERENCE, ExpertsPlan, Step, Tile, plan_for, set_plan

log = logging.getLogger(__name__)

BUDGET_S = 20.0
DECODE_TOKENS = (8, 32, 128, 192)  # 192: 128 rows, and what is forced
CROSSOVER_TOKENS = (512, 1024, 2048, 4096, 8192)
LINEAR_ROWS = (128, 256, 512, 1024, 2048)
GATE_UP_TILES = (Tile(32, 4, 4), Tile(64, 4, 3, unroll=2), Tile(16, 2, 4))
DOWN_TILES = (Tile(64, 4, 4), Tile(128, 4, 3, unroll=2), Tile(32, 4, 4))
TOLERANCE = 0.03  # of the norm, kernel to reference: rounding to bfloat16 gives a third of it, a wrong kernel about 1
REPEATS = 5
MAX_SAID = 300
NO_ROOM_MS = 1e30
"""Of a trial for which there is not enough memory. One that fails otherwise takes for ever."""

Path = Literal["fused", "dequantised"]
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # hidden_states, top_k_index, top_k_weights


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One experts forward to be timed: calling it runs it."""

    path: Path
    step: Step
    module: Any
    inputs: Inputs

    def __call__(self) -> torch.Tensor:
        from model_loader.experts import dequantise, fused  # here, so that a machine without Triton can load a model

        hidden, index, weights = self.inputs
        forward = fused.fused_experts if self.path == "fused" else dequantise.dequantised_experts
        return forward(hidden, *packed_weights(self.module), index, weights, self.step)

    @property
    def tokens(self) -> int:
        return self.inputs[0].shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class LinearTrial:
    """One linear to be timed."""

    path: Path
    module: FusedLinear4bit
    x: torch.Tensor

    def __call__(self) -> torch.Tensor:
        return self.module.fused(self.x) if self.path == "fused" else self.module.unpacked(self.x)

    @property
    def tokens(self) -> int:
        return self.x.shape[0]


TimeMs = Callable[[Trial | LinearTrial], float]


def calibrate(model: Any) -> ExpertsPlan:
    """Measure on `model`'s device, let its experts and linears run by the result from now on, and return it.

    Takes up to about BUDGET_S seconds on CUDA (less when Triton has the kernels from an earlier start), and leaves no
    memory in use. Returns the plan named "reference" at once where there is nothing to measure.
    """
    module = next((m for m in model.modules() if hasattr(m, "gate_up_proj_absmax")), None)
    linears = [m for m in model.modules() if isinstance(m, FusedLinear4bit)]
    linear = max(linears, key=lambda m: m.in_features * m.out_features, default=None)
    packed = module.gate_up_proj if module is not None else getattr(linear, "weight", None)
    if packed is None or not packed.is_cuda or plan_for(packed.device) is REFERENCE:
        return REFERENCE
    device = packed.device
    started, unusable = time.monotonic(), ""
    try:
        bench = None
        if module is not None:
            bench = Bench(module, model.config.get_text_config().num_experts_per_tok, model.dtype)
            check_kernels(bench)
        if linear is not None:
            check_linear(linear)
        plan = measure(bench, linear, plan_for(device), cuda_time_ms, lambda: time.monotonic() - started < BUDGET_S)
    except _failures() as error:
        log.error("the Triton kernels cannot be used, so packed weights run slowly in plain torch: %s", error)
        plan, unusable = REFERENCE, " ".join(str(error).split())[:MAX_SAID] or type(error).__name__
    set_plan(device, plan)
    _release_memory()
    log.info("plan of the kernels after %.1f s: %s", time.monotonic() - started, plan)
    return replace(plan, unusable=unusable)


class KernelWrong(RuntimeError):
    """A kernel's output is not that of the reference, or there is none."""


class Bench:
    """Trials of one experts module with random inputs, kept for one number of tokens at a time."""

    def __init__(self, module: Any, top_k: int, dtype: torch.dtype) -> None:
        self.module, self.top_k, self.dtype = module, top_k, dtype
        self._inputs: Inputs | None = None

    def trial(self, path: Path, tokens: int, step: Step) -> Trial:
        return Trial(path, step, self.module, self.inputs(tokens))

    def inputs(self, tokens: int) -> Inputs:
        """Return activations of unit size and a uniform routing."""
        if self._inputs is None or self._inputs[0].shape[0] != tokens:
            num_experts, hidden = self.module.down_proj.shape[:2]
            device = self.module.down_proj.device
            states = torch.randn(tokens, hidden, device=device).to(self.dtype)
            shares, index = torch.rand(tokens, num_experts, device=device).topk(self.top_k)
            self._inputs = (states, index, (shares / shares.sum(-1, keepdim=True)).to(self.dtype))
        return self._inputs


def check_kernels(bench: Bench, tokens: int = 9) -> None:
    """Raise KernelWrong if a path differs from the reference by more than rounding."""
    expected = reference.nf4_experts_forward(bench.module, *bench.inputs(tokens)).float()
    paths: dict[Path, Step] = {"fused": FUSED[0], "dequantised": DENSE}
    for path, step in paths.items():
        error = (bench.trial(path, tokens, step)().float() - expected).norm() / expected.norm()
        if not error < TOLERANCE:
            raise KernelWrong(f"the {path} path is off by {float(error):.3f} of the reference's norm")


def check_linear(linear: FusedLinear4bit, rows: int = 9) -> None:
    """Raise KernelWrong if our kernel differs from bitsandbytes' unpacking by more than rounding."""
    x = _linear_input(linear, rows)
    expected = linear.unpacked(x).float()
    error = (linear.fused(x).float() - expected).norm() / expected.norm()
    if not error < TOLERANCE:
        raise KernelWrong(f"the fused linear is off by {float(error):.3f} of the reference's norm")


def _linear_input(linear: FusedLinear4bit, rows: int) -> torch.Tensor:
    """[rows, K], of unit size."""
    return torch.randn(rows, linear.in_features, device=linear.weight.device).to(linear.compute_dtype or torch.bfloat16)


def measure(
    bench: Bench | None,
    linear: FusedLinear4bit | None,
    plan: ExpertsPlan,
    time_ms: TimeMs,
    is_time_left: Callable[[], bool],
) -> ExpertsPlan:
    """Return `plan` with what `time_ms` says is faster. What there was no time to measure stays as it was.

    A dense model has no `bench`.

    Raises KernelWrong where a size has nothing that runs: tiles of which every one fails are not used all the same.
    """
    failures = _failures()

    def clock(trial: Trial | LinearTrial) -> float:
        try:
            return time_ms(trial)
        except torch.OutOfMemoryError:
            return NO_ROOM_MS
        except failures as error:
            log.warning("a kernel does not run here (%s, %d tokens): %s", trial.path, trial.tokens, error)
            return math.inf

    plan = replace(plan, name="calibrated")
    if bench is not None:
        plan = _measure_experts(bench, plan, clock, is_time_left)
    if linear is None:
        return plan

    def is_linear_faster(rows: int) -> bool:
        x = _linear_input(linear, rows)
        return is_faster(clock(LinearTrial("fused", linear, x)), clock(LinearTrial("dequantised", linear, x)))

    limit = crossover(LINEAR_ROWS, is_linear_faster, is_time_left)
    return plan if limit is None else replace(plan, linear_max_rows=limit)


def _measure_experts(bench: Bench, plan: ExpertsPlan, clock: TimeMs, is_time_left: Callable[[], bool]) -> ExpertsPlan:
    """`clock` answers infinity for what does not run."""

    def experts(path: Path, tokens: int, step: Step) -> float:
        return clock(bench.trial(path, tokens, step))

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

    def is_fused_faster(tokens: int) -> bool:
        return is_faster(experts("fused", tokens, plan.step(tokens)), experts("dequantised", tokens, plan.dense))

    limit = crossover(CROSSOVER_TOKENS, is_fused_faster, is_time_left)
    return plan if limit is None else replace(plan, fused_max_tokens=limit)


def fastest(
    steps: Sequence[Step], cost: Callable[[Step], float], is_time_left: Callable[[], bool] = lambda: True
) -> Step | None:
    """Return the cheapest of `steps` that could be measured in time, None if none could. Raises KernelWrong if all were
    and cost infinity: none runs."""
    best, best_cost = None, math.inf
    for step in steps:
        if not is_time_left():
            return best
        if (step_cost := cost(step)) < best_cost:
            best, best_cost = step, step_cost
    if best is None and steps:
        raise KernelWrong("none of the tiles runs")
    return best


def is_faster(fused_ms: float, dequantised_ms: float) -> bool:
    """Whether fused is to be used. Raises KernelWrong if neither runs; where neither has room, fused takes less."""
    if math.inf == fused_ms == dequantised_ms:
        raise KernelWrong("neither the fused nor the dequantised path runs")
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


def cuda_time_ms(trial: Trial | LinearTrial) -> float:
    """Return the milliseconds of one run on the card: the best of three replays of a graph of REPEATS runs."""
    trial()  # builds the kernels, and takes the scratch before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            trial()
    times = []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)) / REPEATS)
    return min(times)


def _failures() -> tuple[type[Exception], ...]:
    """What a kernel raises that does not build (no C compiler, too large for the card) or does not fit in memory."""
    always = (RuntimeError, OSError, CalledProcessError, ImportError)
    try:
        from triton.errors import TritonError
    except ImportError:  # the kernels are not there at all, which the first trial says
        return always
    triton_error: type[Exception] = TritonError
    return (triton_error, *always)


def _release_memory() -> None:
    with contextlib.suppress(ImportError):  # without Triton there is no scratch
        from model_loader.experts import dequantise

        dequantise.release_scratch()
    torch.cuda.empty_cache()
