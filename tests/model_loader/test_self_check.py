"""A kernel that is wrong, does not build or has no room falls back alone, and is told: interpreted kernels, spoiled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_loader.experts.calibration import DECODE_TOKENS, tune
from model_loader.experts.kept_plans import NAME, KeptPlans
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import DENSE, ExpertsPlan, Step, Tile
from model_loader.experts.self_check import SelfCheck
from model_loader.experts.trials import Bench, LinearTrial, Trial, run_trial
from tests.model_loader.packed import packed_module
from tests.model_loader.test_nf4_linear import linear4bit

SMALL = Step(8, 16, gate_up=Tile(32, 4, 2), down=Tile(32, 4, 2))
LARGE = Step(1_000_000, 32, gate_up=Tile(64, 4, 2), down=Tile(64, 4, 2))
PLAN = ExpertsPlan("default", 64, (SMALL, LARGE), replace(DENSE, block_m=16))
AnyTrial = Trial | LinearTrial
Which = Callable[[AnyTrial], bool]


def a_linear() -> FusedLinear4bit:
    linear: Any = linear4bit(64, 48, bias=True)
    linear.__class__ = FusedLinear4bit
    return linear  # type: ignore[no-any-return]


def bench() -> Bench:
    return Bench(packed_module(3, 64, 64), 2, torch.float32)


def kernels(spoilt: Which, how: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[AnyTrial], torch.Tensor]:
    """Runs what plain torch gives in the place of every kernel, spoilt where `spoilt` says so."""
    return lambda trial: how(trial.expected()) if spoilt(trial) else trial.expected()


def shifted(output: torch.Tensor) -> torch.Tensor:
    return output.roll(1, dims=-1)


def not_numbers(output: torch.Tensor) -> torch.Tensor:
    return output * torch.nan


def does_not_build(output: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("PassManager::run failed")


def has_no_room(output: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def is_of(path: str, block_m: int | None = None) -> Which:
    return lambda trial: isinstance(trial, Trial) and trial.path == path and block_m in (None, trial.step.block_m)


def is_expert(trial: AnyTrial) -> bool:
    return isinstance(trial, Trial)


def is_linear(trial: AnyTrial) -> bool:
    return isinstance(trial, LinearTrial)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_kernels_that_are_right_are_all_used(dtype: torch.dtype) -> None:
    check = SelfCheck(Bench(packed_module(3, 64, 64), 2, dtype), [a_linear()], run_trial)
    assert check.checked(PLAN) == PLAN


@pytest.mark.parametrize(
    ("spoilt", "codes", "paths"),
    [
        pytest.param(is_of("fused", 16), ["slow_steps"], ("fused", "dequantised", 64), id="one step"),
        pytest.param(is_of("fused"), ["slow_packed_experts"], ("dequantised", "dequantised", 64), id="all steps"),
        pytest.param(is_of("dequantised"), ["slow_long_prefills"], ("fused", "fused", 64), id="the unpacked path"),
        pytest.param(is_expert, ["slow_experts"], ("reference", "reference", 64), id="both paths"),
        pytest.param(is_linear, ["slow_linears"], ("fused", "dequantised", 0), id="linears"),
        pytest.param(
            lambda trial: trial.path == "fused",
            ["slow_linears", "slow_packed_experts"],
            ("dequantised", "dequantised", 0),
            id="two at once",
        ),
        pytest.param(lambda trial: True, ["slow_experts", "slow_linears"], ("reference", "reference", 0), id="all"),
    ],
)
def test_what_is_wrong_falls_back_alone_and_is_told(
    spoilt: Which, codes: list[str], paths: tuple[str, str, int], caplog: pytest.LogCaptureFixture
) -> None:
    plan = replace(PLAN, linear_max_rows=64)
    checked = SelfCheck(bench(), [a_linear()], kernels(spoilt, shifted)).checked(plan)
    assert [code for code, _ in checked.slower] == codes
    assert all("off by" in said for _, said in checked.slower)
    assert (checked.path(4), checked.path(65), checked.linear_max_rows) == paths
    assert "a kernel is not used" in caplog.text
    if codes == ["slow_steps"]:
        assert checked.step(4) is LARGE


@pytest.mark.parametrize("path", ["fused", "dequantised"])
def test_a_step_that_is_wrong_for_few_tokens_alone_is_not_there_to_fall_back_to(path: str) -> None:
    def is_spoilt(trial: AnyTrial) -> bool:
        return is_of(path)(trial) and trial.tokens == 1  # 3 experts, 2 a token: each route has a tile of its own

    checked = SelfCheck(bench(), [], kernels(is_spoilt, shifted)).checked(PLAN)
    assert (checked.fused, checked.dense is None) == (((), False) if path == "fused" else (PLAN.fused, True))


def fails(error: Exception) -> Callable[[torch.Tensor], torch.Tensor]:
    def fail(output: torch.Tensor) -> torch.Tensor:
        raise error

    return fail


def empty_cache_file(output: torch.Tensor) -> torch.Tensor:
    """As Triton reads what a power cut has left of a kernel's description."""
    json.loads("")
    raise AssertionError


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (not_numbers, "nan"),
        (does_not_build, "PassManager::run failed"),
        (has_no_room, "CUDA out of memory"),
        (empty_cache_file, "JSONDecodeError: Expecting value"),
        (fails(AssertionError("libcuda.so cannot found!")), "AssertionError: libcuda.so cannot found!"),
        (fails(AttributeError("module 'triton.language' has no attribute 'interleave'")), "no attribute 'interleave'"),
        (fails(FileNotFoundError(2, "No such file or directory", "/sbin/ldconfig")), "'/sbin/ldconfig'"),
    ],
)
def test_why_is_told(how: Callable[[torch.Tensor], torch.Tensor], said: str) -> None:
    checked = SelfCheck(bench(), [], kernels(is_of("fused"), how)).checked(PLAN)
    [(code, why)] = checked.slower
    assert code == "slow_packed_experts"
    assert said in why


def test_padding_is_part_of_what_is_compared() -> None:
    def kernel(trial: AnyTrial) -> torch.Tensor:
        output = trial.expected()
        if isinstance(trial, Trial):
            output[-1] = 1.0  # what should get nothing gets something
        return output

    assert SelfCheck(bench(), [], kernel).checked(PLAN).path(4) == "reference"


def test_the_fastest_tile_is_not_used_where_it_is_wrong() -> None:
    """It was not there when the default tiles were compared."""
    fast = 16

    def time_ms(trial: AnyTrial) -> float:
        return 0.5 if isinstance(trial, Trial) and trial.step.gate_up.block_n == fast else 1.0

    def spoilt(trial: AnyTrial) -> bool:
        return isinstance(trial, Trial) and trial.tokens == 32 and trial.step.gate_up.block_n == fast

    plan = tune(bench(), [], PLAN, time_ms, kernels(spoilt, shifted), clock=lambda: 0.0)
    assert [code for code, _ in plan.slower] == ["slow_steps"]
    assert {step.max_tokens for step in plan.fused} == {*DECODE_TOKENS, 1_000_000} - {32}
    assert plan.step(32).max_tokens == DECODE_TOKENS[2]


def kept(plan: ExpertsPlan, folder: Path, **changed: str) -> ExpertsPlan | None:
    """What the next start finds that knows `changed` of itself."""
    facts = {"card": "NVIDIA GeForce RTX 4090 8.9 128", "driver": "580.65.06", "code": "0123"}
    KeptPlans(folder).keep(facts, plan)
    return KeptPlans(folder).find(facts | changed)


def test_what_was_measured_on_a_card_is_found_for_it_alone(tmp_path: Path) -> None:
    assert kept(PLAN, tmp_path) == PLAN
    for other in ({"card": "NVIDIA L4 8.9 58"}, {"driver": "590.1"}, {"code": "4567"}):
        assert kept(PLAN, tmp_path, **other) is None


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"facts": {"card": "a"}, "plan": {}}]', "[" * 10**6])
def test_a_file_that_is_damaged_costs_only_the_time_to_measure(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text, encoding="utf-8")
    assert KeptPlans(tmp_path).find({"card": "a"}) is None
    assert kept(PLAN, tmp_path) == PLAN


@pytest.mark.parametrize("value", [None, [], ["a"], {}, "a", 1e999, -1e999, 10**30, True], ids=str)
@pytest.mark.parametrize("name", ["plan", "name", "fused", "dense", "gate_up", "block_n", "fused_max_tokens"])
def test_a_plan_that_was_changed_is_a_plan_or_measured_anew(name: str, value: object, tmp_path: Path) -> None:
    facts = {"card": "a"}

    def spoilt(read: object, key: str = "") -> object:
        if key == name:
            return value
        if isinstance(read, dict):
            return {inner: spoilt(one, inner) for inner, one in read.items()}
        return [spoilt(one) for one in read] if isinstance(read, list) else read

    KeptPlans(tmp_path).keep(facts, PLAN)
    text = (tmp_path / NAME).read_text("utf-8")
    (tmp_path / NAME).write_text(json.dumps(spoilt(json.loads(text))), "utf-8")
    assert isinstance(KeptPlans(tmp_path).find(facts), ExpertsPlan | None)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert kept(PLAN, tmp_path / "file") is None
    assert "the next start measures it again" in caplog.text


def test_what_was_kept_is_not_measured_again_unless_it_is_wrong_now() -> None:
    def never(trial: AnyTrial) -> float:
        raise AssertionError("it was measured again")

    def nothing_wrong(trial: AnyTrial) -> bool:
        return False

    plan = replace(PLAN, name="measured", fused_max_tokens=7)
    assert tune(bench(), [], PLAN, never, kernels(nothing_wrong, shifted), lambda: 0.0, plan) == plan
    again = tune(bench(), [], PLAN, lambda trial: 1.0, kernels(is_of("fused", 16), shifted), lambda: 0.0, plan)
    assert [code for code, _ in again.slower] == ["slow_steps"]


def test_only_what_there_was_time_to_measure_whole_is_called_measured() -> None:
    ticks = itertools.count()
    run = kernels(lambda trial: False, shifted)
    assert tune(bench(), [], PLAN, lambda trial: 1.0, run, lambda: 0.0).name == "measured"
    assert tune(bench(), [], PLAN, lambda trial: 1.0, run, lambda: float(next(ticks))).name == "measured in part"


def test_kernels_that_cannot_be_timed_cost_the_linears_nothing() -> None:
    def time_ms(trial: AnyTrial) -> float:
        if isinstance(trial, Trial):
            raise RuntimeError("out of resource: shared memory")
        return 1.0

    plan = tune(bench(), [a_linear()], PLAN, time_ms, kernels(lambda trial: False, shifted), clock=lambda: 0.0)
    assert plan.slower == (("slow_experts", "none of the tiles runs"),)
    assert plan.path(1) == "reference"
    assert plan.linear_max_rows


def test_a_card_that_has_failed_is_no_kernel_that_is_wrong() -> None:
    """Every kernel after it would fail, too, and plain torch."""

    def faulty(output: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        SelfCheck(bench(), [], kernels(is_of("fused"), faulty)).checked(PLAN)
