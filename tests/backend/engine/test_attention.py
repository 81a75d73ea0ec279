"""Packed attention over slots against plain causal attention of each slot alone, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from backend.engine import attention
from backend.engine.attention import Ranges, Span, attend_to_slots, find_ranges, plan_attention
from tests.limits import examples

HEAD_DIM = 8


def exact(
    spans: list[Span], query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """query: [heads, N, D]; keys, values: [positions, kv_heads, D]. Returns [N, heads, D]."""
    group = query.shape[0] // keys.shape[1]
    results, first = [], 0
    for span in spans:
        for step in range(span.length):
            own = slice(span.offset, span.offset + span.start + step + 1)
            k, v = (pool[own].double().repeat_interleave(group, dim=1) for pool in (keys, values))
            scores = torch.einsum("hd,lhd->hl", query[:, first + step].double(), k) * scaling
            results.append(torch.einsum("hl,lhd->hd", scores.softmax(-1), v))
        first += span.length
    return torch.stack(results)


def check(spans: list[Span], num_positions: int, *, kv_heads: int = 2, heads_per_key: int = 2) -> None:
    random = torch.Generator().manual_seed(num_positions)
    num_tokens = sum(span.length for span in spans)
    query = torch.randn(kv_heads * heads_per_key, num_tokens, HEAD_DIM, generator=random)
    # both in one buffer, as in KvPool; what lies outside the slots is huge, so that reading it would show
    buffer = torch.randn(2, num_positions, kv_heads, HEAD_DIM, generator=random)
    foreign = torch.ones(num_positions, dtype=torch.bool)
    for span in spans:
        foreign[span.offset : span.offset + span.start + span.length] = False
    buffer[:, foreign] *= 1e4
    keys, values = buffer
    step = plan_attention(spans, num_positions, heads_per_key=heads_per_key, device="cpu", dtype=torch.float32)
    output, weights = attend_to_slots(None, query[None], keys, values, None, 0.3, step)
    assert (output.shape, weights) == ((1, num_tokens, kv_heads * heads_per_key, HEAD_DIM), None)
    torch.testing.assert_close(output[0].double(), exact(spans, query, keys, values, 0.3), rtol=1e-4, atol=1e-5)


LAYOUTS = [
    pytest.param([Span(0, 0, 1)], 1, id="one token in a pool of one position"),
    pytest.param([Span(3, 0, 7)], 10, id="a whole prompt, at the end of the pool"),
    pytest.param([Span(16, 5, 1), Span(48, 9, 1), Span(64, 0, 1)], 80, id="even slots with a hole"),
    pytest.param([Span(48, 9, 1), Span(16, 5, 1), Span(32, 3, 1)], 64, id="even slots out of order"),
    pytest.param([Span(48, 2, 3), Span(16, 5, 3), Span(32, 3, 3)], 64, id="even slots out of order, equally long"),
    pytest.param([Span(2, 4, 1), Span(9, 0, 1), Span(30, 20, 1)], 51, id="uneven slots of one token"),
    pytest.param([Span(0, 4, 2), Span(9, 0, 5), Span(30, 3, 1)], 40, id="uneven slots, several tokens"),
    pytest.param([Span(0, 2, 1), Span(8, 6, 1), Span(16, 1, 4), Span(24, 0, 2)], 32, id="singles before multis"),
    pytest.param([Span(0, 2, 2), Span(8, 6, 1), Span(16, 1, 4)], 32, id="a single after a multi"),
    pytest.param([Span(0, 2, 1), Span(4, 0, 1), Span(8, 20, 1)], 29, id="a slot longer than the distance"),
    pytest.param([Span(0, 2, 1), Span(4, 20, 1), Span(32, 0, 1)], 33, id="the longest is not the last"),
]


@pytest.mark.parametrize(("spans", "num_positions"), LAYOUTS)
def test_each_token_sees_its_own_slot_up_to_itself(spans: list[Span], num_positions: int) -> None:
    check(spans, num_positions)


@pytest.mark.parametrize(
    ("kv_heads", "heads_per_key"), [(1, 1), (1, 8), (3, 1), (4, 3)], ids=["1 by 1", "1 by 8", "3 by 1", "4 by 3"]
)
def test_heads_that_share_keys_give_what_each_would_alone(kv_heads: int, heads_per_key: int) -> None:
    check([Span(0, 2, 1), Span(16, 6, 3), Span(48, 0, 5)], 64, kv_heads=kv_heads, heads_per_key=heads_per_key)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Slots in ranges of a pool, even or not, in any order or with the singles first."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    stride = draw(st.sampled_from([None, 12, 16]))
    spans, offset = [], draw(st.integers(0, 5))
    for size in sizes:
        length = draw(st.one_of(st.just(1), st.integers(1, size)))
        if draw(st.integers(0, 3)) or not spans:  # else the slot is idle
            spans.append(Span(offset, size - length, length))
        offset += stride or size + draw(st.integers(0, 6))
    end = max(span.offset + span.start + span.length for span in spans)
    spans = draw(st.permutations(spans))
    if draw(st.booleans()):
        spans = sorted(spans, key=lambda span: span.length)
    return list(spans), end + draw(st.sampled_from([0, 0, 1, 20]))


@settings(max_examples=examples(30, 500), deadline=None, derandomize=True)
@given(layout=layouts(), heads_per_key=st.integers(1, 3))
def test_each_token_sees_its_own_slot_for_any_layout(layout: tuple[list[Span], int], heads_per_key: int) -> None:
    check(*layout, heads_per_key=heads_per_key)


@pytest.mark.parametrize(
    ("offsets", "longest", "num_positions", "expected"),
    [
        pytest.param([5], 4, 9, Ranges(5, 4, 1), id="one slot"),
        pytest.param([0, 8, 16], 8, 24, Ranges(0, 8, 3), id="even"),
        pytest.param([16, 0, 8], 8, 24, Ranges(0, 8, 3), id="even, out of order"),
        pytest.param([0, 8, 24], 8, 32, Ranges(0, 8, 4), id="even with a hole"),
        pytest.param([0, 8, 20], 4, 40, None, id="uneven"),
        pytest.param([0, 8, 48], 4, 90, None, id="more idle slots than busy ones"),
        pytest.param([0, 8, 16], 9, 24, None, id="the last one would leave the pool"),
        pytest.param([0, 8, 16], 8, 23, None, id="the pool ends one position too early"),
        pytest.param([4, 4], 2, 9, None, id="two at one place"),
    ],
)
def test_slots_are_read_in_place_only_where_they_lie_evenly(
    offsets: list[int], longest: int, num_positions: int, expected: Ranges | None
) -> None:
    assert find_ranges(np.array(offsets), longest, num_positions) == expected


@settings(max_examples=examples(40, 500), deadline=None, derandomize=True)
@given(
    offsets=st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True),
    scale=st.integers(1, 4),
    longest=st.integers(1, 20),
    spare=st.integers(0, 20),
)
def test_ranges_hold_every_slot_and_stay_in_the_pool(offsets: list[int], scale: int, longest: int, spare: int) -> None:
    begins = np.array(offsets) * scale
    num_positions = int(begins.max()) + longest + spare
    ranges = find_ranges(begins, longest, num_positions)
    if ranges is None:
        return
    places = [ranges.first + i * ranges.stride for i in range(ranges.num_slots)]
    assert set(begins.tolist()) <= set(places)
    assert places[0] >= 0
    assert places[-1] + longest <= num_positions
    assert len(places) <= 2 * len(offsets)


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
