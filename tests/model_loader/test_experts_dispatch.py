"""Which path serves a call, and which plan is in force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import bitsandbytes as bnb
import pytest
import torch
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from model_loader import experts
from model_loader.experts.dispatch import choose_path, left_out
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import (
    DENSE,
    FUSED,
    REFERENCE,
    ExpertsPlan,
    Step,
    default_plan,
    never_dequantise,
    plan_for,
    set_plan,
)  # fmt: skip
from tests.model_loader.packed import exact_forward, packed_module, relative_error, routing

CPU = torch.device("cpu")
SMALL = ExpertsPlan("small", 8, FUSED, replace(DENSE, block_m=16))


@pytest.fixture
def _with_kernels() -> Iterator[None]:
    """The CPU runs kernels, up to 8 tokens the fused ones."""
    set_plan(CPU, SMALL)
    yield
    set_plan(CPU, REFERENCE)


@pytest.mark.parametrize(
    ("tokens", "activation", "path"),
    [
        pytest.param(1, nn.SiLU(), "fused", id="one token"),
        pytest.param(8, nn.SiLU(), "fused", id="as many as the plan fuses"),
        pytest.param(9, nn.SiLU(), "dequantised", id="one more"),
        pytest.param(4, nn.GELU(), "reference", id="another activation than the kernels know"),
    ],
)
@pytest.mark.usefixtures("_with_kernels")
def test_the_call_picks_the_path_and_each_computes_the_same(tokens: int, activation: nn.Module, path: str) -> None:
    module = packed_module(3, 64, 64)
    module.act_fn = activation
    hidden = torch.randn(tokens, 64, generator=torch.Generator().manual_seed(0))
    index, weights = routing(tokens, 3, 2, "dropped")
    assert choose_path(module, hidden) == path
    output = experts.nf4_experts_forward(module, hidden, index, weights)
    assert relative_error(output, exact_forward(module, hidden, index, weights)) < 1e-5


@pytest.mark.parametrize(
    ("activation", "kind", "told"),
    [
        (nn.SiLU(), FusedLinear4bit, {}),
        (nn.GELU(), FusedLinear4bit, {"slow_experts": "has another gate than the kernels compute"}),
        (nn.SiLU(), bnb.nn.Linear4bit, {"slow_linears": "packs 1 of 1 otherwise than it reads"}),
    ],
)
def test_what_the_kernels_do_not_serve_is_told(activation: nn.Module, kind: type, told: dict[str, str]) -> None:
    module, linear = packed_module(3, 64, 64), bnb.nn.Linear4bit(64, 64, bias=False)
    module.act_fn, linear.__class__ = activation, kind
    found = left_out(nn.ModuleList([module, linear]))
    assert found.keys() == told.keys()
    assert all(told[code] in said for code, said in found.items())


def test_a_cpu_runs_the_reference_unless_told_otherwise() -> None:
    assert plan_for(CPU) is REFERENCE


@pytest.mark.parametrize(
    ("capability", "fused_max_tokens"),
    [
        pytest.param((8, 0), 2048, id="A100"),
        pytest.param((8, 6), 2048, id="RTX 3090, A10"),
        pytest.param((8, 9), 4096, id="RTX 4090, L4"),
        pytest.param((9, 0), 1024, id="H100"),
        pytest.param((12, 0), 1024, id="newer than any known here"),
    ],
)
def test_the_default_border_follows_the_compute_capability(capability: tuple[int, int], fused_max_tokens: int) -> None:
    assert default_plan(capability).fused_max_tokens == fused_max_tokens


def test_a_card_without_room_for_the_scratch_reads_packed_weights_for_any_prefill() -> None:
    device = torch.device("cuda", 99)
    set_plan(device, default_plan((8, 6)))
    never_dequantise(device)
    assert plan_for(device) == replace(default_plan((8, 6)), fused_max_tokens=1_000_000)
    never_dequantise(CPU)
    assert plan_for(CPU) is REFERENCE


@pytest.mark.parametrize(
    ("capability", "hip"), [pytest.param((7, 5), None, id="T4"), pytest.param((9, 4), "7.0", id="AMD")]
)
def test_cards_the_kernels_are_not_for_run_the_reference(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    assert default_plan(capability) is REFERENCE


def test_a_plan_gives_the_smallest_step_that_holds_the_tokens() -> None:
    def max_tokens(tokens: int) -> int:
        step: Step = SMALL.step(tokens)
        return step.max_tokens

    limits = [step.max_tokens for step in FUSED]
    assert [max_tokens(n) for n in (1, limits[0], limits[0] + 1, 10**9)] == [
        limits[0],
        limits[0],
        limits[1],
        limits[-1],
    ]


def test_registering_makes_the_dispatching_forward_known() -> None:
    experts.register()
    assert ALL_EXPERTS_FUNCTIONS["nf4"] is experts.nf4_experts_forward


def test_registering_keeps_another_forward_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS, experts.EXPERTS_IMPLEMENTATION, len)
    experts.register()
    assert ALL_EXPERTS_FUNCTIONS[experts.EXPERTS_IMPLEMENTATION] is len
