"""Between a loaded model and a loop that serves: what a card does wrong falls back alone, and is told.

Graphs here run their step again, or do something wrong; there is no card.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backend.engine.graphs import Graph, graph_sizes
from backend.engine.messages import Part
from backend.engine.options import EngineOptions, StartAgainWithout
from backend.engine.runner import Runner
from backend.engine.self_check import TOKENS, attention_wrong, plain_attention
from backend.engine.sizing import Sizes, make_runner
from backend.engine.slot_attention import parts_for
from backend.engine.start import (
    SMALLER,
    TRIES,
    can_be_captured,
    in_short,
    leaving,
    of_copy,
    of_memory,
    of_spill,
    start,
    try_allocator,
    with_graphs,
)
from backend.pages.check_words import CHECKS
from model_loader.experts.capture import CaptureFailed
from model_loader.experts.plan import default_plan
from model_loader.geometry import DEFAULT_MODEL, shipped_config
from model_loader.memory import PREFILL_TOKENS
from model_loader.random_model import random_model
from tests.backend.engine.test_graphs import RunAgain, answers, model
from tests.limits import RUN_S

SIZES = Sizes(4, 4096, PREFILL_TOKENS)
HEADS = model().model.config.text_config


def make(sizes: Sizes) -> tuple[Runner, Sizes]:
    return Runner(model(), image_tokens=64, context_tokens=1024, kv_tokens=sizes.kv_tokens, max_slots=4), sizes


class Stale(RunAgain):
    """Gives again what it gave when it was captured."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(step)
        self.replay = lambda: None


class Short:
    """Memory that suffices for a capture once it was tried `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, step: Callable[[], None]) -> Graph:
        if self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return RunAgain(step)


def test_graphs_that_are_right_are_used() -> None:
    runner, sizes, slower = with_graphs(*make(SIZES), 1024, make, RunAgain)
    assert (sizes, slower, runner.check_graphs()) == (SIZES, (), "")
    runner.close()


def test_graphs_that_compute_something_else_are_not_used_and_told() -> None:
    runner, sizes = make(SIZES)
    expected = answers(runner, 2)
    runner, sizes, slower = with_graphs(runner, sizes, 1024, make, Stale)
    [(code, said)] = slower
    assert code == "slow_graphs"
    assert "a captured step of" in said
    assert [answer.pieces for answer in answers(runner, 2)] == [answer.pieces for answer in expected]
    runner.close()


@pytest.mark.parametrize("times", [1, TRIES - 1])
def test_where_memory_does_not_suffice_to_capture_the_kv_cache_is_smaller_and_that_is_told(times: int) -> None:
    runner, sizes, slower = with_graphs(*make(SIZES), 1024, make, Short(times))
    assert slower == ()
    assert sizes.kv_tokens == pytest.approx(SIZES.kv_tokens * SMALLER**times, abs=times)
    assert of_memory(sizes, SIZES, 4) == (("slow_kv_cache", f"{sizes.kv_tokens:,} / 4,096"),)
    runner.close()


def test_memory_that_suffices_to_capture_and_not_to_compare_is_too_little() -> None:
    class ShortOnce(Runner):
        is_short = True

        def check_graphs(self) -> str:
            if ShortOnce.is_short:
                ShortOnce.is_short = False
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().check_graphs()

    def make_short(sizes: Sizes) -> tuple[Runner, Sizes]:
        return ShortOnce(model(), image_tokens=64, context_tokens=1024, kv_tokens=sizes.kv_tokens, max_slots=4), sizes

    runner, sizes, slower = with_graphs(*make_short(SIZES), 1024, make_short, RunAgain)
    assert (sizes.kv_tokens < SIZES.kv_tokens, slower) == (True, ())
    runner.close()


@pytest.mark.parametrize(
    ("times", "least"), [(TRIES, 1024), (1, 4000)], ids=["it never suffices", "the cache would be too small"]
)
def test_the_cache_does_not_become_smaller_for_ever(times: int, least: int) -> None:
    runner, sizes = make(SIZES)
    with pytest.raises(CaptureFailed, match="out of memory"):
        with_graphs(runner, sizes, least, make, Short(times))


def test_prefills_that_were_halved_are_told() -> None:
    assert of_memory(replace(SIZES, max_prefill_tokens=1024), SIZES, 4) == (("slow_prefills", "1,024 / 4,096"),)
    assert of_memory(SIZES, SIZES, 4) == ()


@pytest.mark.parametrize(
    ("slots", "empty", "told"), [(20, 126, "20 / 126"), (1, 4, "1 / 4"), (63, 126, ""), (1, 1, "")]
)
def test_a_card_that_others_hold_half_of_is_told(slots: int, empty: int, told: str) -> None:
    sizes = replace(SIZES, max_slots=slots)
    assert of_memory(sizes, sizes, empty) == ((("slow_slots", told),) if told else ())


@pytest.mark.parametrize(
    ("slots", "computed", "told"),
    [(70, 128, "70 / 128"), (20, 128, "20 / 128"), (1, 2, "1 / 2"), (116, 128, ""), (128, 128, ""), (1, 1, "")],
)
def test_a_card_that_needs_more_memory_than_was_computed_is_told(slots: int, computed: int, told: str) -> None:
    sizes = replace(SIZES, max_slots=slots, computed_slots=computed)
    assert of_memory(sizes, sizes, computed) == ((("slow_workspace", told),) if told else ())


def test_a_kv_cache_that_windows_has_moved_off_the_card_is_told() -> None:
    runner, _ = make_runner(model(), EngineOptions(max_slots=2), replace(SIZES, kv_tokens=100_000))
    try:
        assert of_spill(model(), runner, lambda piece: 4 * piece.numel() / 500e9) == ()
        [(code, said)] = of_spill(model(), runner, lambda piece: 4 * piece.numel() / 20e9)
    finally:
        runner.close()
    assert (code, said.endswith("GiB are read at 20 GB/s")) == ("slow_spill", True)


def test_a_copy_that_was_not_saved_is_told() -> None:
    assert of_copy("the disk is full") == (("slow_starts", "the disk is full"),)
    assert of_copy("") == ()


@pytest.mark.parametrize(
    ("error", "during", "without", "leads_to"),
    [
        pytest.param(CaptureFailed("not permitted"), "graphs", (), "graphs", id="a capture"),
        pytest.param(CaptureFailed("not permitted"), "kernels", (), "graphs", id="a capture while kernels are timed"),
        pytest.param(RuntimeError("illegal memory access"), "kernels", (), "kernels", id="a kernel's fault"),
        pytest.param(RuntimeError("illegal memory access"), "graphs", (), "graphs", id="a graph's fault"),
        pytest.param(RuntimeError("illegal memory access"), "kernels", ("kernels",), None, id="a fault without ours"),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), "kernels", (), None, id="no memory"),
        pytest.param(ValueError("a bug"), "graphs", (), "graphs", id="whatever goes wrong with graphs"),
        pytest.param(ValueError("a bug"), "kernels", (), None, id="a bug"),
    ],
)
def test_what_spoils_the_process_is_left_behind_with_it_once(
    error: Exception, during: Part, without: tuple[Part, ...], leads_to: Part | None
) -> None:
    options = EngineOptions(without=tuple((part, "before") for part in without))
    with pytest.raises(StartAgainWithout if leads_to else type(error)) as raised, leaving(during, options):
        raise error
    if isinstance(raised.value, StartAgainWithout):
        assert raised.value.without == leads_to
        assert str(error) in raised.value.why


def right(*inputs: Any) -> torch.Tensor:
    return plain_attention(*inputs)


def wrong(*inputs: Any) -> torch.Tensor:
    return plain_attention(*inputs).roll(1, dims=1)


def unbuilt(*inputs: Any) -> torch.Tensor:
    raise RuntimeError("PassManager::run failed")


def unread(*inputs: Any) -> torch.Tensor:
    json.loads("")  # as Triton reads a file of its cache that a power cut has emptied
    raise AssertionError


@pytest.mark.parametrize(
    ("attend", "said"),
    [(right, ""), (wrong, "1 tokens: off by"), (unbuilt, "PassManager"), (unread, "JSONDecodeError: Expecting value")],
)
def test_an_attention_kernel_that_is_wrong_is_found_out(attend: Callable[..., torch.Tensor], said: str) -> None:
    found = attention_wrong(HEADS, "cpu", torch.float32, attend)
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize("kv_heads", [4, 8])
@pytest.mark.parametrize("cores", [24, 46, 72, 82, 108, 128, 132, 170, 188])
def test_the_attention_kernel_is_compared_in_every_number_of_parts_that_steps_have(cores: int, kv_heads: int) -> None:
    """`cores`: of cards from an RTX 4060 to a PRO 6000."""
    served, compared = (
        {parts_for(tokens * kv_heads, cores) for tokens in sizes} for sizes in ((1, *graph_sizes(512)), TOKENS)
    )
    assert served <= compared


def test_the_attention_kernel_itself_is_right() -> None:
    assert attention_wrong(HEADS, "cpu", torch.float32, sizes=(3,)) == ""


@pytest.mark.gpu
def test_the_compiled_attention_kernel_is_right_at_30b() -> None:
    heads = SimpleNamespace(num_attention_heads=32, num_key_value_heads=4, head_dim=128)
    assert attention_wrong(heads, "cuda", torch.bfloat16) == ""


@pytest.mark.gpu
def test_a_card_that_is_sound_makes_nothing_slower() -> None:
    config = shipped_config(DEFAULT_MODEL)
    assert config is not None
    two_layers = {**config, "text_config": {**config["text_config"], "num_hidden_layers": 2}}
    started = start(random_model(two_layers, "cuda"), EngineOptions(max_slots=32))
    started.runner.close()
    assert started.slower == ()


def test_nothing_of_a_card_is_told_on_a_cpu() -> None:
    started = start(model(), EngineOptions(max_slots=2))
    started.runner.close()
    assert started.slower == ()


@pytest.mark.parametrize(
    ("found", "is_dense", "told"),
    [
        (["slow_experts", "slow_linears", "slow_attention"], False, ["slow_kernels"]),
        (["slow_linears", "slow_attention"], True, ["slow_kernels"]),
        (["slow_linears", "slow_attention"], False, ["slow_linears", "slow_attention"]),
        (["slow_experts", "slow_linears"], False, ["slow_experts", "slow_linears"]),
        ([], True, []),
    ],
)
def test_without_any_kernel_one_thing_is_told(found: list[str], is_dense: bool, told: list[str]) -> None:
    short = in_short(dict.fromkeys(found, "no C compiler"), is_dense=is_dense)
    assert short == tuple((code, "no C compiler") for code in told)


def test_a_machine_without_triton_computes_with_plain_torch_and_tells() -> None:
    code = "import sys; sys.modules['triton'] = None; from tests.backend.engine.kernels_child import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=RUN_S, check=True)
    found = json.loads(done.stdout)
    [(code, said)] = found["slower"]
    assert (code, found["path"], found["linears"]) == ("slow_kernels", "reference", 0)
    assert "triton" in said


def test_only_a_step_that_never_waits_for_the_card_is_captured() -> None:
    plan = default_plan((8, 9))
    assert can_be_captured(plan, "")
    assert can_be_captured(replace(plan, fused=()), "")
    assert not can_be_captured(replace(plan, fused=(), dense=None), "")
    assert not can_be_captured(plan, "8 tokens: off by 0.98 of the norm")


def test_all_that_is_told_has_words() -> None:
    codes = {
        "slow_kernels", "slow_experts", "slow_packed_experts", "slow_steps", "slow_long_prefills", "slow_linears",
        "slow_attention", "slow_graphs", "slow_segments", "slow_kv_cache", "slow_prefills",
        "slow_slots", "slow_workspace", "slow_spill", "slow_starts", "slow_replicas",
        "slow_shortage", "slow_hot", "slow_power", "slow_brake",
    }  # fmt: skip
    assert {code for code in CHECKS if code.startswith("slow_")} == codes
    for code in codes:
        for text in CHECKS[code]:
            assert re.search(r"{said[:}]", text)


def test_a_card_without_expandable_segments_is_started_without_them() -> None:
    def refuse(device: str) -> None:
        raise RuntimeError("CUDA driver error: operation not supported")

    with pytest.raises(StartAgainWithout, match="operation not supported") as raised:
        try_allocator("cuda:0", EngineOptions(), refuse)
    assert raised.value.without == "segments"
    with pytest.raises(RuntimeError, match="operation not supported"):
        try_allocator("cuda:0", EngineOptions(without=(("segments", "before"),)), refuse)
    try_allocator("cpu", EngineOptions())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),  # taken since it was looked at
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA driver error: out of memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
    ids=str,
)
def test_what_has_another_cause_is_not_blamed_on_segments(error: Exception) -> None:
    def refuse(device: str) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        try_allocator("cuda:0", EngineOptions(), refuse)
    assert raised.value is error
