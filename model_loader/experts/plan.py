"""Which tiles the experts' kernels use, and up to how many tokens they read packed weights. Imports no Triton.

A plan belongs to a device. Before `calibrate` has set one, the defaults by compute capability hold; they were
computed from bandwidth and arithmetic rates, not measured. Looking a plan up reads a dict, and never waits for the
device. Raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from model_loader.cards import LEAST_CAPABILITY

DEFAULT_LINEAR_MAX_ROWS = 1024

Path = Literal["fused", "dequantised", "reference"]


@dataclass(frozen=True, slots=True)
class Tile:
    """Launch shape of one product: columns a program (a power of 2 >= 16), warps, loads in flight, blocks a round."""

    block_n: int
    num_warps: int
    num_stages: int
    unroll: int = 4


@dataclass(frozen=True, slots=True)
class Step:
    """The tiles of one experts forward of up to `max_tokens`. `block_m`: rows a tile (a power of 2 >= 16)."""

    max_tokens: int
    block_m: int
    gate_up: Tile
    down: Tile


@dataclass(frozen=True, slots=True)
class ExpertsPlan:
    """How the experts of one device run. Up to `fused_max_tokens` from packed weights, beyond by dequantising a layer.

    `fused` is sorted by `max_tokens`; the last one serves everything above. () or None of `fused` and `dense`: that
    path cannot be used, and the other serves all; without both it is plain torch. `linear_max_rows` is the same border
    for linears. `slower`: what cannot be used that should be, the code of a check and why.
    """

    name: str
    fused_max_tokens: int
    fused: tuple[Step, ...]
    dense: Step | None
    linear_max_rows: int = DEFAULT_LINEAR_MAX_ROWS
    slower: tuple[tuple[str, str], ...] = ()

    def path(self, tokens: int) -> Path:
        """What serves `tokens`."""
        if self.fused and (self.dense is None or tokens <= self.fused_max_tokens):
            return "fused"
        return "dequantised" if self.dense is not None else "reference"

    def step(self, tokens: int) -> Step:
        """Return the fused step that serves `tokens`."""
        return next((step for step in self.fused if tokens <= step.max_tokens), self.fused[-1])


# Tiles whose compiled code for sm_80 to sm_90 spills next to nothing, fits 99 KiB of shared memory, and decodes each
# weight in one warp only (with more rows than columns a tile's warps would divide the rows and all decode).
FUSED = (
    Step(128, 16, gate_up=Tile(32, 4, 4), down=Tile(64, 4, 4)),
    Step(1024, 32, gate_up=Tile(64, 4, 3, unroll=2), down=Tile(128, 4, 3, unroll=2)),
    Step(1_000_000, 64, gate_up=Tile(128, 8, 3, unroll=1), down=Tile(128, 4, 3, unroll=1)),
)
DENSE = Step(1_000_000, 128, gate_up=Tile(64, 8, 3), down=Tile(128, 8, 3))
REFERENCE = ExpertsPlan("reference", 0, (), None, linear_max_rows=0)

_plans: dict[torch.device, ExpertsPlan] = {}


def default_plan(capability: tuple[int, int]) -> ExpertsPlan:
    """Return the plan for a card of that compute capability before anything was measured.

    The kernels are for NVIDIA's bfloat16 tensor cores: older cards and other makers' get the reference.
    """
    if capability < LEAST_CAPABILITY or torch.version.hip is not None:
        return REFERENCE
    fused_max_tokens = 1024 if capability >= (9, 0) else 4096 if capability >= (8, 9) else 2048
    return ExpertsPlan("default", fused_max_tokens, FUSED, DENSE)


def plan_for(device: torch.device) -> ExpertsPlan:
    """Return the plan in force on `device`."""
    plan = _plans.get(device)
    if plan is None:
        plan = REFERENCE if device.type != "cuda" else default_plan(torch.cuda.get_device_capability(device))
        _plans[device] = plan
    return plan


def never_dequantise(device: torch.device) -> None:
    """Let `device` read packed experts however many tokens come: long prefills are slower, and need no scratch."""
    plan = plan_for(device)
    if plan.fused:
        set_plan(device, replace(plan, fused_max_tokens=FUSED[-1].max_tokens))


def set_plan(device: torch.device, plan: ExpertsPlan) -> None:
    """Let the experts and linears of `device` run by `plan` from now on."""
    _plans[device] = plan
