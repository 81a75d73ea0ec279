"""The store beside a dict while label configs change: Label Studio asks, configs change, pushes get lost, kills happen.

Whatever the order, Label Studio never has two predictions of one task and version, no answer is told under another
version than its own, every task is counted once at most, and in the end each task that Label Studio lacked under the
present version, and that was not told under another, has its prediction.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backend.store import Store, StoredAnswer, Work
from tests.backend.store.given import RECIPE, opened, task
from tests.limits import examples

P = RECIPE.project
TASKS = (1, 2, 3)
VERSIONS = ("v1", "v2", "v3")
DEADLINE, CHECK, HOLD = 20.0, 8.0, 15.0
pick = st.integers(min_value=0, max_value=99)
Told = tuple[int, str]


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = opened(self.folder / "prelabel.db")
        self.stores: list[Store] = [self.store]
        self.now = 1.0
        self.present = "v1"
        self.label_studio: Counter[Told] = Counter()
        self.requests: list[tuple[list[Work], float]] = []
        self.jobs: list[Work] = []
        self.pushes: list[tuple[list[Work], float]] = []
        self.asked: set[int] = set()

    def change(self, version: str) -> None:
        self.store.set_present(replace(RECIPE, fingerprint=f"recipe-{version}"), version, self.now)

    @rule(version=st.sampled_from(VERSIONS))
    def config_changes(self, version: str) -> None:
        self.now += 1
        self.present = version
        self.change(version)

    @rule(ids=st.lists(st.sampled_from(TASKS), min_size=1, unique=True))
    def ask(self, ids: list[int]) -> None:
        """Label Studio leaves out tasks that have a prediction of the present version."""
        self.now += 1
        self.store.save_recipe(replace(RECIPE, fingerprint=f"recipe-{self.present}"), self.now)
        items = [
            replace(task(number), model_version=self.present, recipe=f"recipe-{self.present}")
            for number in ids
            if not self.label_studio[number, self.present]
        ]
        rows = self.store.accept(items, interactive=False, reply_until=self.now + DEADLINE, now=self.now)
        self.change(self.present)
        self.asked |= {item.task_id for item in items}
        self.requests.append((rows, self.now))

    @rule(limit=st.integers(min_value=1, max_value=3))
    def claim(self, limit: int) -> None:
        self.now += 1
        rows = self.store.claim(limit, self.now)
        assert all((row.model_version, row.recipe) == (self.present, f"recipe-{self.present}") for row in rows)
        self.jobs += rows

    @precondition(lambda self: self.jobs)
    @rule(number=pick, fails=st.booleans())
    def end(self, number: int, fails: bool) -> None:
        """Of a job, which may be of an earlier version."""
        self.now += 1
        job = self.jobs.pop(number % len(self.jobs))
        if fails:
            row = self.store.fail(job.id, "image_timeout", "", self.now, image_hash=job.image_hash)
        else:
            answer = StoredAnswer(f"{job.task_id}:{job.model_version}", "{}")
            row = self.store.finish(job.id, answer, 0.5, False, self.now, image_hash=job.image_hash)
        assert row is None or (row.task_id, row.model_version) == (job.task_id, job.model_version)

    @rule()
    def compute_all(self) -> None:
        for _ in range(9):
            self.claim(9)
            while self.jobs:
                self.end(0, False)

    @precondition(lambda self: self.requests)
    @rule(number=pick, arrives=st.booleans())
    def reply(self, number: int, arrives: bool) -> None:
        self.now += 1
        rows, chosen_at = self.requests.pop(number % len(self.requests))
        sent = self.store.returned([row.id for row in rows], self.now + CHECK, self.now, chosen_at=chosen_at)
        self.label_studio.update({(r.task_id, r.model_version): 1 for r in rows if r.id in sent and arrives})
        self.store.reply_ended([row.id for row in rows], self.now)

    @rule(limit=st.integers(min_value=1, max_value=3))
    def take(self, limit: int) -> None:
        self.now += 1
        if rows := self.store.take_due(P, limit, self.now + HOLD, self.now):
            self.pushes.append((rows, self.now + HOLD))

    @precondition(lambda self: self.pushes)
    @rule(number=pick, end=st.sampled_from(["ok", "ok", "reply lost", "not sent", "hangs", "other config"]))
    def push(self, number: int, end: str) -> None:
        self.now += 1
        rows, hold_until = self.pushes.pop(number % len(self.pushes))
        if hold_until > self.now:
            self.end_push(rows, end)

    def end_push(self, rows: list[Work], end: str) -> None:
        ids = [row.id for row in rows]
        keys = [(row.task_id, row.model_version) for row in rows]
        in_doubt = {key for key, row in zip(keys, rows, strict=True) if row.told or row.state != "done"}
        for key, row in zip(keys, rows, strict=True):
            assert row.answer_key == f"{key[0]}:{key[1]}", "an answer goes out under its own version"
        if end in ("ok", "reply lost", "hangs"):
            self.label_studio.update(key for key in keys if key not in in_doubt or not self.label_studio[key])
        if end == "ok":
            self.store.delivered(ids, self.now)
        elif end == "other config":
            lacking = [row.id for row in rows if not self.label_studio[row.task_id, row.model_version]]
            self.store.delivered([row_id for row_id in ids if row_id not in lacking], self.now)
            self.store.drop(lacking, "config_changed", "", self.now)
            self.change(self.present)
        elif end != "hangs":
            self.store.push_failed(ids, self.now + 5, end, self.now, sent=end == "reply lost")

    @rule()
    def retry(self) -> None:
        self.change(self.present)
        self.store.retry_failed(P, self.now)

    @rule(seconds=st.sampled_from([2.0, 9.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def kill(self) -> None:
        self.now += 1
        self.store = opened(self.folder / "prelabel.db", self.now)
        self.stores.append(self.store)
        self.store.recover(self.now)
        self.requests.clear()
        self.jobs.clear()
        self.pushes.clear()

    @invariant()
    def label_studio_never_has_two(self) -> None:
        assert max(self.label_studio.values(), default=0) <= 1

    @invariant()
    def each_task_is_counted_once(self) -> None:
        for summary in self.store.summary():
            assert summary.num_tasks <= len(self.asked)

    def teardown(self) -> None:
        try:
            self.kill()
            for _ in range(4):
                self.retry()
                self.compute_all()
                self.now += 1_000
                self.end_push(self.store.take_due(P, 99, self.now + HOLD, self.now), "ok")
            self.label_studio_never_has_two()
            for number in self.asked:
                assert any(self.label_studio[number, version] for version in VERSIONS)
            for summary in self.store.summary():
                assert set(summary.states) <= {"delivered"}
        finally:
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)


TestVersionChanges = World.TestCase
TestVersionChanges.settings = settings(
    max_examples=examples(30, 1_000), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
