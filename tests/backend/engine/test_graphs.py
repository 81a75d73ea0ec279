"""Decode steps through graphs: what a runner gives without them, at any padding. A graph here runs its step again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backend.engine.attention import pool_positions
from backend.engine.cache import KvPool
from backend.engine.graphs import DecodeGraphs, graph_sizes
from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.messages import Finished, Sampling
from backend.engine.packing import Row
from backend.engine.runner import Runner
from label_config.schema import Choice, ChoicesField, LabelSchema, NumberField, RatingField, TextField
from model_loader.loader import LoadedModel
from tests.backend.engine.requests import submit
from tests.backend.engine.slots import Slots
from tests.limits import examples
from tests.tiny_model import tiny_model

MAX_BLOCKS = 5
STYLE = ChoicesField("s", "pic", (Choice("a"), Choice("bcd")), required=True)
# With short names: a token that the grammar forces costs a fifth of a second where the kernel is interpreted.
WITH_TEXT = LabelSchema((TextField("t", "pic"), STYLE), "pic", "photo")
LABELS_ONLY = LabelSchema((NumberField("n", "pic", 0, 99), RatingField("r", "pic")), "pic", "photo")
SIZES = ((32, 32), (64, 16), (16, 64), (20, 90))


class RunAgain:
    """Takes the place of a CUDA graph on a CPU."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.replay = step
        step()


@functools.cache
def model(*, dense: bool = False) -> LoadedModel:
    """Its experts know routes that lead nowhere, as the 4-bit ones do: transformers' default does not."""
    loaded = tiny_model(role="graphs", dense=dense)
    loaded.model.set_experts_implementation("eager")
    return loaded


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner(model(), image_tokens=64, context_tokens=1024, kv_tokens=4096, max_slots=8)
    yield made
    made.close()


def answers(runner: Runner, count: int, *, mixed: bool = False) -> list[Finished]:
    """The answers to `count` requests; no two have the same schema, size and noise. `mixed`: they start one by one."""
    slots = Slots(runner, 4096)
    rows: list[Row] = []
    patches = []
    for i in range(count):
        sampling = Sampling(max_new_tokens=examples(16, 40), temperature=0.0)
        request = submit(i, LABELS_ONLY if i % 3 == 2 else WITH_TEXT, size=SIZES[i % 4], sampling=sampling)
        rows.append(slots.start(request))
        patches.append(runner.to_patches(request, rows[-1].prompt))
    if mixed:
        for number, picture in enumerate(patches):
            runner.prefill([rows[number]], [picture], [row for row in rows[:number] if not row.sequence.finished])
    else:
        runner.prefill(rows, patches)
    while running := [row for row in rows if not row.sequence.finished]:
        runner.decode(running)
    return [row.sequence.result() for row in rows]


@pytest.mark.slow
def test_answers_through_graphs_are_those_without(runner: Runner) -> None:
    replayed: list[str] = []

    class Counted(RunAgain):
        def __init__(self, step: Callable[[], None]) -> None:
            super().__init__(step)
            self.replay = lambda: (replayed.append("a step"), step())[1]

    expected = answers(runner, 3)
    runner.capture_graphs(Counted, (4, 6))  # wider steps run without a graph
    for answer, other in zip(answers(runner, 3), expected, strict=True):
        assert answer.pieces == other.pieces
        assert answer.probabilities == pytest.approx(other.probabilities, rel=1e-3, abs=1e-5)
    assert len(replayed) > 2


@pytest.mark.slow
def test_mixed_steps_read_the_pool_in_place_as_graphs_do(runner: Runner) -> None:
    expected = answers(runner, 3)
    runner.capture_graphs(RunAgain, (4,))
    for answer, other in zip(answers(runner, 3, mixed=True), expected, strict=True):
        assert answer.pieces == other.pieces
        assert answer.probabilities == pytest.approx(other.probabilities, rel=1e-3, abs=1e-5)


def pool_and_inputs(num_tokens: int) -> tuple[KvPool, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A pool with history, and tokens of slots of two blocks, each at another place in its slot."""
    config = model().model.config.text_config
    pool = KvPool(config, 40 * BLOCK_TOKENS + 1, device="cpu", dtype=torch.float32)
    pool.buffer.normal_(generator=torch.Generator().manual_seed(3))
    table = np.arange(2 * num_tokens, dtype=np.int32).reshape(2, num_tokens).T
    numbers = np.arange(num_tokens)
    place = 13 + numbers
    ids = 5 + numbers * 7 % 200
    write_index = pool_positions(table, place[:, None])[:, 0]
    return pool, np.stack([ids, place, place, place, write_index, place + 1]), table


def run(sizes: tuple[int, ...], num_tokens: int, *, dense: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The hidden states of `num_tokens` tokens, and the pool behind the step, less its scratch position."""
    pool, inputs, table = pool_and_inputs(num_tokens)
    before = pool.buffer.clone()
    language_model = model(dense=dense).model.model.language_model
    decode = DecodeGraphs(language_model, pool, MAX_BLOCKS, sizes, RunAgain)
    torch.testing.assert_close(pool.buffer[:, :, :-1], before[:, :, :-1], rtol=0, atol=0)  # capturing wrote nothing
    hidden = decode.run(inputs, table).clone()
    decode.close()
    return hidden, pool.buffer[:, :, :-1].clone()


@torch.inference_mode()
@pytest.mark.parametrize(("size", "num_tokens"), [(4, 1), (3, 2)])
@pytest.mark.parametrize("dense", [False, True], ids=["mixture of experts", "dense"])
def test_padding_tokens_change_nothing(size: int, num_tokens: int, dense: bool) -> None:
    Runner(model(dense=dense), image_tokens=64, context_tokens=1024, kv_tokens=64, max_slots=1).close()  # its attention
    exact, exact_pool = run((num_tokens,), num_tokens, dense=dense)
    padded, padded_pool = run((size,), num_tokens, dense=dense)
    assert padded.shape == (num_tokens, 128)
    torch.testing.assert_close(padded, exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded_pool, exact_pool, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("max_slots", "largest"), [(1, 8), (16, 32), (84, 128), (126, 192), (128, 192), (256, 384), (512, 768)]
)
def test_a_decode_step_of_all_rows_has_a_graph(max_slots: int, largest: int) -> None:
    sizes = graph_sizes(max_slots)
    assert sizes[-1] == largest >= max_slots
    assert sizes == tuple(sorted(set(sizes)))


@torch.inference_mode()
def test_padding_tokens_are_routed_to_no_expert(runner: Runner) -> None:
    experts = model().model.model.language_model.layers[0].mlp.experts
    routes: list[torch.Tensor] = []
    watch = experts.register_forward_pre_hook(lambda _, args: routes.append(args[1].clone()))
    run((4,), 3)
    watch.remove()
    captured, replayed = routes
    assert (captured == 8).all()  # nothing but padding when it was captured
    assert (replayed[:3] < 8).all()
    assert (replayed[3:] == 8).all()


@torch.inference_mode()
def test_a_step_takes_the_smallest_size_that_holds_it() -> None:
    replayed: list[int] = []

    class Noted:
        def __init__(self, step: Callable[[], None]) -> None:
            self.number = len(captured)
            captured.append(self)

        def replay(self) -> None:
            replayed.append(self.number)

    captured: list[Noted] = []
    decode = DecodeGraphs(model().model.model.language_model, pool_and_inputs(1)[0], MAX_BLOCKS, (2, 6, 4), Noted)
    assert decode.max_tokens == 6
    for num_tokens in (1, 2, 3, 4, 5, 6):
        decode.run(*pool_and_inputs(num_tokens)[1:])
    decode.close()
    assert replayed == [2, 2, 1, 1, 0, 0]  # captured largest first


def test_capturing_that_fails_in_the_middle_of_a_step_leaves_a_runner_that_works(runner: Runner) -> None:
    expected = answers(runner, 2)
    second_layer = model().model.model.language_model.layers[1]
    with second_layer.register_forward_pre_hook(lambda *_: 1 / 0), pytest.raises(ZeroDivisionError):
        runner.capture_graphs(RunAgain, (2,))
    for answer, again in zip(expected, answers(runner, 2), strict=True):
        assert answer.pieces == again.pieces
