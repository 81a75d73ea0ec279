"""The decode attention kernel against float64 arithmetic, token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.engine.kv_blocks import BLOCK_TOKENS, blocks_for
from backend.engine.slot_attention import slot_attention
from tests.limits import examples

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # bfloat16: the interpreter cuts off instead of rounding
POOL = 900


def exact(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor, length: torch.Tensor
) -> torch.Tensor:
    group, scale = query.shape[1] // keys.shape[1], query.shape[2] ** -0.5
    rows = []
    for token, (blocks, count) in enumerate(zip(table.tolist(), length.tolist(), strict=True)):
        own = [blocks[number // BLOCK_TOKENS] * BLOCK_TOKENS + number % BLOCK_TOKENS for number in range(count)]
        k, v = (pool[own].double().repeat_interleave(group, dim=1) for pool in (keys, values))
        scores = torch.einsum("hd,thd->ht", query[token].double(), k) * scale
        rows.append(torch.einsum("ht,thd->hd", scores.softmax(-1), v))
    return torch.stack(rows)


def check(
    lengths: list[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    dtype: torch.dtype = torch.float32,
    parts: int | None = None,
    device: str = "cpu",
    spread: float = 1.0,
) -> None:
    random = torch.Generator().manual_seed(sum(lengths))
    query = torch.randn(heads, len(lengths), head_dim, generator=random).to(device, dtype).transpose(0, 1) * spread
    keys, values = (torch.randn(POOL, kv_heads, head_dim, generator=random).to(device, dtype) for _ in range(2))
    length = torch.tensor(lengths, dtype=torch.int32, device=device)
    width = blocks_for(max(lengths)) + 1
    table = torch.randint(0, POOL // BLOCK_TOKENS, (len(lengths), width), generator=random).to(device, torch.int32)
    output = slot_attention(query, keys, values, table, length, head_dim**-0.5, parts)
    assert (output.shape, output.dtype) == (query.shape, dtype)
    expected = exact(query, keys, values, table, length)
    assert float((output.double() - expected).norm() / expected.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim", "parts"),
    [
        pytest.param([200], 32, 4, 128, 2, id="the 30B's heads"),
        pytest.param([1, 2, 63, 64, 65], 4, 1, 16, 3, id="lengths around a block"),
        pytest.param([1, 1], 2, 2, 64, 8, id="one key, more parts than keys"),
        pytest.param([33, 7], 3, 3, 256, 1, id="one key head a query head, one part"),
        pytest.param([300, 5], 20, 1, 32, 4, id="twenty query heads a key head"),
        pytest.param([128, 129], 4, 2, 16, None, id="as many parts as the device asks for"),
    ],
)
def test_output_equals_float64_arithmetic(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, parts: int | None, dtype: torch.dtype
) -> None:
    check(lengths, heads, kv_heads, head_dim, dtype=dtype, parts=parts)


@settings(max_examples=examples(3, 30), deadline=None)
@given(data=st.data())
def test_output_equals_float64_arithmetic_for_any_shape(data: st.DataObject) -> None:
    kv_heads = data.draw(st.integers(1, 3), label="kv_heads")
    lengths = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=3), label="lengths")
    group = data.draw(st.integers(1, 9), label="group")
    check(lengths, kv_heads * group, kv_heads, 16, parts=data.draw(st.integers(1, 5), label="parts"))


def test_scores_of_hundreds_do_not_overflow() -> None:
    check([70, 3], 4, 2, 16, parts=2, spread=300.0)


def test_rows_that_a_token_does_not_see_are_not_read() -> None:
    keys = torch.full((200, 1, 16), float("nan"))
    values = keys.clone()
    for seen in (slice(96, 112), slice(16, 32), slice(48, 55)):
        keys[seen], values[seen] = 1.0, 2.0
    length, table = torch.tensor([39], dtype=torch.int32), torch.tensor([[6, 1, 3, 11]], dtype=torch.int32)
    output = slot_attention(torch.ones(1, 2, 16), keys, values, table, length, 1.0, 4)
    torch.testing.assert_close(output, torch.full((1, 2, 16), 2.0))


def test_no_token_gives_no_row() -> None:
    pool, length = torch.zeros(4, 1, 16), torch.empty(0, dtype=torch.int32)
    assert slot_attention(torch.empty(0, 2, 16), pool, pool, length.view(0, 1), length, 1.0).shape == (0, 2, 16)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 8, 64, 256])
def test_compiled_kernel_equals_float64_arithmetic_at_30b(tokens: int) -> None:
    lengths = [(37 * token) % 800 + 1 for token in range(tokens)]
    check(lengths, 32, 4, 128, dtype=torch.bfloat16, device="cuda")
