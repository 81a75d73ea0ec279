"""The engine's loop with a fake device: who runs when, memory, failures, cancels, and one answer for every request."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from backend.engine.loop import EngineLoop, is_device_fault, is_out_of_memory
from backend.engine.mailbox import Mailbox
from backend.engine.messages import (
    EXIT_DEVICE,
    Cancel,
    Failed,
    Finished,
    Picture,
    Running,
    Sampling,
    Shutdown,
    Stats,
    Submit,
)
from backend.engine.preparation import Preparation
from backend.engine.prompts import PromptTooLong
from backend.engine.scheduler import Scheduler, SchedulerLimits, Slot
from label_config.schema import LabelSchema, RatingField
from tests.backend.engine.all_free import assert_all_is_free

SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")
ANSWER_STEPS = 3


def submit(request_id: int, instruction: str = "", **options: bool) -> Submit:
    sampling = Sampling(max_new_tokens=10)
    return Submit(SCHEMA, instruction, Picture(1, 1, b"\0\0\0"), sampling, request_id=request_id, **options)


class FakePrompt:
    def __init__(self, request: Submit) -> None:
        self.suffix_ids, self.shared_ids, self.num_tokens = (0,) * 10, (), 20
        self.grid, self.name = None, request.instruction


class FakeSequence:
    def __init__(self, request: Submit) -> None:
        self.request, self.failure, self.num_tokens = request, "", 0
        self.num_steps = 1_000_000 if request.instruction == "endless" else ANSWER_STEPS

    @property
    def finished(self) -> bool:
        return bool(self.failure) or self.num_tokens >= self.num_steps

    def result(self) -> Finished:
        return Finished(self.request.request_id, (b"{}",), (1.0,), "stop", 1, 1)


class FakeRow:
    def __init__(self, sequence: FakeSequence) -> None:
        self.sequence = sequence
        self.request_id = sequence.request.request_id
        self.num_restarts = 0
        self.num_after_step = 20

    def restart(self, slot: Slot) -> None:
        self.num_restarts += 1


class FakeRunner:
    """`fault` may raise for a step; otherwise each row gets a token."""

    def __init__(self, fault: Callable[[str, list[str]], None] = lambda kind, names: None) -> None:
        self.fault = fault
        self.steps: list[tuple[str, list[int]]] = []
        self.rows: dict[int, FakeRow] = {}
        self.num_pictures: Counter[int] = Counter()
        self.prompts: Any = self

    def encode(self, request: Submit) -> FakePrompt:
        if request.instruction == "too long":
            raise PromptTooLong("prompt 9000 tokens")
        return FakePrompt(request)

    def to_patches(self, request: Submit, prompt: FakePrompt) -> str:
        if request.instruction == "unreadable":
            raise OSError("a broken picture")
        self.num_pictures[request.request_id] += 1
        return request.instruction

    def start(self, request: Submit, prompt: FakePrompt, slot: Slot) -> FakeRow:
        if request.instruction == "bad grammar":
            raise ValueError("no such rule")
        row = self.rows[request.request_id] = FakeRow(FakeSequence(request))
        return row

    def prefill(self, rows: list[FakeRow], pictures: list[str], decoding: list[FakeRow]) -> None:
        assert len(pictures) == len(rows)
        self._step("mixed" if decoding else "prefill", [*decoding, *rows])

    def decode(self, rows: list[FakeRow]) -> None:
        self._step("decode", rows)

    def _step(self, kind: str, rows: list[FakeRow]) -> None:
        self.steps.append((kind, [row.request_id for row in rows]))
        self.fault(kind, [row.sequence.request.instruction for row in rows])
        for row in rows:
            row.sequence.num_tokens += 1


class Harness:
    def __init__(
        self, runner: FakeRunner | None = None, max_slots: int = 4, mixed_from: int = 99, **options: float
    ) -> None:
        self.sent: list[Any] = []
        self.mailbox = Mailbox()
        self.runner = runner or FakeRunner()
        limits = SchedulerLimits(max_slots, 1000, 1, 100, max_prefill_tokens=1000, mixed_from=mixed_from)
        self.scheduler = Scheduler(limits)
        self.preparation = Preparation(self.runner.to_patches, None, 1)  # type: ignore[arg-type]
        self.loop = EngineLoop(
            self.runner,  # type: ignore[arg-type]
            self.mailbox,
            self.sent.append,
            self.scheduler,
            self.preparation,
            **options,
        )

    def put(self, *messages: Any) -> None:
        for message in messages:
            self.mailbox.put(message)

    @property
    def answers(self) -> dict[int, Any]:
        answers = [m for m in self.sent if isinstance(m, Finished | Failed)]
        by_id = {answer.request_id: answer for answer in answers}
        assert len(by_id) == len(answers), "a request was answered twice"
        return by_id

    def run(self, *messages: Any) -> dict[int, Any]:
        """Work until every submitted request is answered."""
        self.put(*messages)
        wanted = {message.request_id for message in messages if isinstance(message, Submit)}
        for _ in range(200):
            if wanted <= self.answers.keys():
                break
            self.loop.turn()
        assert wanted <= self.answers.keys(), "a request was never answered"
        if not self.scheduler.num_waiting and not self.scheduler.num_running:
            assert_all_is_free(self.scheduler)
        return self.answers


def test_every_request_is_answered_once_and_announced_before() -> None:
    harness = Harness()
    answers = harness.run(*(submit(i) for i in range(10)))
    assert sorted(answers) == list(range(10))
    for request_id in range(10):
        running = [m for m in harness.sent if isinstance(m, Running) and request_id in m.request_ids]
        assert harness.sent.index(running[0]) < harness.sent.index(answers[request_id])
    assert (harness.scheduler.num_waiting, harness.scheduler.num_running, len(harness.preparation)) == (0, 0, 0)


def test_a_request_joins_while_others_are_in_the_middle_of_theirs() -> None:
    harness = Harness()
    harness.put(submit(1, "endless"))
    harness.loop.turn()
    harness.loop.turn()
    assert isinstance(harness.run(submit(2))[2], Finished)
    assert ("decode", [1, 2]) in harness.runner.steps


def test_an_interactive_request_waits_for_one_step_at_most() -> None:
    harness = Harness()
    harness.put(*(submit(i, "endless") for i in range(9)))
    for _ in range(5):
        harness.loop.turn()
    num_steps = len(harness.runner.steps)
    harness.run(submit(100, interactive=True))
    assert harness.runner.steps[num_steps] == ("prefill", [100])


def test_bulk_work_steps_aside_for_an_interactive_request() -> None:
    harness = Harness()
    harness.put(*(submit(i, "endless") for i in range(3)))
    harness.loop.turn()
    harness.put(submit(100, "endless", interactive=True))
    for _ in range(13):
        harness.loop.turn()
    alone = sum(ids == [100] for kind, ids in harness.runner.steps if kind == "decode")
    together = sum(100 in ids and len(ids) > 1 for kind, ids in harness.runner.steps if kind == "decode")
    assert (alone, together) == (10, 2)


def test_a_request_that_was_aboard_a_death_is_prepared_and_run_alone() -> None:
    harness = Harness()
    harness.run(submit(1), submit(2, alone=True), submit(3), submit(4))
    assert all(len(ids) == 1 for _, ids in harness.runner.steps if 2 in ids)
    announced = [m.request_ids for m in harness.sent if isinstance(m, Running)]
    assert (2,) in announced


def test_nothing_is_begun_beside_a_request_that_runs_alone() -> None:
    harness = Harness()
    harness.put(submit(1, "endless", alone=True), submit(2))
    for _ in range(4):
        harness.loop.turn()
    assert [m.request_ids for m in harness.sent if isinstance(m, Running)] == [(1,)]


def test_a_cancelled_request_frees_its_slot_at_the_next_step() -> None:
    harness = Harness(max_slots=2)
    harness.put(submit(1, "endless"))
    harness.loop.turn()
    assert harness.scheduler.num_running == 1
    harness.put(Cancel(1), submit(2))
    harness.run(submit(3))
    answers = harness.answers
    assert answers[1] == Failed(1, "cancelled", "cancelled while it ran")
    assert isinstance(answers[2], Finished)


def test_a_cancel_in_the_queue_and_a_late_one() -> None:
    harness = Harness(max_slots=2)
    harness.put(submit(1), submit(2), Cancel(2))
    harness.run(submit(3))
    assert harness.answers[2].kind == "cancelled"
    harness.run(Cancel(1), submit(4))
    assert isinstance(harness.answers[1], Finished)


def test_bulk_that_starts_takes_along_those_who_run() -> None:
    harness = Harness(max_slots=8, mixed_from=1, stats_s=-1.0)
    harness.put(submit(1, "endless"), submit(2, "endless"))
    harness.loop.turn()
    harness.run(submit(3))
    assert harness.runner.steps[:2] == [("prefill", [1, 2]), ("mixed", [1, 2, 3])]
    last = [m for m in harness.sent if isinstance(m, Stats)][-1]
    assert (last.num_prefills, last.num_mixed) == (2, 1)


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


def put_one_back() -> Harness:
    """Requests 1 and 2 ran, then 1 took the blocks of 2."""
    harness = Harness(stats_s=-1.0)
    sampling = Sampling(max_new_tokens=800)
    harness.put(*(replace(submit(number, "endless"), sampling=sampling) for number in (1, 2)))
    harness.loop.turn()
    harness.runner.rows[1].num_after_step = 800
    harness.loop.turn()
    assert harness.runner.steps[-1] == ("decode", [1, 2])
    harness.runner.rows[2].num_after_step = 300
    harness.loop.turn()
    assert harness.runner.steps[-1] == ("decode", [1])
    return harness


def test_a_request_that_was_put_back_goes_on_when_there_is_room() -> None:
    harness = put_one_back()
    answers = harness.run(Cancel(1), submit(3))
    assert isinstance(answers[3], Finished)
    assert ("prefill", [2, 3]) in harness.runner.steps
    assert (harness.runner.rows[2].num_restarts, harness.runner.num_pictures[2]) == (1, 2)
    assert [m for m in harness.sent if isinstance(m, Stats)][-1].num_put_back == 1


def test_a_request_that_was_put_back_waits_again() -> None:
    harness = put_one_back()
    harness.put(Cancel(2))
    harness.loop.turn()
    assert harness.answers[2] == Failed(2, "cancelled", "cancelled while it waited")
    harness.put(Cancel(1))
    harness.loop.turn()
    assert_all_is_free(harness.scheduler)


def test_out_of_memory_halves_the_step_and_makes_later_prefills_smaller() -> None:
    def fault(kind: str, names: list[str]) -> None:
        if kind == "prefill" and len(names) > 2:
            raise torch.OutOfMemoryError

    harness = Harness(FakeRunner(fault), max_slots=9)
    answers = harness.run(*(submit(i) for i in range(12)))
    assert all(isinstance(answer, Finished) for answer in answers.values())
    prefills = [len(ids) for kind, ids in harness.runner.steps if kind == "prefill"]
    assert prefills[:4] == [8, 4, 2, 2]
    assert max(prefills[7:], default=0) <= 2


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
        ("CUDA error: device-side assert triggered", True, False),
        ("list index out of range", False, False),
    ],
)
def test_what_the_device_says_is_told_apart(text: str, is_fault: bool, is_shortage: bool) -> None:
    assert is_device_fault(RuntimeError(text)) is is_fault
    assert is_out_of_memory(RuntimeError(text)) is is_shortage


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


def test_a_shutdown_ends_the_loop() -> None:
    harness = Harness()
    harness.put(Shutdown())
    assert harness.loop.turn() is False


def test_the_loop_tells_how_it_is_doing() -> None:
    harness = Harness(stats_s=0.0)
    harness.run(submit(1), submit(2))
    last = [m for m in harness.sent if isinstance(m, Stats)][-1]
    assert last.num_running == 2
    assert (last.num_prefills, last.num_steps) == (1, 1)
