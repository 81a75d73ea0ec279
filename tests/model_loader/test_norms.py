"""The fused norm against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRMSNorm
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeTextRMSNorm

from model_loader.norms import FusedRMSNorm, use_fused_norms
from tests.model_loader.checkpoints import dense_config, tiny_config, tiny_model

SHAPES = [(1, 1, 64), (1, 37, 2048), (5, 7, 4, 128), (0, 64)]


STOCK = [Qwen3VLMoeTextRMSNorm, Qwen3VLTextRMSNorm]


def norms(
    size: int, dtype: torch.dtype, kind: type[torch.nn.Module] = STOCK[0]
) -> tuple[torch.nn.Module, torch.nn.Module]:
    random = torch.Generator().manual_seed(size)
    stock = kind(size).requires_grad_(False)
    stock.weight.copy_(torch.rand(size, generator=random) * 3)
    fused = torch.nn.Sequential(kind(size)).requires_grad_(False)
    use_fused_norms(fused)
    fused[0].load_state_dict(stock.state_dict())
    return stock.to(dtype), fused[0].to(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spread", [1e-4, 1.0, 300.0], ids=["small", "usual", "large"])
@pytest.mark.parametrize("kind", STOCK)
def test_float32_equals_transformers_to_the_last_bits(
    shape: tuple[int, ...], spread: float, kind: type[torch.nn.Module]
) -> None:
    stock, fused = norms(shape[-1], torch.float32, kind)
    assert isinstance(fused, FusedRMSNorm)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * spread
    torch.testing.assert_close(fused(hidden), stock(hidden), rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_one_rounding_from_the_exact_value(shape: tuple[int, ...]) -> None:
    stock, fused = norms(shape[-1], torch.bfloat16)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    wide = hidden.double()
    exact = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + fused.variance_epsilon) * fused.weight.double()
    torch.testing.assert_close(fused(hidden).double(), exact, rtol=2**-8, atol=1e-30)
    torch.testing.assert_close(fused(hidden).double(), stock(hidden).double(), rtol=2**-7, atol=1e-30)


def test_a_row_of_zeros_stays_zero() -> None:
    _, fused = norms(64, torch.float32)
    assert not fused(torch.zeros(2, 64)).any()


@pytest.mark.parametrize("config", [tiny_config(), dense_config()], ids=["mixture of experts", "dense"])
def test_every_norm_of_the_language_model_is_switched_and_no_parameter_changes(config: Any) -> None:
    model = tiny_model(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    use_fused_norms(model)
    use_fused_norms(model)
    kinds = {type(module) for module in model.modules() if "RMSNorm" in type(module).__name__}
    assert kinds == {FusedRMSNorm}
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
