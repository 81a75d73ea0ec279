"""How many positions and slots there are: arithmetic, what is accepted, and the warm-up on a real runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.engine.bulk_queue import SlotRequest
from backend.engine.cache import kv_bytes_per_position
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.options import EngineOptions
from backend.engine.packing import Row
from backend.engine.runner import Runner
from backend.engine.scheduler import Scheduler
from backend.engine.sizing import (
    MARGIN,
    Sizes,
    budget_bytes,
    fit,
    kv_tokens_within,
    make_runner,
    scheduler_limits,
    warm_up,
)
from model_loader.errors import ModelTooLarge
from tests.backend.engine.all_free import assert_all_is_free
from tests.limits import examples
from tests.tiny_model import tiny_model

GIB = 2**30
POSITION_BYTES = kv_bytes_per_position(tiny_model().model.config.text_config, torch.float32)


@settings(max_examples=examples(50, 1000), deadline=None, derandomize=True)
@given(
    budget=st.integers(1, 80 * GIB),
    peak=st.integers(0, 80 * GIB),
    warm_up_tokens=st.integers(64, 50_000),
    position_bytes=st.sampled_from([1024, 98_304, 196_608]),
)
def test_the_cache_fits_in_the_budget_beside_the_peak(
    budget: int, peak: int, warm_up_tokens: int, position_bytes: int
) -> None:
    tokens = kv_tokens_within(budget, peak, warm_up_tokens, position_bytes)
    if tokens < 1:
        return
    assert peak + (tokens - warm_up_tokens) * position_bytes <= budget * (1 - MARGIN)


def test_what_the_peak_leaves_of_the_budget_becomes_positions() -> None:
    assert kv_tokens_within(24 * GIB, int(24 * GIB * (1 - MARGIN)), 12_288, 98_304) == 12_288
    left = 98_304 * 8_000
    assert kv_tokens_within(24 * GIB, int(24 * GIB * (1 - MARGIN)) - left, 12_288, 98_304) == 12_288 + 8_000


@pytest.mark.parametrize("max_slots", [1, 2, 3, 16, 64, 512])
@pytest.mark.parametrize("kv_tokens", [1_040, 4_100, 60_000, 300_000])
def test_limits_are_accepted_and_keep_room_for_people(max_slots: int, kv_tokens: int) -> None:
    limits = scheduler_limits(Sizes(max_slots, kv_tokens, 4096), 4096)
    assert_all_is_free(Scheduler(limits))
    assert (limits.reserved_slots > 0) == (max_slots > 1)
    assert limits.reserved_slots <= max(1, max_slots // 16)
    assert limits.reserved_tokens <= min(4096, kv_tokens // 8)


@pytest.mark.parametrize("max_slots", [1, 2, 64])
@pytest.mark.parametrize("context_tokens", [1000, 1001, 1024], ids="{} tokens".format)
@pytest.mark.parametrize("cpu_kv_bytes", [0, 256 * 2**20], ids=["little memory", "the usual memory"])
def test_a_request_as_long_as_the_context_always_has_room_on_a_cpu(
    max_slots: int, context_tokens: int, cpu_kv_bytes: int
) -> None:
    options = EngineOptions(max_slots=max_slots, context_tokens=context_tokens)
    runner, sizes = make_runner(tiny_model(), options, cpu_kv_bytes)
    runner.close()
    assert sizes.kv_tokens * POSITION_BYTES <= max(cpu_kv_bytes, 1024 * POSITION_BYTES)
    assert sizes.kv_tokens <= max_slots * 1024
    scheduler = Scheduler(scheduler_limits(sizes, context_tokens))
    scheduler.submit(SlotRequest(1, "", num_tokens=context_tokens, num_prefill=context_tokens - 1))
    assert scheduler.next_turn() is not None


class Watched(Runner):
    """Notes what runs, and where."""

    def prefill(self, rows, pictures):  # type: ignore[no-untyped-def]
        self.prefilled: list[Row] = list(rows)
        super().prefill(rows, pictures)

    def decode(self, rows):  # type: ignore[no-untyped-def]
        self.decoded: list[Row] = list(rows)
        super().decode(rows)


@pytest.fixture
def runner() -> Iterator[Watched]:
    made = Watched(tiny_model(), image_tokens=64, context_tokens=1024, kv_tokens=1500, max_slots=8)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param(Sizes(8, 1500, 10_000), 8, id="as many as there are slots"),
        pytest.param(Sizes(8, 1500, 80), 3, id="as many as one prefill takes"),
        pytest.param(Sizes(8, 340, 10_000), 3, id="as many as the pool holds"),
        pytest.param(Sizes(1, 1500, 1), 1, id="one at least"),
    ],
)
def test_the_warm_up_runs_the_heaviest_prefill_inside_the_pool(runner: Watched, sizes: Sizes, expected: int) -> None:
    warm_up(runner, sizes)
    assert len(runner.prefilled) == len(runner.decoded) == expected
    num_tokens = [len(row.prompt.suffix_ids) for row in runner.prefilled]
    assert sum(num_tokens[:-1]) < sizes.max_prefill_tokens
    blocks = [block for row in runner.prefilled for block in row.slot.blocks]
    assert len(set(blocks)) == len(blocks) <= sizes.kv_tokens // BLOCK_TOKENS
    for row in runner.prefilled:
        assert row.prompt.num_image_tokens >= 16
        assert len(row.slot.blocks) * BLOCK_TOKENS >= row.prompt.num_tokens + 64


class Warmups:
    """Stands for the card: `peak(sizes)` says what a warm-up takes of it."""

    def __init__(self, peak: Callable[[Sizes], int]) -> None:
        self.peak = peak
        self.tried: list[int] = []

    def __call__(self, sizes: Sizes) -> int:
        self.tried.append(sizes.max_prefill_tokens)
        return self.peak(sizes)


OPTIONS = EngineOptions(context_tokens=1024)


def out_of_memory(sizes: Sizes) -> int:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("obtainable", "vram_gib", "expected"),
    [
        pytest.param(GIB, None, GIB, id="a whole card"),
        pytest.param(GIB, 0.75, 3 * GIB // 4, id="a part of the card"),
        pytest.param(GIB, 99.0, GIB, id="more than the card has"),
        pytest.param(3 * GIB // 4, None, 3 * GIB // 4, id="other programs hold a part"),
        pytest.param(3 * GIB // 4, 0.5, GIB // 2, id="less than others leave"),
    ],
)
def test_the_budget_is_what_was_given_and_is_there(obtainable: int, vram_gib: float | None, expected: int) -> None:
    assert budget_bytes(GIB, obtainable, vram_gib) == expected


def test_a_card_gives_what_its_warm_up_leaves() -> None:
    warmups = Warmups(lambda sizes: GIB // 2)
    expected = kv_tokens_within(GIB, GIB // 2, 2 * 4096 + 1024, POSITION_BYTES)
    assert fit(OPTIONS, POSITION_BYTES, GIB, warmups) == (expected, 4096)
    assert warmups.tried == [4096]


def test_a_smaller_budget_gives_less() -> None:
    warmups = Warmups(lambda sizes: GIB // 2)
    whole, part = (fit(OPTIONS, POSITION_BYTES, budget, warmups) for budget in (GIB, 3 * GIB // 4))
    assert part[0] < whole[0]


def test_a_prefill_that_takes_too_much_is_halved() -> None:
    def peak(sizes: Sizes) -> int:
        if sizes.max_prefill_tokens == 4096:
            return out_of_memory(sizes)
        return GIB if sizes.max_prefill_tokens == 2048 else GIB // 2

    warmups = Warmups(peak)
    assert fit(OPTIONS, POSITION_BYTES, GIB, warmups)[1] == 1024
    assert warmups.tried == [4096, 2048, 1024]


def test_a_warm_up_that_never_fits_refuses_the_model() -> None:
    warmups = Warmups(out_of_memory)
    with pytest.raises(ModelTooLarge, match="leaves no room for a request of 1024 tokens"):
        fit(OPTIONS, POSITION_BYTES, GIB, warmups)
    assert warmups.tried == [4096, 2048, 1024, 512, 256]


def test_a_model_that_fills_the_card_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelTooLarge, match=r"in 1\.0 GiB: use fewer image tokens or a larger card"):
        fit(OPTIONS, POSITION_BYTES, GIB, Warmups(lambda sizes: 2 * GIB))
