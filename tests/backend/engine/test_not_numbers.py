"""A picture whose numbers are broken fails its own request, and leaves nothing behind for the next one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from backend.engine.runner import Row, Runner
from backend.engine.vision import VisualTokens
from tests.backend.engine.requests import CLOTHES, LABELS_ONLY, submit
from tests.backend.engine.slots import Slots
from tests.tiny_model import tiny_model


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner(tiny_model(), image_tokens=64, context_tokens=1024, kv_tokens=4096, max_slots=8)
    yield made
    made.close()


def prefill(runner: Runner, *, broken: int | None, second: bool = True) -> list[str]:
    """Prefill long, short or long, and long prompts, in the same blocks each time. Returns what each failed of."""
    slots = Slots(runner, 4096)
    rows: list[Row] = []
    pictures = []
    for i, schema in enumerate((CLOTHES, CLOTHES if second else LABELS_ONLY, CLOTHES)):
        request = submit(i, schema)
        rows.append(slots.start(request))
        prompt = rows[-1].prompt
        [visual] = runner.encode([runner.to_patches(request, prompt)], [prompt.grid])
        if i == broken:
            visual = VisualTokens(torch.full_like(visual.embeddings, math.nan), visual.deepstack)
        pictures.append(visual)
    runner.prefill(rows, pictures)
    return [row.sequence.failure for row in rows]


def test_its_neighbours_go_on(runner: Runner) -> None:
    assert [bool(failure) for failure in prefill(runner, broken=1)] == [False, True, False]


def test_several_broken_rows_are_left_to_smaller_steps(runner: Runner) -> None:
    broken = tiny_model().model.lm_head.register_forward_hook(lambda head, hidden, logits: logits * math.nan)
    with broken, pytest.raises(ArithmeticError, match="not numbers"):
        prefill(runner, broken=None)


def test_a_shorter_request_in_the_same_blocks_is_answered(runner: Runner) -> None:
    assert "not numbers" in prefill(runner, broken=1)[1]
    assert prefill(runner, broken=None, second=False) == ["", "", ""]
