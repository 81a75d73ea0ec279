"""How many positions and slots there are: arithmetic, what is accepted, and the warm-up on a real runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.engine.cache import kv_bytes_per_position
from backend.engine.group_queue import SlotRequest
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.options import EngineOptions
from backend.engine.packing import Row
from backend.engine.runner import Runner
from backend.engine.scheduler import Scheduler
from backend.engine.sizing import (
    CPU_SLOTS,
    Sizes,
    choose_for_all,
    fit,
    make_runner,
    measure_sizes,
    scheduler_limits,
    slots_of_empty_card,
    taken_since,
    warm_up,
)
from model_loader.errors import CardUnusable, LoadingFailed, ModelTooLarge
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config, shipped_config
from model_loader.memory import MARGIN, MemoryPlan, Request, plan_memory
from model_loader.troubles import trouble, warning
from tests.backend.engine.all_free import assert_all_is_free
from tests.tiny_model import tiny_model

GIB = 2**30
POSITION_30B_BYTES = 98_304
POSITION_BYTES = kv_bytes_per_position(tiny_model().model.config.text_config, torch.float32)


@pytest.mark.parametrize("max_slots", [1, 2, 3, 16, 64, 512])
@pytest.mark.parametrize("kv_tokens", [1_040, 4_100, 60_000, 300_000])
def test_limits_are_accepted_and_keep_room_for_people(max_slots: int, kv_tokens: int) -> None:
    limits = scheduler_limits(Sizes(max_slots, kv_tokens, 4096), 4096)
    assert_all_is_free(Scheduler(limits))
    assert (limits.reserved_slots > 0) == (max_slots > 1)
    assert limits.reserved_slots <= max(1, max_slots // 16)
    assert limits.reserved_tokens <= min(4096, kv_tokens // 8)


@pytest.mark.parametrize("max_slots", [1, 2, 64, 512])
@pytest.mark.parametrize("context_tokens", [1000, 1001, 1024], ids="{} tokens".format)
@pytest.mark.parametrize("cpu_kv_bytes", [0, 256 * 2**20], ids=["little memory", "the usual memory"])
def test_a_request_as_long_as_the_context_always_has_room_on_a_cpu(
    max_slots: int, context_tokens: int, cpu_kv_bytes: int
) -> None:
    options = EngineOptions(max_slots=max_slots, context_tokens=context_tokens)
    runner, sizes = make_runner(tiny_model(), options, measure_sizes(tiny_model(), options, cpu_kv_bytes))
    runner.close()
    assert sizes.kv_tokens * POSITION_BYTES <= max(cpu_kv_bytes, 1024 * POSITION_BYTES)
    assert sizes.max_slots == min(max_slots, CPU_SLOTS)
    assert sizes.kv_tokens <= sizes.max_slots * 1024
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


@pytest.mark.parametrize("max_slots", [1, 3])
def test_a_model_that_gives_no_numbers_is_refused_before_it_is_ready(runner: Watched, max_slots: int) -> None:
    broken = tiny_model().model.lm_head.register_forward_hook(lambda head, hidden, logits: logits * math.nan)
    with (
        broken,
        pytest.raises(LoadingFailed, match=r"not numbers\): its weights are damaged, or the card computes wrong"),
    ):
        warm_up(runner, Sizes(max_slots, 1500, 10_000))


def test_a_choice_for_all_rows_needs_nothing_of_them() -> None:
    choose_for_all(tiny_model(), 3)


def plan(
    vram_gib: float = 23.65, max_slots: int = 128, longest_tokens: int = 4096, model: str = DEFAULT_MODEL
) -> MemoryPlan:
    config = shipped_config(model)
    assert config is not None
    request = Request(longest_tokens=longest_tokens)
    return plan_memory(geometry_from_config(config), vram_gib=vram_gib, max_slots=max_slots, request=request)


class Warmups:
    """Stands for the card: beside the KV cache, a warm-up takes what `others(sizes)` says."""

    def __init__(self, others: Callable[[Sizes], int], position_bytes: int = POSITION_30B_BYTES) -> None:
        self.others = others
        self.position_bytes = position_bytes
        self.tried: list[Sizes] = []

    def __call__(self, sizes: Sizes) -> int:
        self.tried.append(sizes)
        return self.others(sizes) + sizes.kv_tokens * self.position_bytes


def out_of_memory(sizes: Sizes) -> int:
    raise torch.OutOfMemoryError("CUDA out of memory")


def out_of_memory_on_a_slice(sizes: Sizes) -> int:
    """As torch says it where it may not ask NVML, on a MIG slice."""
    raise RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/c10/cuda/CUDACachingAllocator.cpp":1165')


@pytest.mark.parametrize(
    ("model", "vram_gib"),
    [
        *((DEFAULT_MODEL, vram_gib) for vram_gib in (20, 22.05, 23.65, 40)),
        ("Qwen/Qwen3-VL-8B-Instruct", 11.6),
        ("Qwen/Qwen3-VL-4B-Instruct", 7.6),
    ],
)
@pytest.mark.parametrize("max_slots", [1, 64, 512])
def test_a_card_whose_peak_is_the_plans_runs_as_many_as_doctor_says(
    model: str, vram_gib: float, max_slots: int
) -> None:
    planned = plan(vram_gib, max_slots, model=model)
    assert planned.num_slots
    assert planned.positions
    warmups = Warmups(lambda sizes: planned.weights_bytes + planned.workspace_bytes, planned.position_bytes)
    sizes = fit(planned, planned.position_bytes, warmups)
    assert sizes == Sizes(planned.num_slots, planned.positions, 4096)
    assert warmups.tried == [Sizes(planned.num_slots, 2 * 4096 + 4096, 4096)]


def test_a_card_that_needs_more_than_the_plan_runs_fewer_and_never_more_where_it_needs_less() -> None:
    planned = plan()
    others = planned.weights_bytes + planned.workspace_bytes
    more, less = (fit(planned, POSITION_30B_BYTES, Warmups(lambda _: others + by * GIB)) for by in (1, -3))  # noqa: B023
    assert planned.num_slots
    assert 0 < more.max_slots < planned.num_slots == less.max_slots
    assert more.kv_tokens < less.kv_tokens


@given(others_gib=st.floats(15, 30), vram_gib=st.floats(16, 80))
def test_the_cache_fits_in_the_budget_beside_what_was_measured(others_gib: float, vram_gib: float) -> None:
    planned, others = plan(vram_gib), int(others_gib * GIB)
    assert planned.budget_bytes
    try:
        sizes = fit(planned, POSITION_30B_BYTES, Warmups(lambda _: others))
    except ModelTooLarge:
        return
    assert others + sizes.kv_tokens * POSITION_30B_BYTES <= planned.budget_bytes * (1 - MARGIN)
    assert sizes.kv_tokens >= 4096


@pytest.mark.parametrize("out_of_memory", [out_of_memory, out_of_memory_on_a_slice])
def test_a_prefill_that_takes_too_much_is_halved(out_of_memory: Callable[[Sizes], int]) -> None:
    planned = plan()

    def others(sizes: Sizes) -> int:
        if sizes.max_prefill_tokens == 4096:
            return out_of_memory(sizes)
        return 30 * GIB if sizes.max_prefill_tokens == 2048 else planned.weights_bytes

    warmups = Warmups(others)
    assert fit(planned, POSITION_30B_BYTES, warmups).max_prefill_tokens == 1024
    assert [sizes.max_prefill_tokens for sizes in warmups.tried] == [4096, 2048, 1024]


def test_a_warm_up_that_never_fits_refuses_the_model() -> None:
    warmups = Warmups(out_of_memory)
    with pytest.raises(ModelTooLarge, match="leaves no room for a request of 1024 tokens"):
        fit(plan(longest_tokens=1024), POSITION_30B_BYTES, warmups)
    assert [sizes.max_prefill_tokens for sizes in warmups.tried] == [4096, 2048, 1024, 512, 256]


def test_a_card_that_others_have_filled_meanwhile_is_told_as_one() -> None:
    taken = trouble("memory_taken", needed="19.1", card="23.6", free="15.2")
    with pytest.raises(ModelTooLarge, match=r"other programs leave 15\.2 of the card's 23\.6 GiB") as raised:
        fit(plan(), POSITION_30B_BYTES, Warmups(out_of_memory), lambda: taken)
    assert raised.value.trouble == taken
    tight = warning("memory_tight", card="23.6", free="20.0", slots="20", most="128")
    with pytest.raises(ModelTooLarge, match="leaves no room"):
        fit(plan(), POSITION_30B_BYTES, Warmups(out_of_memory), lambda: tight)


def test_a_model_that_fills_the_card_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelTooLarge, match=r"in 23\.1 GiB: use fewer image tokens or a larger card"):
        fit(plan(), POSITION_30B_BYTES, Warmups(lambda sizes: 24 * GIB))


def test_a_card_that_fails_after_the_load_is_told_as_one() -> None:
    with pytest.raises(CardUnusable):
        slots_of_empty_card(replace(tiny_model(), device="cuda:99"), EngineOptions())


@pytest.mark.parametrize(
    ("device", "left_gib", "taken"),
    [("cuda:0", 20.0, False), ("cuda:0", 19.9, False), ("cuda:0", 12.0, True), ("cpu", 12.0, False)],
)
def test_what_other_programs_take_after_the_start_is_noticed(device: str, left_gib: float, taken: bool) -> None:
    left = [int(left_gib * GIB), 20 * GIB]
    is_taken = taken_since(device, lambda: left[-1])
    assert not is_taken()
    left.pop()
    assert is_taken() is taken
