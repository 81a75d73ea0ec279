"""What goes wrong in a step of the engine: only its culprit fails, and one answer goes out for every request."""

import os

import pytest
import torch

from backend.engine.loop import MEMORY_S, is_device_fault
from backend.engine.messages import (
    EXIT_DEVICE,
    Failed,
    Finished,
    Stats,
    Submit,
)
from model_loader.load_errors import is_out_of_memory
from tests.backend.engine.loop_rig import FakePrompt, FakeRow, FakeRunner, Harness, submit


@pytest.mark.parametrize("culprit", [2, 3], ids=["who decodes", "who starts"])
def test_only_the_culprit_of_a_mixed_step_fails(culprit: int) -> None:
    def fault(kind: str, names: list[str]) -> None:
        if "poison" in names and len(steps) > 1:
            raise IndexError("a bug")

    harness = Harness(FakeRunner(fault), max_slots=8, mixed_from=1)
    steps = harness.runner.steps
    requests = [submit(number, "poison" if number == culprit else "") for number in (1, 2, 3)]
    harness.put(*requests[:2])
    harness.loop.turn()
    harness.put(requests[2])
    while len(harness.answers) < len(requests):
        harness.loop.turn()
    assert steps[1] == ("mixed", [1, 2, 3])
    for number, answer in harness.answers.items():
        assert isinstance(answer, Failed if number == culprit else Finished)


def test_out_of_memory_halves_the_step_and_makes_later_prefills_smaller() -> None:
    def fault(kind: str, names: list[str]) -> None:
        if kind == "prefill" and len(names) > 2:
            raise torch.OutOfMemoryError

    harness = Harness(FakeRunner(fault), max_slots=9, stats_s=-1.0)
    answers = harness.run(*(submit(i) for i in range(12)))
    assert all(isinstance(answer, Finished) for answer in answers.values())
    prefills = [len(ids) for kind, ids in harness.runner.steps if kind == "prefill"]
    assert prefills[:4] == [8, 4, 2, 2]
    assert max(prefills[7:], default=0) <= 2
    told = [message for message in harness.sent if isinstance(message, Stats)]
    assert told[0].prefill_tokens == told[0].most_prefill_tokens == 1000
    assert told[-1].prefill_tokens == harness.scheduler.max_prefill_tokens < told[-1].most_prefill_tokens


def test_out_of_memory_in_a_decode_step_never_makes_prefills_larger() -> None:
    def fault(kind: str, names: list[str]) -> None:
        if kind == "decode" and len(names) > 4:
            raise torch.OutOfMemoryError

    harness = Harness(FakeRunner(fault), max_slots=9)
    harness.scheduler.limit_prefill(20)
    harness.run(*(submit(i) for i in range(8)))
    assert harness.scheduler.max_prefill_tokens == 20


@pytest.mark.parametrize(
    ("text", "is_fault", "is_shortage"),
    [
        ("Triton Error [CUDA]: an illegal memory access was encountered", True, False),
        ("Triton Error [CUDA]: out of memory", True, True),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", True, True),
        ('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/c10/cuda/CUDACachingAllocator.cpp":1165', False, True),
        ('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/c10/cuda/PeerToPeerAccess.cpp":83', False, False),
        ("CUDA driver error: an illegal memory access was encountered", True, False),
        ("CUDA error: device-side assert triggered", True, False),
        ("list index out of range", False, False),
    ],
)
def test_what_the_device_says_is_told_apart(text: str, is_fault: bool, is_shortage: bool) -> None:
    assert is_device_fault(RuntimeError(text)) is is_fault
    assert is_out_of_memory(RuntimeError(text)) is is_shortage


@pytest.mark.parametrize(("holds_s", "fails"), [(3, False), (MEMORY_S - 1, False), (MEMORY_S + 1, True)])
def test_memory_that_other_programs_have_taken_is_waited_for(holds_s: int, fails: bool) -> None:
    waited_s = 0.0

    def fault(kind: str, names: list[str]) -> None:
        if waited_s < holds_s:
            raise torch.OutOfMemoryError

    def wait(seconds: float) -> None:
        nonlocal waited_s
        waited_s += seconds

    harness = Harness(FakeRunner(fault), stats_s=-1.0, is_taken=lambda: waited_s < holds_s, wait=wait)
    answers = harness.run(submit(1), submit(2))
    assert [isinstance(answers[number], Failed) for number in (1, 2)] == [fails, False]
    told = [message for message in harness.sent if isinstance(message, Stats)]
    assert len(told) > min(waited_s, MEMORY_S), "it is not taken for a hang"
    assert waited_s <= MEMORY_S + holds_s % MEMORY_S


def test_a_request_that_fits_not_even_alone_fails_by_itself() -> None:
    def fault(kind: str, names: list[str]) -> None:
        if "huge" in names:
            raise torch.OutOfMemoryError

    answers = Harness(FakeRunner(fault)).run(submit(1), submit(2, "huge"), submit(3))
    assert isinstance(answers[1], Finished)
    assert isinstance(answers[3], Finished)
    assert answers[2].kind == "out_of_memory"


@pytest.mark.parametrize("kind_of_step", ["prefill", "decode"])
def test_only_the_culprit_of_a_failed_step_fails(kind_of_step: str) -> None:
    def fault(kind: str, names: list[str]) -> None:
        if kind == kind_of_step and "poison" in names:
            raise IndexError("a bug")

    answers = Harness(FakeRunner(fault), max_slots=8).run(*(submit(i) for i in range(5)), submit(5, "poison"))
    assert all(isinstance(answers[i], Finished) for i in range(5))
    assert answers[5] == Failed(5, "internal", "IndexError: a bug")


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [("unreadable", "bad_picture"), ("bad grammar", "bad_grammar"), ("too long", "too_long")],
)
def test_a_request_that_cannot_start_fails_alone(instruction: str, kind: str) -> None:
    answers = Harness().run(submit(1, instruction), submit(2))
    assert answers[1].kind == kind
    assert isinstance(answers[2], Finished)


def test_a_request_too_large_for_the_kv_cache_says_so() -> None:
    harness = Harness()
    harness.runner.encode = lambda request: _large(request)  # type: ignore[method-assign]
    assert "do not fit in the KV cache" in harness.run(submit(1))[1].message


def _large(request: Submit) -> FakePrompt:
    prompt = FakePrompt(request)
    prompt.num_tokens = 5000
    return prompt


def test_a_row_that_fails_inside_a_step_is_told_why() -> None:
    class Failing(FakeRunner):
        def decode(self, rows: list[FakeRow]) -> None:
            super().decode(rows)
            for row in rows:
                if row.sequence.request.instruction == "odd":
                    row.sequence.failure = "not numbers"

    answers = Harness(Failing()).run(submit(1), submit(2, "odd"))
    assert answers[2] == Failed(2, "internal", "not numbers")
    assert isinstance(answers[1], Finished)


def test_a_broken_device_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def leave(code: int) -> None:
        raise Ended(code)

    def fault(kind: str, names: list[str]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Ended, match=str(EXIT_DEVICE)):
        Harness(FakeRunner(fault)).run(submit(1))
