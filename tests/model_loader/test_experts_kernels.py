"""The Triton paths against float64 arithmetic: interpreted here, compiled at the 30B's shapes with `-m gpu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_loader.experts import dequantise_nf4
from model_loader.experts.dequantise import dequantise_to_scratch, dequantised_experts, release_scratch
from model_loader.experts.dispatch import packed_weights
from model_loader.experts.fused import fused_experts
from model_loader.experts.plan import Step, Tile
from tests.limits import examples
from tests.model_loader.packed import exact_forward, packed_module, relative_error, routing

# Of the norm. bfloat16 has four roundings of up to 2**-9: codes or weights, what lies between the products, the rows,
# the output. The interpreter cuts off instead of rounding: each is twice as large, and all pull the same way.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 3e-2}
STEP = Step(1024, 16, gate_up=Tile(32, 4, 2), down=Tile(64, 4, 2))
FAST = Step(1024, 64, gate_up=Tile(128, 4, 2), down=Tile(128, 4, 2))
PATHS = [pytest.param(fused_experts, id="fused"), pytest.param(dequantised_experts, id="dequantised")]
Forward = Callable[..., torch.Tensor]


def check(
    forward: Forward,
    module: Any,
    dtype: torch.dtype,
    index: torch.Tensor,
    weights: torch.Tensor,
    step: Step = STEP,
    tolerance: float | None = None,
) -> None:
    hidden = torch.randn(index.shape[0], module.down_proj.shape[1], generator=torch.Generator().manual_seed(1))
    hidden, weights = hidden.to(index.device, dtype), weights.to(dtype)
    output = forward(hidden, *packed_weights(module), index, weights, step)
    assert (output.shape, output.dtype) == (hidden.shape, dtype)
    exact = exact_forward(module, hidden, index, weights)
    assert relative_error(output, exact) < (tolerance or TOLERANCE[dtype])


@pytest.mark.parametrize("forward", PATHS)
@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k", "hidden", "inner", "choose", "step"),
    [
        pytest.param(1, 8, 2, 64, 64, "any", STEP, id="one token"),
        pytest.param(2, 12, 8, 128, 64, "any", STEP, id="eight experts a token"),
        pytest.param(3, 20, 1, 64, 128, "any", STEP, id="most experts empty"),
        pytest.param(7, 4, 2, 192, 64, "dropped", STEP, id="dropped routes"),
        pytest.param(16, 3, 1, 64, 192, "one", STEP, id="all tokens on one expert, a full tile"),
        pytest.param(17, 3, 1, 128, 64, "one", STEP, id="one row more than a tile"),
        pytest.param(64, 4, 2, 64, 64, "any", FAST, id="tiles of 64"),
        pytest.param(65, 5, 2, 64, 64, "one", FAST, id="one row more than a tile of 64"),
        pytest.param(33, 1, 1, 64, 64, "any", STEP, id="one expert"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.soak)], ids=str)
def test_forward_equals_float64_arithmetic(
    forward: Forward,
    tokens: int,
    num_experts: int,
    top_k: int,
    hidden: int,
    inner: int,
    choose: str,
    step: Step,
    dtype: torch.dtype,
) -> None:
    check(forward, packed_module(num_experts, hidden, inner), dtype, *routing(tokens, num_experts, top_k, choose), step)


@pytest.mark.soak
@pytest.mark.parametrize("forward", PATHS)
def test_512_tokens_equal_float64_arithmetic(forward: Forward) -> None:
    check(forward, packed_module(4, 64, 64), torch.float32, *routing(512, 4, 2, "dropped"), FAST)


@pytest.mark.parametrize("forward", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_forward_in_16_bits_equals_float64_arithmetic(forward: Forward, dtype: torch.dtype) -> None:
    check(forward, packed_module(4, 128, 64), dtype, *routing(5, 4, 2, "dropped"))


@pytest.mark.parametrize("forward", PATHS)
@settings(max_examples=examples(2, 30), deadline=None)
@given(data=st.data())
def test_forward_equals_float64_arithmetic_on_any_shape(forward: Forward, data: st.DataObject) -> None:
    num_experts = data.draw(st.integers(1, 9), label="experts")
    top_k = data.draw(st.integers(1, min(4, num_experts)), label="top_k")
    tokens = data.draw(st.integers(1, 40), label="tokens")
    hidden, inner = (64 * data.draw(st.integers(1, 4), label=label) for label in ("hidden", "inner"))
    choose = data.draw(st.sampled_from(["any", "one", "dropped"]), label="routing")
    check(
        forward, packed_module(num_experts, hidden, inner), torch.float32, *routing(tokens, num_experts, top_k, choose)
    )


@pytest.mark.parametrize("forward", PATHS)
def test_columns_need_not_fill_the_tile(forward: Forward) -> None:
    wide = Step(1024, 16, gate_up=Tile(128, 4, 2), down=Tile(256, 4, 2))
    check(forward, packed_module(2, 192, 64), torch.float32, *routing(3, 2, 1), wide)


@pytest.mark.parametrize("forward", PATHS)
def test_indices_of_32_bit_and_strided_inputs_are_taken(forward: Forward) -> None:
    module = packed_module(4, 64, 64)
    index, weights = routing(6, 4, 2)
    hidden = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)).T
    output = forward(hidden, *packed_weights(module), index.T.contiguous().T.int(), weights.T.contiguous().T, STEP)
    assert relative_error(output, exact_forward(module, hidden, index, weights)) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("forward", PATHS)
def test_no_token_gives_no_row(forward: Forward) -> None:
    module = packed_module(2, 64, 64)
    hidden = torch.empty(0, 64)
    index = torch.empty(0, 1, dtype=torch.int64)
    assert forward(hidden, *packed_weights(module), index, torch.empty(0, 1), STEP).shape == (0, 64)


@pytest.mark.parametrize("forward", PATHS)
def test_a_token_whose_routes_are_all_dropped_gets_zero(forward: Forward) -> None:
    module = packed_module(2, 64, 64)
    index = torch.full((3, 2), 2)
    output = forward(torch.randn(3, 64), *packed_weights(module), index, torch.ones(3, 2), STEP)
    assert torch.equal(output, torch.zeros(3, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_dequantised_bits_are_those_of_the_reference(dtype: torch.dtype) -> None:
    module = packed_module(3, 192, 64)
    for packed, absmax in (packed_weights(module)[:2], packed_weights(module)[2:]):
        assert torch.equal(dequantise_to_scratch(packed, absmax, dtype), dequantise_nf4(packed, absmax, dtype))


def test_dequantised_bfloat16_is_off_by_the_interpreters_missing_rounding_at_most() -> None:
    packed, absmax = packed_weights(packed_module(2, 64, 64))[:2]
    ours, exact = dequantise_to_scratch(packed, absmax, torch.bfloat16), dequantise_nf4(packed, absmax, torch.float32)
    torch.testing.assert_close(ours.float(), exact, rtol=2**-7, atol=0)


def test_projections_share_one_scratch_until_it_is_released() -> None:
    release_scratch()
    module = packed_module(2, 64, 64)
    first = dequantise_to_scratch(*packed_weights(module)[:2], torch.float32)
    second = dequantise_to_scratch(*packed_weights(module)[2:], torch.float32)
    assert first.data_ptr() == second.data_ptr()
    assert first.numel() == 2 * second.numel()
    release_scratch()


@pytest.mark.gpu
@pytest.mark.parametrize("forward", PATHS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 16, 17, 64, 65, 512, 2048], ids="{} tokens".format)
@pytest.mark.parametrize("choose", ["any", "one", "dropped"])
def test_compiled_kernels_equal_the_exact_forward_at_30b(forward: Forward, tokens: int, choose: str) -> None:
    from model_loader.experts.plan import DENSE, default_plan

    module = packed_module(128, 2048, 768, "cuda")
    step = default_plan((8, 6)).step(tokens) if forward is fused_experts else DENSE
    check(forward, module, torch.bfloat16, *routing(tokens, 128, 8, choose, "cuda"), step, tolerance=1e-2)
