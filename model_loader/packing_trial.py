"""What bitsandbytes does with a few random weights on a card, before anything is downloaded for it.

It packs all weights, unpacks those of linears for long prefills, and multiplies by packed ones where our kernels cannot
be used. A binary that does one of these wrong on a new card would give fluent nonsense, and nothing else would tell.
Raises CardUnusable, SetupIncomplete and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F  # noqa: N812

from model_loader.errors import SetupIncomplete
from model_loader.experts import quantizer
from model_loader.experts.reference import BLOCK_SIZE, dequantise_nf4
from model_loader.load_errors import named_errors

LOST = 0.2
"""Of the norm of normal weights: NF4 loses a tenth of it."""
ROWS = (1, 8, 32, 256)
"""bitsandbytes has kernels of its own for one row, and for few."""

Pack = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Unpack = Callable[[Any], torch.Tensor]
Multiply = Callable[[Any, torch.Tensor], torch.Tensor]


def _unpack(linear: Any) -> torch.Tensor:
    weight: torch.Tensor = bnb_functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    return weight


def _multiply(linear: Any, x: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = linear(x)
    return product


@torch.inference_mode()
def try_packing(
    device: str,
    dtype: torch.dtype,
    pack: Pack = quantizer.pack_experts,
    unpack: Unpack = _unpack,
    multiply: Multiply = _multiply,
) -> None:
    """Pack, unpack and multiply on `device`. What is given in the place of bitsandbytes is tried instead."""
    with named_errors(f"packing to 4 bits on {device}", "failed"):
        weights = torch.randn(2, 2 * BLOCK_SIZE, 4 * BLOCK_SIZE, dtype=dtype, device=device)
        lost = [("packs", _lost(dequantise_nf4(*pack(weights), dtype), weights))]
        weight, linear = weights[0], _linear(weights[0])
        lost.append(("unpacks", _lost(unpack(linear).to(dtype), weight)))
        for rows in ROWS:
            x = torch.randn(rows, weight.shape[1], dtype=dtype, device=device)
            lost.append(("multiplies by", _lost(multiply(linear, x), F.linear(x, weight))))
    for does, share in lost:
        if not share < LOST:
            raise SetupIncomplete(
                f"bitsandbytes {does} weights wrong on {device} ({share:.0%} of their norm is lost): install the "
                "versions of constraints.txt; `python -m bitsandbytes` says more"
            )


def _linear(weight: torch.Tensor) -> Any:
    """bitsandbytes' own, packed as transformers has it pack a model's."""
    columns, depth = weight.shape
    linear = bnb.nn.Linear4bit(depth, columns, bias=False, compute_dtype=weight.dtype, quant_type="nf4")
    linear.weight = bnb.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", blocksize=BLOCK_SIZE, compress_statistics=False
    )
    return linear.to(weight.device)


def _lost(found: torch.Tensor, expected: torch.Tensor) -> float:
    """NaN where `found` holds one."""
    return float((found - expected).float().norm() / expected.float().norm())
