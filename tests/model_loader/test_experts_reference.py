"""The reference experts forward against float32 arithmetic, and the format against bitsandbytes."""

from __future__ import annotations

import bitsandbytes.functional as bnb_functional
import pytest
import torch

from model_loader import experts
from model_loader.experts.quantizer import pack_experts
from tests.model_loader.packed import exact_forward, packed_module, relative_error

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dequantised_values_equal_bitsandbytes_bit_for_bit(dtype: torch.dtype) -> None:
    weight = torch.randn(96, 320, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight[3, :64] = 0  # a block whose absmax is 0
    codes, state = bnb_functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    ours = experts.dequantise_nf4(codes.view(96, 160), state.absmax.view(96, 5), dtype)
    assert torch.equal(ours, bnb_functional.dequantize_4bit(codes, state))


WEIGHTS = {
    "normal": torch.distributions.Normal(0.0, 0.02),
    "uniform": torch.distributions.Uniform(-0.5, 0.5),
    "with outliers": torch.distributions.StudentT(3.0),
}


@pytest.mark.parametrize("weights", list(WEIGHTS))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_absmax_in_bfloat16_costs_nothing_for_bfloat16_weights_and_next_to_nothing_for_others(
    dtype: torch.dtype, weights: str
) -> None:
    torch.manual_seed(0)
    weight = WEIGHTS[weights].sample((3, 128, 2048)).to(dtype)
    packed, absmax = pack_experts(weight)
    exact = torch.stack([bnb_functional.quantize_4bit(w, blocksize=64, quant_type="nf4")[1].absmax for w in weight])
    exact = exact.view(absmax.shape)
    assert (absmax.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(absmax.float(), exact) == (dtype == torch.bfloat16)
    error, least = (
        relative_error(experts.dequantise_nf4(packed, scales, torch.float64), weight.double())
        for scales in (absmax, exact)
    )
    assert 0.08 < least <= error < least * (1 + 1 / 2000)


@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k", "choose"),
    [
        pytest.param(17, 8, 2, "any", id="some experts empty"),
        pytest.param(1, 8, 3, "any", id="one token"),
        pytest.param(33, 5, 1, "first", id="all tokens on one expert"),
        pytest.param(12, 3, 3, "any", id="every expert for every token"),
        pytest.param(9, 1, 1, "first", id="one expert only"),
        pytest.param(10, 4, 2, "dropped", id="dropped routes add nothing"),
        pytest.param(0, 4, 2, "any", id="no token"),
    ],
)
def test_forward_equals_float64_arithmetic(tokens: int, num_experts: int, top_k: int, choose: str) -> None:
    module = packed_module(num_experts, 128, 192)
    random = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, 128, generator=random)
    index = torch.rand(tokens, num_experts, generator=random).argsort(dim=-1)[:, :top_k]
    if choose == "first":
        index = torch.zeros_like(index)
    if choose == "dropped":
        index[::2] = num_experts
    weights = torch.rand(tokens, top_k, generator=random)
    output = experts.nf4_experts_forward(module, hidden, index, weights)
    assert output.dtype == hidden.dtype
    torch.testing.assert_close(output.double(), exact_forward(module, hidden, index, weights), rtol=2e-5, atol=2e-5)


def test_bfloat16_forward_stays_near_the_exact_one() -> None:
    module = packed_module(6, 128, 64)
    hidden = torch.randn(20, 128, generator=torch.Generator().manual_seed(0))
    index = torch.arange(20).unsqueeze(-1) % 6
    weights = torch.ones(20, 1)
    output = experts.nf4_experts_forward(module, hidden.bfloat16(), index, weights.bfloat16())
    torch.testing.assert_close(output.double(), exact_forward(module, hidden, index, weights), rtol=0.05, atol=0.05)
