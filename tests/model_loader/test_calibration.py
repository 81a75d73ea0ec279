"""What calibration chooses from invented times, and that its trials run what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model_loader.experts import ExpertsPlan, calibrate
from model_loader.experts.calibration import (
    CROSSOVER_TOKENS,
    DECODE_TOKENS,
    DOWN_TILES,
    GATE_UP_TILES,
    LINEAR_ROWS,
    NothingRuns,
    crossover,
    fastest,
    measure_experts,
    measure_linears,
    tune,
)
from model_loader.experts.linear import FusedLinear4bit
from model_loader.experts.plan import FUSED, REFERENCE, default_plan, plan_for
from model_loader.experts.trials import Bench, LinearTrial, Trial
from tests.model_loader.packed import packed_module
from tests.model_loader.test_nf4_linear import linear4bit

PLAN = default_plan((8, 6))
Time = Callable[[Trial | LinearTrial], float]


def measured(time_ms: Time, *, left: int = 10**6) -> ExpertsPlan:
    """The plan after `left` questions whether there is time were answered with yes."""
    answers = itertools.chain(itertools.repeat(True, left), itertools.repeat(False))
    bench = Bench(packed_module(4, 64, 64), 2, torch.float32)
    plan = measure_experts(bench, PLAN, time_ms, lambda: next(answers))
    return measure_linears(bench, fused_linear(), plan, time_ms, lambda: next(answers))


def fused_linear() -> Any:
    linear: Any = linear4bit(64, 32)
    linear.__class__ = FusedLinear4bit
    return linear


def test_each_decode_size_gets_its_fastest_tiles() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        if isinstance(trial, LinearTrial):
            return 1.0
        gate_up, down = (64, 128) if trial.tokens > 32 else (16, 32)
        return abs(trial.step.gate_up.block_n - gate_up) + abs(trial.step.down.block_n - down)

    plan = measured(time_ms)
    assert [(s.max_tokens, s.gate_up.block_n, s.down.block_n) for s in plan.fused[:4]] == [
        (8, 16, 32),
        (32, 16, 32),
        (128, 64, 128),
        (192, 64, 128),
    ]
    assert plan.fused[4:] == FUSED[1:]
    assert [plan.step(tokens).max_tokens for tokens in (8, 9, 129)] == [8, 32, 192]


@pytest.mark.parametrize(
    ("fused_us_a_token", "border"),
    [
        pytest.param(0.1, CROSSOVER_TOKENS[-1], id="fused is always faster"),
        pytest.param(5.0, CROSSOVER_TOKENS[0] // 2, id="dequantising is always faster"),
        pytest.param(0.7, 1024, id="they meet between 1024 and 2048 tokens"),
    ],
)
def test_the_border_lies_where_dequantising_begins_to_pay(fused_us_a_token: float, border: int) -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        return trial.tokens * fused_us_a_token if trial.path == "fused" else 1000.0

    assert measured(time_ms).fused_max_tokens == border


def test_linears_have_a_border_of_their_own() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        is_slow = isinstance(trial, LinearTrial) and trial.path == "fused" and trial.tokens > LINEAR_ROWS[1]
        return 2.0 if is_slow else 1.0

    assert measured(time_ms).linear_max_rows == LINEAR_ROWS[1]


def test_of_a_dense_model_the_linears_border_alone_is_measured() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        assert isinstance(trial, LinearTrial)
        return 2.0 if trial.path == "fused" and trial.tokens > LINEAR_ROWS[2] else 1.0

    plan = tune(Bench(None, 0, torch.float32), [fused_linear()], PLAN, time_ms, run=lambda trial: trial.expected())
    assert replace(plan, name=PLAN.name) == replace(PLAN, linear_max_rows=LINEAR_ROWS[2])


def test_a_trial_that_does_not_fit_or_build_is_never_chosen() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        if isinstance(trial, Trial) and trial.step.gate_up != GATE_UP_TILES[-1]:
            raise torch.OutOfMemoryError("no room")
        return 1.0

    assert {step.gate_up for step in measured(time_ms).fused[: len(DECODE_TOKENS)]} == {GATE_UP_TILES[-1]}


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(
            lambda trial: trial.path == "fused" and trial.tokens <= DECODE_TOKENS[0], id="every tile of a size"
        ),
        pytest.param(lambda trial: trial.tokens >= CROSSOVER_TOKENS[2], id="both paths of a long prefill"),
        pytest.param(lambda trial: isinstance(trial, LinearTrial), id="both paths of a linear"),
    ],
)
def test_where_nothing_runs_no_kernel_is_used(fails: Callable[[Trial | LinearTrial], bool]) -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        if fails(trial):
            raise RuntimeError("PassManager::run failed")
        return 1.0

    with pytest.raises(NothingRuns):
        measured(time_ms)


def test_a_path_that_does_not_run_is_not_used_beside_one_that_does() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        if trial.path == "fused" and trial.tokens >= CROSSOVER_TOKENS[0]:
            raise RuntimeError("out of resource: shared memory")
        if trial.path == "dequantised":
            raise torch.OutOfMemoryError("no room")
        return 1.0

    plan = measured(time_ms)
    assert plan.fused_max_tokens == CROSSOVER_TOKENS[0] // 2
    assert plan.linear_max_rows == LINEAR_ROWS[1]


def test_where_neither_path_has_room_fused_is_used_which_takes_less() -> None:
    def time_ms(trial: Trial | LinearTrial) -> float:
        if trial.tokens >= CROSSOVER_TOKENS[2]:
            raise torch.OutOfMemoryError("no room")
        return 1.0

    assert measured(time_ms).fused_max_tokens == CROSSOVER_TOKENS[-1]


def test_what_there_was_no_time_for_stays_as_it_was() -> None:
    assert replace(measured(lambda trial: 1.0, left=0), fused=PLAN.fused) == PLAN
    trials = len(GATE_UP_TILES) + len(DOWN_TILES)
    plan = measured(lambda trial: float(trial.path == "fused"), left=len(DECODE_TOKENS) * trials)
    assert (plan.fused_max_tokens, plan.linear_max_rows) == (PLAN.fused_max_tokens, PLAN.linear_max_rows)


def test_the_first_of_equals_and_nothing_of_nothing_is_fastest() -> None:
    steps = list(FUSED)
    assert fastest(steps, lambda step: 1.0) is steps[0]
    with pytest.raises(NothingRuns):
        fastest(steps, lambda step: math.inf)
    assert fastest(steps, lambda step: 1.0, lambda: False) is None


@pytest.mark.parametrize("wins", range(6), ids="fused wins at {} sizes".format)
def test_bisection_finds_the_border_in_three_questions(wins: int) -> None:
    asked: list[int] = []
    found = crossover(CROSSOVER_TOKENS, lambda tokens: (asked.append(tokens), tokens in CROSSOVER_TOKENS[:wins])[1])
    assert found == (CROSSOVER_TOKENS[wins - 1] if wins else 256)
    assert len(asked) <= 3


def test_a_linears_trials_agree() -> None:
    linear = fused_linear()
    x = torch.randn(3, 64)
    torch.testing.assert_close(LinearTrial("fused", linear, x)(), LinearTrial("dequantised", linear, x)())


@pytest.mark.parametrize("packed", [True, False], ids=["packed experts", "no packed experts"])
def test_a_cpu_is_not_measured(packed: bool) -> None:
    modules = [packed_module(2, 64, 64)] if packed else [torch.nn.Linear(2, 2)]
    assert calibrate(SimpleNamespace(modules=lambda: modules)) is REFERENCE
    assert plan_for(torch.device("cpu")) is REFERENCE


@pytest.mark.gpu
def test_a_card_is_measured_and_its_forward_can_be_captured() -> None:
    from model_loader import experts
    from tests.model_loader.packed import exact_forward, relative_error, routing

    module = packed_module(128, 2048, 768, "cuda")
    text = SimpleNamespace(num_experts_per_tok=8)
    plan = calibrate(
        SimpleNamespace(
            modules=lambda: [module], dtype=torch.bfloat16, config=SimpleNamespace(get_text_config=lambda: text)
        )
    )
    assert (plan.name, plan.slower) == ("measured", ())
    hidden = torch.randn(16, 2048, device="cuda", dtype=torch.bfloat16)
    index, weights = routing(16, 128, 8, "dropped", "cuda")
    experts.nf4_experts_forward(module, hidden, index, weights)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = experts.nf4_experts_forward(module, hidden, index, weights)
    hidden.copy_(torch.randn_like(hidden))
    index.copy_(routing(16, 128, 8, "one", "cuda")[0])
    graph.replay()
    assert relative_error(output, exact_forward(module, hidden, index, weights)) < 1e-2
