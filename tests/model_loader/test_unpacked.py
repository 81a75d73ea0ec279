"""Unpacked 4-bit weights give what the packed ones give, and change nothing that is saved."""

from __future__ import annotations

import logging
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file

from model_loader.checkpoint import SINGLE_NAME
from model_loader.experts import reference, unpacked
from model_loader.experts.unpacked import drop_unpacked, unpack_small, unpacked_experts_forward
from model_loader.loader import load_model
from tests.model_loader.packed import exact_forward, packed_module, relative_error, routing

ALL_EXPERTS = unpacked.ALL_EXPERTS_MAX_TOKENS


@pytest.mark.parametrize("choose", ["any", "one", "dropped"], ids=["any experts", "the same experts", "dropped routes"])
@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k"),
    [
        pytest.param(1, 4, 1, id="one token, one expert"),
        pytest.param(5, 8, 2, id="few tokens, two experts"),
        pytest.param(ALL_EXPERTS, 3, 2, id="as many as run through all experts"),
        pytest.param(ALL_EXPERTS + 1, 3, 2, id="one more"),
        pytest.param(150, 7, 1, id="many tokens, one expert"),
        pytest.param(4, 17, 2, id="many experts, most of them idle"),
        pytest.param(0, 17, 2, id="no token"),
    ],
)
def test_unpacked_experts_equal_the_packed_reference(tokens: int, num_experts: int, top_k: int, choose: str) -> None:
    module = packed_module(num_experts, 128, 64)
    hidden = torch.randn(tokens, 128, generator=torch.Generator().manual_seed(tokens))
    index, weights = routing(tokens, num_experts, top_k, choose)
    expected = reference.nf4_experts_forward(module, hidden, index, weights)
    assert unpack_small(module, torch.float32)
    output = unpacked_experts_forward(module, hidden, index, weights)
    assert output.dtype == hidden.dtype
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    assert relative_error(output, exact_forward(module, hidden, index, weights)) < 1e-5


@pytest.mark.parametrize(("tokens", "num_experts"), [(3, 4), (ALL_EXPERTS + 1, 4), (3, 17)])
def test_tokens_routed_nowhere_get_nothing(tokens: int, num_experts: int) -> None:
    module = packed_module(num_experts, 64, 64)
    unpack_small(module, torch.float32)
    index = torch.full((tokens, 2), num_experts)
    output = unpacked_experts_forward(module, torch.randn(tokens, 64), index, torch.rand(tokens, 2))
    assert torch.equal(output, torch.zeros(tokens, 64))


@pytest.mark.parametrize("tokens", [4, ALL_EXPERTS + 1], ids=["few", "many"])
def test_a_tokens_result_does_not_depend_on_dropped_neighbours(tokens: int) -> None:
    module = packed_module(4, 64, 64)
    unpack_small(module, torch.float32)
    hidden = torch.randn(tokens, 64, generator=torch.Generator().manual_seed(1))
    index, weights = routing(tokens, 4, 2)
    index[1::2] = 4
    with_neighbours = unpacked_experts_forward(module, hidden, index, weights)
    alone = unpacked_experts_forward(module, hidden[::2], index[::2], weights[::2])
    torch.testing.assert_close(with_neighbours[::2], alone, rtol=1e-4, atol=1e-6)
    assert not with_neighbours[1::2].any()


def test_bfloat16_stays_near_the_exact_result() -> None:
    module = packed_module(8, 128, 64)
    hidden = torch.randn(20, 128, generator=torch.Generator().manual_seed(2)).bfloat16()
    index, weights = routing(20, 8, 2)
    unpack_small(module, torch.bfloat16)
    output = unpacked_experts_forward(module, hidden, index, weights.bfloat16())
    assert output.dtype == torch.bfloat16
    assert relative_error(output, exact_forward(module, hidden, index, weights.bfloat16().float())) < 0.02


def test_a_model_too_large_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    module = packed_module(4, 64, 64)
    needed = 4 * (2 * 64 * 64 + 2 * 64 * 64) * 4  # gate_up, and down twice, in float32
    assert not unpack_small(module, torch.float32, needed - 1)
    assert not hasattr(module, "unpacked")
    with caplog.at_level(logging.INFO):
        assert unpack_small(module, torch.float32, needed)
    held = module.unpacked
    assert sum(t.nbytes for t in (held.gate_up, held.down, held.joined_down)) == needed
    assert f"({needed / 2**20:.0f} MiB)" in caplog.text


def test_a_model_without_4_bit_weights_is_left_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert not unpack_small(model, torch.float32)


def test_a_loaded_model_answers_the_same_unpacked_and_saves_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    packed = load_model(str(folder), device="cpu").model
    drop_unpacked(packed)
    packed.save_pretrained(tmp_path / "packed")
    ids = torch.arange(24)[None]
    with torch.inference_mode():
        expected = packed(input_ids=ids).logits
    before = {name: value.clone() for name, value in packed.state_dict().items()}
    assert unpack_small(packed, torch.float32)
    kinds = {type(module) for module in packed.modules() if isinstance(module, bnb.nn.Linear4bit)}
    assert kinds == {unpacked.UnpackedLinear}
    with torch.inference_mode():
        torch.testing.assert_close(packed(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-4)
    after = packed.state_dict()
    assert after.keys() == before.keys()
    packed.save_pretrained(tmp_path / "unpacked")
    files = [load_file(tmp_path / kind / SINGLE_NAME) for kind in ("packed", "unpacked")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    drop_unpacked(packed)
    with torch.inference_mode():
        assert torch.equal(packed(input_ids=ids).logits, expected)
    assert not any(hasattr(module, "unpacked") for module in packed.modules())
