"""Decode steps through graphs: what a runner gives without them, at any padding. A graph here runs its step again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backend.engine.cache import KvPool
from backend.engine.graphs import DecodeGraphs
from backend.engine.packing import Row
from backend.engine.runner import Runner
from tests.backend.engine.requests import CLOTHES, LABELS_ONLY, submit
from tests.tiny_model import tiny_model

SIZES = ((32, 32), (64, 16), (16, 64), (20, 90))


class RunAgain:
    """Takes the place of a CUDA graph on a CPU."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.replay = step
        step()


@pytest.fixture(autouse=True)
def _experts_know_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the 4-bit experts do. transformers' default leaves what is not routed uninitialised."""
    monkeypatch.setattr(tiny_model().model.config.text_config, "_experts_implementation", "eager")


def make_runner() -> Runner:
    return Runner(tiny_model(), image_tokens=64, context_tokens=1024, kv_tokens=4096, max_slots=8)


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = make_runner()
    yield made
    made.close()


def gates() -> list[Any]:
    return [m for name, m in tiny_model().model.named_modules() if name.endswith(".mlp.gate")]


def answers(runner: Runner, count: int, *, steps: int) -> list[tuple[Any, ...]]:
    """Prefill `count` requests and decode them to their ends; no two have the same schema, size and noise."""
    rows: list[Row] = []
    patches = []
    for i in range(count):
        request = submit(i, LABELS_ONLY if i % 3 == 2 else CLOTHES, size=SIZES[i % 4])
        prompt = runner.prompts.encode(request)
        rows.append(runner.start(request, prompt, 512 * i))
        patches.append(runner.to_patches(request, prompt))
    runner.prefill(rows, patches)
    for _ in range(steps):
        if running := [row for row in rows if not row.sequence.finished]:
            runner.decode(running)
    return [(row.sequence._pieces, row.sequence._probabilities) for row in rows]


def test_answers_through_graphs_are_those_without(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecodeGraphs.__init__, "__defaults__", ((4, 6), None))  # wider steps run without a graph
    expected = answers(runner, 3, steps=7)
    replayed, used = make_runner(), list[int]()
    replayed.capture_graphs(RunAgain)
    run_graph = DecodeGraphs.run
    monkeypatch.setattr(
        DecodeGraphs, "run", lambda self, inputs: (used.append(inputs.shape[1]), run_graph(self, inputs))[1]
    )
    for (pieces, probabilities), (other, others) in zip(expected, answers(replayed, 3, steps=7), strict=True):
        assert pieces == other
        assert probabilities == pytest.approx(others, rel=1e-3, abs=1e-5)
    assert len(used) > 2
    assert min(used) < 4
    replayed.close()


def pool_and_inputs(num_tokens: int) -> tuple[KvPool, np.ndarray[Any, Any]]:
    """A pool with history, and tokens of slots of 20 positions, each at another place in its slot."""
    config = tiny_model().model.config.text_config
    pool = KvPool(config, 20 * 40 + 1, device="cpu", dtype=torch.float32)
    pool.buffer.normal_(generator=torch.Generator().manual_seed(3))
    numbers = np.arange(num_tokens)
    place = numbers % 17
    ids = 5 + numbers * 7 % 200
    return pool, np.stack([ids, place, place, place, numbers * 20 + place, numbers * 20, place + 1])


def run(sizes: tuple[int, ...], num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states of `num_tokens` tokens, and the pool behind the step, less its scratch position."""
    pool, inputs = pool_and_inputs(num_tokens)
    before = pool.buffer.clone()
    language_model = tiny_model().model.model.language_model
    language_model.config._attn_implementation = "kv_slots"
    decode = DecodeGraphs(language_model, pool, sizes, RunAgain)
    torch.testing.assert_close(pool.buffer[:, :, :-1], before[:, :, :-1], rtol=0, atol=0)  # capturing wrote nothing
    hidden = decode.run(inputs).clone()
    decode.close()
    return hidden, pool.buffer[:, :, :-1].clone()


@torch.inference_mode()
@pytest.mark.parametrize(("size", "num_tokens"), [(4, 1), (6, 5)])
def test_padding_tokens_change_nothing(size: int, num_tokens: int, runner: Runner) -> None:
    exact, exact_pool = run((num_tokens,), num_tokens)
    padded, padded_pool = run((size, 2 * size), num_tokens)
    assert padded.shape == (num_tokens, 128)
    torch.testing.assert_close(padded, exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded_pool, exact_pool, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_padding_tokens_are_routed_to_no_expert(runner: Runner) -> None:
    experts = tiny_model().model.model.language_model.layers[0].mlp.experts
    routes: list[torch.Tensor] = []
    watch = experts.register_forward_pre_hook(lambda _, args: routes.append(args[1].clone()))
    run((8,), 3)
    watch.remove()
    captured, replayed = routes
    assert (captured == 8).all()  # nothing but padding when it was captured
    assert (replayed[:3] < 8).all()
    assert (replayed[3:] == 8).all()


@torch.inference_mode()
def test_a_step_takes_the_smallest_size_that_holds_it(runner: Runner) -> None:
    pool, _ = pool_and_inputs(1)
    replayed: list[int] = []

    def capture(step: Callable[[], None]) -> Any:
        made = RunAgain(step)
        number = len(captured)
        captured.append(made)
        made.replay = lambda: (replayed.append(number), step())[1]
        return made

    captured: list[RunAgain] = []
    decode = DecodeGraphs(tiny_model().model.model.language_model, pool, (2, 6, 4), capture)
    assert decode.max_tokens == 6
    for num_tokens in (1, 2, 3, 4, 5, 6):
        decode.run(pool_and_inputs(num_tokens)[1])
    decode.close()
    assert replayed == [2, 2, 1, 1, 0, 0]  # captured largest first


@torch.inference_mode()
def test_closing_leaves_the_model_as_it_was(runner: Runner) -> None:
    pool, _ = pool_and_inputs(1)
    decode = DecodeGraphs(tiny_model().model.model.language_model, pool, (2,), RunAgain)
    assert len(gates()) == 2
    assert all(gate._forward_hooks for gate in gates())
    decode.close()
    assert not any(gate._forward_hooks for gate in gates())


def test_capturing_that_fails_in_the_middle_of_a_step_leaves_a_runner_that_works(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(runner, 2, steps=3)

    def broken(*args: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("backend.engine.slot_attention.slot_attention", broken)
    with pytest.raises(RuntimeError, match="no such kernel"):
        runner.capture_graphs(RunAgain)
    assert not any(gate._forward_hooks for gate in gates())
    for (pieces, _), (again, _) in zip(expected, answers(runner, 2, steps=3), strict=True):
        assert pieces == again
