"""The decode attention kernel against plain torch, at the model's own heads, before it serves.

Raises what a card raises that has failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch

from backend.engine.kv_blocks import BLOCK_TOKENS, blocks_for
from model_loader.experts.self_check import difference, said_of
from model_loader.load_errors import is_fault

log = logging.getLogger(__name__)

TOKENS = (1, 8, 16, 32, 64, 128, 192)
"""Of a step: how many parts the kernel cuts a token's keys in follows from it, and each doubling gives the next."""
LONGEST = 800
WIDTHS = (blocks_for(LONGEST), -(-blocks_for(LONGEST) // 16) * 16)
"""Of the block table: Triton builds another kernel for a multiple of 16, as a graph's is."""
NUM_BLOCKS = 128

Attend = Callable[..., torch.Tensor]


@torch.inference_mode()
def attention_wrong(
    text_config: Any,
    device: str,
    dtype: torch.dtype,
    attend: Attend | None = None,
    sizes: Sequence[int] = TOKENS,
) -> str:
    """Return why the decode attention kernel cannot be used, "" where it can.

    `attend`: another one in its place, called as `slot_attention.slot_attention` is. `sizes`: tokens of a step.
    """
    try:
        attend = attend or _kernel()
        for tokens, width in product(sizes, WIDTHS):
            query, keys, values, table, length = _inputs(text_config, tokens, width, device, dtype)
            scale = query.shape[2] ** -0.5
            output = attend(query, keys, values, table, length, scale)
            if said := difference(output, plain_attention(query, keys, values, table, length, scale)):
                raise ArithmeticError(f"{tokens} tokens: {said}")
    except Exception as error:  # a kernel's border: whatever it is, plain torch computes without it
        if is_fault(error):
            raise
        log.error("the attention kernel is not used: %s", error)
        return said_of(error)
    return ""


def _kernel() -> Attend:
    from backend.engine.slot_attention import slot_attention  # here, so that a machine without Triton can load a model

    return slot_attention


def plain_attention(
    query: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    table: torch.Tensor,
    length: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """What `slot_attention` is to compute, in float32: [N, heads, D]."""
    tokens, heads, head_dim = query.shape
    kv_heads = k_pool.shape[1]
    number = torch.arange(int(length.max()), device=query.device)
    rows = table[:, number // BLOCK_TOKENS].long() * BLOCK_TOKENS + number % BLOCK_TOKENS
    keys, values = (pool[rows].float() for pool in (k_pool, v_pool))  # [N, T, kv_heads, D]
    queries = query.float().view(tokens, kv_heads, heads // kv_heads, head_dim)
    scores = torch.einsum("nkgd,ntkd->nkgt", queries, keys) * scale
    is_hidden = number[None] >= length[:, None]
    shares = scores.masked_fill(is_hidden[:, None, None], -torch.inf).softmax(dim=-1)
    return torch.einsum("nkgt,ntkd->nkgd", shares, values).reshape(query.shape)


def _inputs(text_config: Any, tokens: int, width: int, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Random query, keys, values, block table [tokens, `width`] and lengths of tokens, each of a slot of its own."""
    heads, kv_heads = int(text_config.num_attention_heads), int(text_config.num_key_value_heads)
    head_dim = int(text_config.head_dim)
    query = torch.randn(tokens, heads, head_dim, device=device).to(dtype)
    keys, values = (
        torch.randn(NUM_BLOCKS * BLOCK_TOKENS, kv_heads, head_dim, device=device).to(dtype) for _ in range(2)
    )
    lengths = [(37 * token) % LONGEST + 1 for token in range(tokens)]
    table = torch.randint(NUM_BLOCKS, (tokens, width), dtype=torch.int32, device=device)
    return query, keys, values, table, torch.tensor(lengths, dtype=torch.int32, device=device)
