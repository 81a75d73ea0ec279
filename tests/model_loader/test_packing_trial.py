"""bitsandbytes that does something wrong on a card is told before anything is downloaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model_loader.errors import ModelError, SetupIncomplete
from model_loader.experts.quantizer import pack_experts
from model_loader.packing_trial import ROWS, try_packing


def shifted_pack(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    packed, absmax = pack_experts(weight)
    return packed.roll(1, dims=1), absmax


def nothing(linear: Any) -> torch.Tensor:
    return torch.zeros(linear.out_features, linear.in_features)


def not_numbers(linear: Any) -> torch.Tensor:
    return torch.full((linear.out_features, linear.in_features), torch.nan)


def wrong_for_one_row(linear: Any, x: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = linear(x)
    return product * torch.nan if len(x) == min(ROWS) else product


def test_what_works_is_no_trouble() -> None:
    try_packing("cpu", torch.float32)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pack": shifted_pack}, r"packs weights wrong on cpu \(1\d\d% of their norm"),
        ({"unpack": nothing}, r"unpacks weights wrong on cpu \(100% of their norm"),
        ({"unpack": not_numbers}, r"unpacks weights wrong on cpu \(nan%"),
        ({"multiply": wrong_for_one_row}, r"multiplies by weights wrong on cpu \(nan%"),
    ],
)
def test_what_is_wrong_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupIncomplete, match=f"bitsandbytes {told}"):
        try_packing("cpu", torch.float32, **given)


def test_what_fails_is_not_blamed_on_the_files() -> None:
    with pytest.raises(ModelError, match="packing to 4 bits on") as raised:
        try_packing("cuda:99", torch.bfloat16)
    assert "download" not in str(raised.value)


@pytest.mark.gpu
def test_bitsandbytes_is_right_on_this_card() -> None:
    try_packing("cuda", torch.bfloat16)
