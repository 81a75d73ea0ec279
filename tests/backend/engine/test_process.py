"""The engine's loop with a fake device: batches, memory, failures, and one answer for every request."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from backend.engine import process
from backend.engine.messages import Cancel, Failed, Finished, Picture, Running, Shutdown, Submit
from backend.engine.options import EngineOptions
from backend.engine.process import EXIT_DEVICE, Mailbox, _EngineLoop
from backend.engine.runner import Prepared
from label_config.schema import LabelSchema, RatingField

SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")


def submit(request_id: int, instruction: str = "", **options: bool) -> Submit:
    return Submit(SCHEMA, instruction, Picture(1, 1, b"\0\0\0"), request_id=request_id, **options)


class FakeSequence:
    def __init__(self, request: Submit) -> None:
        self.request, self.finished, self.cancelled, self.failure = request, False, False, ""

    def result(self) -> Finished:
        return Finished(self.request.request_id, (b"{}",), (1.0,), "stop", 1, 1)


class FakeRunner:
    """`fault` may raise for a batch; rows are otherwise answered one after the other."""

    def __init__(self, fault: Callable[[list[str]], None] = lambda names: None) -> None:
        self.fault = fault
        self.batches: list[list[int]] = []

    def prepare(self, request: Submit) -> Any:
        if request.instruction == "unreadable":
            raise OSError("a broken picture")
        return Prepared(FakeSequence(request), None, None, None)  # type: ignore[arg-type]

    def generate(self, batch: list[Any], is_cancelled: Any, on_finished: Any) -> None:
        self.batches.append([row.sequence.request.request_id for row in batch])
        self.fault([row.sequence.request.instruction for row in batch])
        for row in batch:
            row.sequence.cancelled = is_cancelled(row.sequence.request.request_id)
            row.sequence.finished = True
            on_finished(row.sequence)


class Loop:
    def __init__(self, runner: FakeRunner, max_batch: int = 4) -> None:
        self.sent: list[Any] = []
        self.mailbox = Mailbox()
        self.runner = runner
        self._loop = _EngineLoop(self, self.mailbox, EngineOptions(max_batch=max_batch))  # type: ignore[arg-type]
        self._loop._runner = runner  # type: ignore[assignment]

    def send(self, message: Any) -> None:  # what a Connection does
        self.sent.append(message)

    def run(self, *messages: Any) -> dict[int, Any]:
        """Answer `messages` and return the one answer of each request."""
        for message in messages:
            self.mailbox.put(message)
        num_answered = 0
        while num_answered < sum(isinstance(m, Submit) for m in messages):
            requests = self.mailbox.take(self._loop._batch_size())
            assert requests
            self._loop._answer(requests)
            num_answered += len(requests)
        answers = [m for m in self.sent if isinstance(m, Finished | Failed)]
        by_id = {answer.request_id: answer for answer in answers}
        assert len(by_id) == len(answers), "a request was answered twice"
        return by_id


def test_every_request_of_a_batch_is_answered_once_and_announced_before() -> None:
    loop = Loop(FakeRunner())
    answers = loop.run(*(submit(i) for i in range(6)))
    assert sorted(answers) == list(range(6))
    assert loop.runner.batches == [[0, 1, 2, 3], [4, 5]]
    assert [m.request_ids for m in loop.sent if isinstance(m, Running)] == [(0, 1, 2, 3), (4, 5)]


def test_interactive_requests_go_first_and_never_share_a_batch_with_bulk_work() -> None:
    loop = Loop(FakeRunner())
    loop.run(submit(1), submit(2), submit(3, interactive=True))
    assert loop.runner.batches == [[3], [1, 2]]


def test_a_request_that_was_aboard_a_death_runs_alone() -> None:
    loop = Loop(FakeRunner())
    loop.run(submit(1), submit(2, alone=True), submit(3), submit(4))
    assert loop.runner.batches == [[1], [2], [3, 4]]


def test_out_of_memory_halves_the_batch_and_remembers_the_smaller_size() -> None:
    def fault(names: list[str]) -> None:
        if len(names) > 2:
            raise torch.OutOfMemoryError

    loop = Loop(FakeRunner(fault))
    answers = loop.run(*(submit(i) for i in range(8)))
    assert all(isinstance(answer, Finished) for answer in answers.values())
    assert loop.runner.batches == [[0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_request_that_fits_not_even_alone_fails_by_itself() -> None:
    def fault(names: list[str]) -> None:
        if "huge" in names:
            raise torch.OutOfMemoryError

    answers = Loop(FakeRunner(fault)).run(submit(1), submit(2, "huge"), submit(3))
    assert isinstance(answers[1], Finished)
    assert isinstance(answers[3], Finished)
    assert answers[2].kind == "out_of_memory"


def test_a_failed_batch_runs_again_row_by_row_so_that_only_the_culprit_fails() -> None:
    def fault(names: list[str]) -> None:
        if "poison" in names:
            raise IndexError("a bug")

    answers = Loop(FakeRunner(fault)).run(submit(1), submit(2, "poison"), submit(3))
    assert isinstance(answers[1], Finished)
    assert isinstance(answers[3], Finished)
    assert answers[2] == Failed(2, "internal", "IndexError: a bug")


def test_a_picture_that_cannot_be_prepared_fails_alone() -> None:
    answers = Loop(FakeRunner()).run(submit(1, "unreadable"), submit(2))
    assert isinstance(answers[1], Failed)
    assert isinstance(answers[2], Finished)


def test_a_cancelled_request_is_told_so_and_a_late_cancel_is_forgotten() -> None:
    loop = Loop(FakeRunner())
    answers = loop.run(submit(1), submit(2), Cancel(2))
    assert answers[2].kind == "cancelled"
    loop.mailbox.put(Cancel(1))
    assert not loop.mailbox.is_cancelled(1)


def test_a_broken_device_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def leave(code: int) -> None:
        raise Ended(code)

    def fault(names: list[str]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Ended, match=str(EXIT_DEVICE)):
        Loop(FakeRunner(fault)).run(submit(1))


def test_a_closed_mailbox_ends_the_loop() -> None:
    mailbox = Mailbox()
    mailbox.put(Shutdown())
    assert mailbox.take(4) is None


def test_an_unreadable_message_ends_the_process_instead_of_losing_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    class Garbage:
        def recv(self) -> None:
            raise ValueError("not a message")

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    process._read(Garbage(), Mailbox())  # type: ignore[arg-type]
    assert codes == [process.EXIT_READER]
