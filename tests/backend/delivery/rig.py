"""A delivery loop between the fake Label Studio and a store in memory, with a clock that tests turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backend.delivery.loop import Delivery
from backend.delivery.pace import DeliveryLimits
from backend.label_studio.predictions import PredictionsClient
from tests.backend.delivery.fake_server import CONFIG, FakeServer
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.limits import WAIT_S

VERSION = "garments-nf4-0123456789ab"
A_WHILE_S = 700.0  # longer than any backoff
SHORT_S = 0.2
"""The patience for a call that is not answered."""


@dataclass(frozen=True)
class MemoryWork:
    id: int
    project: str
    task_id: int | str
    model_version: str = VERSION
    recipe: str = "r1"
    state: str = "done"
    answer_key: str | None = "a1"
    push_attempts: int = 0
    told: bool = False
    next_try_at: float = 0.0
    push_until: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    content: str


@dataclass(frozen=True)
class Recipe:
    label_config: str


@dataclass
class MemoryStore:
    works: dict[int, MemoryWork] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=lambda: {"r1": Recipe(CONFIG)})
    contents: dict[str, Answer] = field(default_factory=lambda: {"a1": Answer(json.dumps("a red coat"))})

    def add(self, project: str, task_ids: Iterable[int | str], **fields: Any) -> None:
        for task_id in task_ids:
            number = len(self.works) + 1
            self.works[number] = MemoryWork(number, project, task_id, **fields)

    def _due(self, now: float) -> list[MemoryWork]:
        return [
            w
            for w in self.works.values()
            if w.state in ("done", "returned") and now >= max(w.next_try_at, w.push_until)
        ]

    def projects_due(self, now: float) -> list[str]:
        return list(dict.fromkeys(work.project for work in self._due(now)))

    def take_due(self, project: str, limit: int, hold_until: float, now: float) -> Sequence[MemoryWork]:
        taken = [work for work in self._due(now) if work.project == project][:limit]
        taken = [replace(work, state="returned") if work.push_until else work for work in taken]
        self.works |= {work.id: replace(work, push_until=hold_until, told=True) for work in taken}
        return taken

    def answers(self, keys: Collection[str]) -> dict[str, Answer]:
        return {key: self.contents[key] for key in keys if key in self.contents}

    def recipe(self, fingerprint: str) -> Recipe | None:
        return self.recipes.get(fingerprint)

    def delivered(self, work_ids: Sequence[int], now: float) -> None:
        self._set(work_ids, state="delivered", reason="")

    def push_failed(
        self, work_ids: Sequence[int], next_try_at: float, reason: str, now: float, *, sent: bool = True
    ) -> None:
        for work_id in work_ids:
            work = self.works[work_id]
            state = "returned" if sent else work.state
            attempts = work.push_attempts + 1
            self._set([work_id], state=state, push_attempts=attempts, next_try_at=next_try_at, reason=reason)

    def drop(self, work_ids: Sequence[int], reason: str, message: str, now: float) -> None:
        assert message
        self._set(work_ids, state="failed", reason=reason)

    def _set(self, work_ids: Iterable[int], **fields: Any) -> None:
        self.works |= {i: replace(self.works[i], push_until=0.0, **fields) for i in work_ids}

    def states(self) -> dict[int | str, str]:
        """By task: its state, or why it was dropped."""
        return {w.task_id: w.reason if w.state == "failed" else w.state for w in self.works.values()}

    @property
    def open(self) -> list[MemoryWork]:
        return [work for work in self.works.values() if work.state in ("done", "returned")]


def make_prediction(work: Any, content: str) -> dict[str, Any]:
    value = {"text": [json.loads(content)]}
    region = {"id": f"r{work.task_id}", "from_name": "text", "to_name": "image", "type": "textarea", "value": value}
    return {"model_version": work.model_version, "score": 0.5, "result": [region]}


class Rig:
    """`run` runs rounds of delivery, each after `advance_s` on the clock. `patience_s` is with each call.
    `make_prediction` may be another. `refusals`: when it told that the token was refused."""

    def __init__(self, server: FakeServer, **limits: Any) -> None:
        self.server = server
        self.store: Any = MemoryStore()
        self.now = 1_800_000_000.0
        self.key = LEGACY_KEY
        self.connects = 0
        self.refusals: list[float] = []
        self.patience_s = WAIT_S
        self.make_prediction = make_prediction
        self.monotonic: Callable[[], float] = lambda: self.now
        self.limits = DeliveryLimits(**limits)
        self.delivery = self.new_delivery()

    def new_delivery(self, connect: Callable[[], PredictionsClient] | None = None) -> Delivery:
        self.delivery = Delivery(
            self.store,
            connect or self._connect,
            lambda work, content: self.make_prediction(work, content),
            limits=self.limits,
            clock=lambda: self.now,
            monotonic=lambda: self.monotonic(),
            jitter=lambda: 1.0,
            refused=lambda: self.refusals.append(self.now),
        )
        return self.delivery

    def _connect(self) -> PredictionsClient:
        self.connects += 1
        return PredictionsClient(self.server.url, self.key, read_s=self.patience_s, import_s=self.patience_s)

    def run(self, rounds: int = 1, advance_s: float = 0.0) -> None:
        async def go() -> None:
            for _ in range(rounds):
                self.now += advance_s
                if advance_s >= self.limits.settle_s:
                    self.server.settle()
                await self.delivery.deliver_due()

        asyncio.run(go())

    def run_until_settled(self, max_rounds: int = 80) -> None:
        for _ in range(max_rounds):
            if not self.store.open:
                return
            self.run(advance_s=A_WHILE_S)
        raise AssertionError(f"still open: {self.store.open[:3]}; {self.delivery.status}")

    def close(self) -> None:
        asyncio.run(self.delivery.stop())
