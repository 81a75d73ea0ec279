"""The KV pool: what is written where, and what stays untouched."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from backend.engine.cache import KvPool, kv_bytes_per_position

CONFIG = SimpleNamespace(num_hidden_layers=3, num_key_value_heads=2, head_dim=4)


def pool(num_positions: int = 20, dtype: torch.dtype = torch.float32) -> KvPool:
    return KvPool(CONFIG, num_positions, device="cpu", dtype=dtype)


def test_a_layers_keys_and_values_go_to_the_write_index_and_nowhere_else() -> None:
    kv = pool()
    random = torch.Generator().manual_seed(0)
    key, value = (torch.randn(1, 2, 3, 4, generator=random) for _ in range(2))
    kv.write_index = torch.tensor([7, 2, 19])
    keys, values = kv.update(key, value, 1)
    assert keys.shape == values.shape == (20, 2, 4)
    for token, position in enumerate([7, 2, 19]):
        assert torch.equal(keys[position], key[0, :, token])
        assert torch.equal(values[position], value[0, :, token])
    expected = torch.zeros_like(kv.buffer)
    expected[1, 0, [7, 2, 19]], expected[1, 1, [7, 2, 19]] = key[0].transpose(0, 1), value[0].transpose(0, 1)
    assert torch.equal(kv.buffer, expected)


def test_what_update_returns_is_the_pool_itself_not_a_copy() -> None:
    kv = pool()
    kv.write_index = torch.tensor([0])
    keys, values = kv.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 2)
    assert keys.data_ptr() == kv.buffer[2, 0].data_ptr()
    assert values.data_ptr() == kv.buffer[2, 1].data_ptr()


def test_an_unwritten_pool_holds_zeros() -> None:
    assert not pool().buffer.any()


def test_bytes_per_position_are_those_of_the_buffer() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        kv = pool(10, dtype)
        assert kv.num_positions == 10
        assert kv.buffer.nbytes == 10 * kv_bytes_per_position(CONFIG, dtype)


def test_the_30b_needs_98304_bytes_a_position() -> None:
    config = SimpleNamespace(num_hidden_layers=48, num_key_value_heads=4, head_dim=128)
    assert kv_bytes_per_position(config, torch.bfloat16) == 98_304
