"""The engine's loop with a fake device."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from backend.engine.loop import EngineLoop
from backend.engine.mailbox import Mailbox
from backend.engine.messages import (
    Failed,
    Finished,
    Picture,
    Sampling,
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
        self, runner: FakeRunner | None = None, max_slots: int = 4, mixed_from: int = 99, **options: Any
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
