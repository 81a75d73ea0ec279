"""The experts alone, by our kernels and by what exists without them, on one model's packed weights.

One decode step of 32 rows and one prefill of 4,096 tokens go through the experts of every layer, with random inputs
and uniform routing. A way too slow for its share of the time runs fewer layers, and the milliseconds are scaled
(`layers` says how many ran). Every way is first compared with the torch reference. Launches count, as they do in a
model without CUDA graphs; "graph" is our path as the engine runs it. Raises nothing: what cannot run here says why.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
from transformers.integrations.moe import _can_use_grouped_mm, grouped_mm_experts_forward

from backend.errors import one_line
from benchmarks.geometry_engine import release_memory, synchronize
from model_loader.experts import reference
from model_loader.experts.dispatch import packed_weights
from model_loader.experts.plan import plan_for
from model_loader.loader import LoadedModel
from model_loader.nf4 import BLOCK_SIZE, fused_experts

DECODE_ROWS = 32
PREFILL_TOKENS = 4096
MAX_REPEATS = 5
CHECK_TOKENS = 9
GRAPH_MAX_TOKENS = 1024

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # hidden_states, top_k_index, top_k_weights
Forward = Callable[..., torch.Tensor]  # (experts module, *Inputs)


@dataclass(frozen=True, slots=True)
class Timing:
    """`ms`: all layers, once. `layers`: how many were timed; `ms` is scaled by `num_layers` / `layers`.

    `error`: distance to the torch reference, of its norm. `reason` says why there is no figure (then `ms` is None).
    """

    name: str
    tokens: int
    ms: float | None = None
    layers: int = 0
    num_layers: int = 0
    repeats: int = 0
    error: float | None = None
    reason: str = ""


def compare(loaded: LoadedModel, token_counts: Sequence[int], *, budget_s: float) -> list[Timing]:
    """Time every way at each number of tokens; all together take about `budget_s` (plus a first run of each)."""
    modules = fused_packed(loaded.model)
    ways: list[tuple[str, Forward | str]] = [*_ours(loaded), *_baselines(loaded)]
    timings: list[Timing] = []
    started = time.perf_counter()
    left = len(ways) * len(token_counts)
    for tokens in token_counts:
        inputs = make_inputs(loaded, modules[0], tokens)
        for name, forward in ways:
            share_s = (budget_s - (time.perf_counter() - started)) / left
            left -= 1
            if isinstance(forward, str):
                timings.append(Timing(name, tokens, reason=forward))
            elif name.endswith("graph") and tokens > GRAPH_MAX_TOKENS:
                timings.append(Timing(name, tokens, reason="prefills run without graphs"))
            else:
                timings.append(_time(name, forward, modules, inputs, loaded, share_s))
                _release_scratch()
    return timings


def fused_packed(model: Any) -> list[Any]:
    """Return the experts modules of all layers, which are packed."""
    return [module for module in fused_experts(model).values() if hasattr(module, "gate_up_proj_absmax")]


def make_inputs(loaded: LoadedModel, module: Any, tokens: int) -> Inputs:
    """Return activations of unit size and a uniform routing."""
    num_experts, hidden = module.down_proj.shape[:2]
    top_k = loaded.model.config.text_config.num_experts_per_tok
    states = torch.randn(tokens, hidden, device=loaded.device).to(loaded.dtype)
    shares, index = torch.rand(tokens, num_experts, device=loaded.device).topk(top_k)
    return states, index, (shares / shares.sum(-1, keepdim=True)).to(loaded.dtype)


def _release_scratch() -> None:
    """Give back what a way has taken before the next one."""
    if torch.cuda.is_available():
        from model_loader.experts import dequantise

        dequantise.release_scratch()
    release_memory()


def _ours(loaded: LoadedModel) -> list[tuple[str, Forward | str]]:
    names = ("ours: fused, graph", "ours: fused", "ours: dequantise")
    if not loaded.device.startswith("cuda"):
        return [(name, "Triton kernels run on CUDA") for name in names]
    from model_loader.experts import dequantise, fused

    def run_fused(module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        step = plan_for(hidden.device).step(hidden.shape[0])
        return fused.fused_experts(hidden, *packed_weights(module), index, weights, step)

    def run_dequantised(module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        dense = plan_for(hidden.device).dense
        return dequantise.dequantised_experts(hidden, *packed_weights(module), index, weights, dense)

    return list(zip(names, (run_fused, run_fused, run_dequantised), strict=True))


def _baselines(loaded: LoadedModel) -> list[tuple[str, Forward | str]]:
    probe = torch.zeros(16, 16, dtype=loaded.dtype, device=loaded.device)
    offsets = torch.tensor([16], dtype=torch.int32, device=loaded.device)
    has_grouped = _can_use_grouped_mm(probe, probe[None], offsets)
    grouped = "dequantise + torch grouped_mm" if has_grouped else "dequantise + transformers' loop (no grouped_mm)"
    return [
        ("torch reference", reference.nf4_experts_forward),
        ("bitsandbytes, each expert", PerExpert()),
        (grouped, dequantised_grouped_mm),
    ]


class PerExpert:
    """bitsandbytes' 4-bit product for each used expert, as if experts were Linear4bit modules."""

    def __init__(self) -> None:
        self._states: dict[int, list[tuple[Any, Any]]] = {}  # made once a module, as a Linear4bit holds them

    def __call__(self, module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """hidden: [tokens, hidden]. index, weights: [tokens, k]. Returns [tokens, hidden]."""
        states = self._states.get(id(module)) or self._make(module, hidden.dtype)
        output = torch.zeros_like(hidden)
        for expert in torch.bincount(index.flatten()).nonzero().flatten().tolist():
            tokens, place = torch.where(index == expert)
            (up, up_state), (down, down_state) = states[expert]
            inner = module._apply_gate(bnb.matmul_4bit(hidden[tokens], up, up_state))
            result = bnb.matmul_4bit(inner, down, down_state) * weights[tokens, place, None]
            output.index_add_(0, tokens, result.to(output.dtype))
        return output

    def _make(self, module: Any, dtype: torch.dtype) -> list[tuple[Any, Any]]:
        gate_up, gate_up_absmax, down, down_absmax = packed_weights(module)
        code = bnb_functional.get_4bit_type("nf4", device=gate_up.device)

        def part(packed: torch.Tensor, absmax: torch.Tensor) -> tuple[torch.Tensor, Any]:
            shape = torch.Size((packed.shape[0], 2 * packed.shape[1]))
            state = bnb_functional.QuantState(
                absmax.reshape(-1), shape=shape, code=code, blocksize=BLOCK_SIZE, quant_type="nf4", dtype=dtype
            )
            return packed.reshape(-1, 1), state

        experts = range(gate_up.shape[0])
        self._states[id(module)] = [
            (part(gate_up[e], gate_up_absmax[e]), part(down[e], down_absmax[e])) for e in experts
        ]
        return self._states[id(module)]


class _Unpacked:
    """An experts module whose projections are unpacked by bitsandbytes; everything else is its own."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        gate_up, gate_up_absmax, down, down_absmax = packed_weights(module)
        self._module = module
        self.gate_up_proj = self._unpack(gate_up, gate_up_absmax, dtype)
        self.down_proj = self._unpack(down, down_absmax, dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    @staticmethod
    def _unpack(packed: torch.Tensor, absmax: torch.Tensor, dtype: torch.dtype) -> Any:
        """[E, N, K/2] to [E, N, K], one call for the whole stack."""
        shape, unpack = (*packed.shape[:-1], 2 * packed.shape[-1]), torch.ops.bitsandbytes.dequantize_4bit.default
        return unpack(packed.view(-1, 1), absmax.view(-1), BLOCK_SIZE, "nf4", shape, dtype)


def dequantised_grouped_mm(
    module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Unpack the layer to 16 bit, then transformers' grouped product: one layer's experts at a time in memory."""
    result: torch.Tensor = grouped_mm_experts_forward(_Unpacked(module, hidden.dtype), hidden, index, weights)
    return result


@torch.inference_mode()
def _time(
    name: str, forward: Forward, modules: Sequence[Any], inputs: Inputs, loaded: LoadedModel, budget_s: float
) -> Timing:
    tokens = inputs[0].shape[0]
    try:
        few = tuple(tensor[:CHECK_TOKENS] for tensor in inputs)
        expected = reference.nf4_experts_forward(modules[0], *few).float()
        error = float((forward(modules[0], *few).float() - expected).norm() / expected.norm())
        forward(modules[0], *inputs)  # builds kernels and takes scratch
        layer_s = _seconds(lambda: forward(modules[0], *inputs), loaded.device)
        layers = max(1, min(len(modules), int(budget_s / layer_s / 3)))

        def run() -> None:
            for module in modules[:layers]:
                forward(module, *inputs)

        timed = _captured(run) if name.endswith("graph") else run
        _seconds(timed, loaded.device)
        repeats = max(1, min(MAX_REPEATS, int(budget_s / layer_s / layers) - 1))
        seconds = statistics.median(_seconds(timed, loaded.device) for _ in range(repeats))
        return Timing(name, tokens, seconds * 1e3 * len(modules) / layers, layers, len(modules), repeats, error)
    except Exception as failure:  # a benchmark's border: the others go on
        return Timing(name, tokens, num_layers=len(modules), reason=one_line(failure))


def _seconds(run: Callable[[], Any], device: str) -> float:
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def _captured(run: Callable[[], None]) -> Callable[[], None]:
    """Record `run`, which has run before, into a CUDA graph."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
