"""Packed attention over slots against plain causal attention of each slot alone, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from backend.engine import attention
from backend.engine.attention import Span, attend_to_slots, plan_attention
from backend.engine.kv_blocks import BLOCK_TOKENS, blocks_for
from tests.limits import examples

HEAD_DIM = 16


def exact(
    spans: list[Span],
    table: NDArray[np.int32],
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """query: [heads, N, D]; keys, values: [positions, kv_heads, D]. Returns [N, heads, D]."""
    group = query.shape[0] // keys.shape[1]
    results, first = [], 0
    for span, blocks in zip(spans, table, strict=True):
        own = torch.cat([torch.arange(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS) for block in blocks.tolist()])
        for step in range(span.length):
            seen = own[: span.start + step + 1]
            k, v = (pool[seen].double().repeat_interleave(group, dim=1) for pool in (keys, values))
            scores = torch.einsum("hd,lhd->hl", query[:, first + step].double(), k) * scaling
            results.append(torch.einsum("hl,lhd->hd", scores.softmax(-1), v))
        first += span.length
    return torch.stack(results)


def make_table(spans: list[Span], seed: int, *, num_shared: int = 0) -> NDArray[np.int32]:
    """Blocks for each span, in any order; the first `num_shared` of all are the same. 0 stands where none is needed."""
    needed = [blocks_for(span.start + span.length) for span in spans]
    table = np.zeros((len(spans), max(needed)), dtype=np.int32)
    free = (np.random.default_rng(seed).permutation(sum(needed)) + 1).tolist()
    shared = [free.pop() for _ in range(num_shared)]
    for row, count in zip(table, needed, strict=True):
        row[:count] = (shared + [free.pop() for _ in range(count - num_shared)])[:count]
    return table


def check(
    spans: list[Span],
    *,
    num_shared: int = 0,
    kv_heads: int = 2,
    heads_per_key: int = 2,
    seed: int = 0,
    in_place: bool = False,
) -> None:
    table = make_table(spans, seed, num_shared=num_shared)
    random = torch.Generator().manual_seed(seed)
    num_tokens = sum(span.length for span in spans)
    query = torch.randn(kv_heads * heads_per_key, num_tokens, HEAD_DIM, generator=random)
    # what lies outside the slots is no number, so that reading it would show
    buffer = torch.full((2, (int(table.max()) + 1) * BLOCK_TOKENS, kv_heads, HEAD_DIM), torch.nan)
    for span, blocks in zip(spans, table, strict=True):
        for number in range(span.start + span.length):
            at = blocks[number // BLOCK_TOKENS] * BLOCK_TOKENS + number % BLOCK_TOKENS
            buffer[:, at] = torch.randn(2, kv_heads, HEAD_DIM, generator=random)
    keys, values = buffer
    step = plan_attention(
        spans, table, heads_per_key=heads_per_key, device="cpu", dtype=torch.float32, in_place=in_place
    )
    output, weights = attend_to_slots(None, query[None], keys, values, None, 0.3, step)
    assert (output.shape, weights) == ((1, num_tokens, kv_heads * heads_per_key, HEAD_DIM), None)
    torch.testing.assert_close(output[0].double(), exact(spans, table, query, keys, values, 0.3), rtol=1e-4, atol=1e-5)


LAYOUTS = [
    pytest.param([Span(0, 1)], id="one token"),
    pytest.param([Span(0, 7)], id="a whole prompt"),
    pytest.param([Span(15, 1), Span(16, 1), Span(31, 1)], id="one token each, around a block"),
    pytest.param([Span(30, 5), Span(14, 5)], id="several tokens, over the end of a block"),
    pytest.param([Span(4, 2), Span(0, 5), Span(3, 1)], id="several tokens of unlike numbers"),
    pytest.param([Span(2, 1), Span(6, 1), Span(1, 4), Span(0, 2)], id="singles before multis"),
    pytest.param([Span(2, 2), Span(60, 1), Span(1, 4)], id="a single after a multi"),
    pytest.param([Span(40, 1), Span(33, 3), Span(0, 20), Span(16, 18)], id="who decodes before who starts"),
]


@pytest.mark.parametrize("in_place", [False, True], ids=["gathered", "in place"])
@pytest.mark.parametrize("spans", LAYOUTS)
def test_each_token_sees_its_own_slot_up_to_itself(spans: list[Span], in_place: bool) -> None:
    check(spans, in_place=in_place)


@pytest.mark.parametrize(
    ("kv_heads", "heads_per_key"), [(1, 1), (1, 8), (3, 1), (4, 3)], ids=["1 by 1", "1 by 8", "3 by 1", "4 by 3"]
)
def test_heads_that_share_keys_give_what_each_would_alone(kv_heads: int, heads_per_key: int) -> None:
    check([Span(2, 1), Span(26, 3), Span(0, 5)], kv_heads=kv_heads, heads_per_key=heads_per_key)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Slots in any order or with the singles first, and how many blocks they share."""
    num_shared = draw(st.integers(0, 2))
    spans = []
    for _ in range(draw(st.integers(1, 6))):
        length = draw(st.one_of(st.just(1), st.integers(1, 20)))
        spans.append(Span(num_shared * BLOCK_TOKENS + draw(st.integers(0, 40)), length))
    if draw(st.booleans()):
        spans = sorted(spans, key=lambda span: span.length)
    return spans, num_shared


@settings(max_examples=examples(30, 500), deadline=None)
@given(layout=layouts(), heads_per_key=st.integers(1, 3), seed=st.integers(0, 99))
def test_each_token_sees_its_own_slot_for_any_layout(
    layout: tuple[list[Span], int], heads_per_key: int, seed: int
) -> None:
    spans, num_shared = layout
    check(spans, num_shared=num_shared, heads_per_key=heads_per_key, seed=seed)


def test_pictures_see_only_themselves() -> None:
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 3, 4 * 6, HEAD_DIM, generator=random) for _ in range(3))
    bounds = torch.arange(0, 25, 6, dtype=torch.int32)
    together, _ = attention.attend_to_equal_pictures(None, query, key, value, scaling=0.2, cu_seq_lens_q=bounds)
    for first in range(0, 24, 6):
        own = slice(first, first + 6)
        scores = (query[0, :, own] @ key[0, :, own].transpose(1, 2)) * 0.2
        alone = (scores.softmax(-1) @ value[0, :, own]).transpose(0, 1)
        torch.testing.assert_close(together[0, own], alone, rtol=1e-5, atol=1e-6)


def test_registering_twice_changes_nothing() -> None:
    attention.register()
    attention.register()
    assert ALL_ATTENTION_FUNCTIONS[attention.TEXT_ATTENTION] is attend_to_slots
    assert ALL_ATTENTION_FUNCTIONS[attention.VISION_ATTENTION] is attention.attend_to_equal_pictures
