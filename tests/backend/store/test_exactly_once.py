"""The store beside a dict: Label Studio asks, replies and pushes get lost, the process is killed, in any order.

Whatever happens, Label Studio never has two predictions of one task, the states are those of the model, nobody is told
what the blind audit withholds, and once things calm down every task that was neither cancelled nor failed has its
prediction.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend.store import Store, StoredAnswer, Work
from backend.store.audit import chooses
from backend.store.people import LabelledTask
from tests.backend.store.given import RECIPE, opened, task
from tests.limits import examples

Key = tuple[str, int]
KEYS = [("a", 1), ("a", 2), ("b", 1)]  # few, so that what happens happens to the same task
DEADLINE, CHECK, HOLD = 20.0, 8.0, 15.0
pick = st.integers(min_value=0, max_value=99)


@dataclass
class Request:
    ids: list[int]
    chosen_at: float


@dataclass
class Push:
    rows: list[Work]
    hold_until: float


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = opened(self.folder / "prelabel.db")
        self.killed: list[Store] = []
        self.now = 1.0
        self.states: dict[Key, str] = {}
        self.attempts: Counter[Key] = Counter()
        self.answered: set[Key] = set()
        self.pictures: dict[Key, str] = {}
        self.claimed: dict[Key, tuple[str, str]] = {}  # the picture of the job, and its hash
        self.ids: dict[Key, int] = {}
        self.label_studio: Counter[Key] = Counter()
        self.deleted: set[Key] = set()
        self.unresolved: set[Key] = set()  # in a push that has not said how it ended
        self.shares: dict[str, float] = {}
        self.key_of_audit = b""
        self.told: set[Key] = set()  # or labelled by a person
        self.withheld: set[Key] = set()
        self.requests: list[Request] = []
        self.pushes: list[Push] = []

    @initialize(key=st.binary(min_size=32, max_size=32))
    def open_with(self, key: bytes) -> None:
        """A store makes up its own: the same steps would not be the same twice."""
        with sqlite3.connect(self.folder / "prelabel.db") as connection:
            connection.execute("UPDATE audit_key SET key = ?", [key])
        connection.close()
        self.key_of_audit = self.store.audit_key()
        assert self.key_of_audit == key

    def key(self, work_id: int) -> Key:
        return next(key for key, other in self.ids.items() if other == work_id)

    def chosen(self, number: int, *states: str) -> Key | None:
        found = sorted(key for key, state in self.states.items() if state in states)
        return found[number % len(found)] if found else None

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True),
        interactive=st.booleans(),
        picture=st.sampled_from("111112"),
    )
    def ask(self, keys: list[Key], interactive: bool, picture: str = "1") -> None:
        """Label Studio leaves out tasks that have a prediction of this version. Pictures are changed now and then."""
        self.now += 1
        keys = [key for key in keys if not self.label_studio[key]]
        items = [task(task_id, project, url=picture) for project, task_id in keys]
        rows = self.store.accept(items, interactive=interactive, reply_until=self.now + DEADLINE, now=self.now)
        for key, row in zip(keys, rows, strict=True):
            state, before = self.states.get(key), self.pictures.get(key)
            self.pictures[key] = picture
            other = before != picture and state in ("done", "withheld", "returned", "delivered")
            if state in (None, "failed", "cancelled") or other:
                self.states[key], self.attempts[key] = "queued", 0
                self.answered.discard(key)
            assert (row.project, row.task_id, self.ids.setdefault(key, row.id)) == (*key, row.id)
        self.requests.append(Request([row.id for row in rows], self.now))

    @rule(limit=st.integers(min_value=1, max_value=5))
    def claim(self, limit: int) -> None:
        self.now += 1
        queued = [key for key, state in self.states.items() if state == "queued"]
        suspects = [key for key in queued if self.attempts[key]]
        running = any(state == "running" and self.attempts[key] > 1 for key, state in self.states.items())
        rows = self.store.claim(limit, self.now)
        available = len(queued) - len(suspects) + (1 if suspects and not running else 0)
        assert len(rows) == min(limit, available)
        keys = [self.key(row.id) for row in rows]
        assert sum(key in suspects for key in keys) <= (0 if running else 1)
        for key, row in zip(keys, rows, strict=True):
            assert self.states[key] == "queued"
            self.states[key] = "running"
            self.attempts[key] += 1
            self.claimed[key] = row.image_url or "", row.image_hash
            assert (row.attempts, row.image_url) == (self.attempts[key], self.pictures[key])

    @rule(number=pick, same=st.booleans(), late=st.booleans())
    def finish(self, number: int, same: bool, late: bool) -> None:
        """`late`: the row may be over by now."""
        key = self.chosen(number, *(set(self.states.values()) if late else {"running"}))
        if key is None:
            return
        self.now += 1
        answer = StoredAnswer("shared" if same else f"{key}", "{}")
        picture, image_hash = self.claimed.get(key, (self.pictures[key], ""))
        row = self.store.finish(self.ids[key], answer, 0.5, same, self.now, image_hash=image_hash)
        assert row is not None
        if picture != self.pictures[key]:
            self.back_to_the_queue(key)
        elif self.states[key] in ("queued", "running"):
            self.states[key] = "done"
            self.answered.add(key)
            assert row.answer_key == answer.key
        self.withhold([key])
        assert row.state == self.states[key]
        assert self.store.answer(answer.key) == answer

    def back_to_the_queue(self, key: Key) -> None:
        if self.states[key] == "running":
            self.states[key], self.attempts[key] = "queued", 0

    @rule()
    def compute_all(self) -> None:
        self.now += 1
        for row in self.store.claim(9, self.now):
            key = self.key(row.id)
            self.attempts[key] += 1
            self.store.finish(row.id, StoredAnswer(f"{key}", "{}"), 0.5, False, self.now)
            self.states[key] = "done"
            self.answered.add(key)
            self.withhold([key])

    def withhold(self, keys: list[Key]) -> None:
        """What every way out asks first."""
        for key in keys:
            share = self.shares.get(key[0], 0.0)
            chosen = key in self.withheld or chooses(self.key_of_audit, key[0], str(key[1]), share)
            if self.states.get(key) == "done" and share and chosen and key not in self.told | self.unresolved:
                self.states[key] = "withheld"
                self.withheld.add(key)

    @precondition(lambda self: self.states)
    @rule(number=pick, share=st.sampled_from([0.0, 0.1, 0.5, 0.5]))
    def change_share(self, number: int, share: float) -> None:
        self.now += 1
        project = sorted({key[0] for key in self.states})[number % len({key[0] for key in self.states})]
        self.store.set_present(replace(RECIPE, project=project), "v1", self.now, share)
        self.shares[project] = share
        if not share:
            ended = {key for key in self.withheld if key[0] == project}
            self.withheld -= ended
            self.states.update({key: "done" for key in ended if self.states[key] == "withheld"})

    @rule(key=st.sampled_from(KEYS))
    def people_label(self, key: Key) -> None:
        """And it is read."""
        self.now += 1
        self.store.begin_reading(key[0], self.now)
        self.store.save_people(key[0], [LabelledTask(key[1], self.now, 1, 0, "{}")], {}, until=self.now, after=9)
        self.told.add(key)
        if key in self.withheld:
            self.withheld.remove(key)
            self.states[key] = "done" if self.states[key] == "withheld" else self.states[key]

    @rule(number=pick)
    def fail(self, number: int) -> None:
        if key := self.chosen(number, "running"):
            picture, image_hash = self.claimed[key]
            self.store.fail(self.ids[key], "x", "", self.now, image_hash=image_hash)
            if picture != self.pictures[key]:
                self.back_to_the_queue(key)
            else:
                self.states[key] = "failed"

    @rule(number=pick)
    def requeue(self, number: int) -> None:
        if key := self.chosen(number, "running"):
            self.store.requeue(self.ids[key], self.now)
            self.attempts[key] -= 1
            self.states[key] = "queued"

    @precondition(lambda self: self.requests)
    @rule(number=pick, arrives=st.booleans())
    def reply(self, number: int, arrives: bool) -> None:
        self.now += 1
        request = self.requests.pop(number % len(self.requests))
        sent = self.store.returned(request.ids, self.now + CHECK, self.now, chosen_at=request.chosen_at)
        self.withhold([self.key(work_id) for work_id in request.ids])
        for key in map(self.key, sent):
            assert self.states[key] in ("done", "returned", "delivered")
            assert key not in self.unresolved
            self.states[key] = "returned"
            self.told.add(key)
            self.label_studio[key] += arrives
        self.store.reply_ended(request.ids, self.now)

    @rule(project=st.sampled_from("aab"), limit=st.integers(min_value=1, max_value=4))
    def take(self, project: str, limit: int) -> None:
        self.now += 1
        seen = self.store.due(project, limit, self.now)
        rows = self.store.take_due(project, limit, self.now + HOLD, self.now)
        self.withhold([self.key(row.id) for row in seen])
        assert [row.id for row in rows] == [row.id for row in seen if self.states[self.key(row.id)] != "withheld"]
        held = {row.id for push in self.pushes if push.hold_until > self.now for row in push.rows}
        for row in rows:
            key = self.key(row.id)
            assert row.id not in held
            if key in self.unresolved:
                self.states[key] = "returned"
            assert row.state == self.states[key]
            self.unresolved.add(key)
            self.told.add(key)
        if rows:
            self.pushes.append(Push(rows, self.now + HOLD))

    @rule(project=st.sampled_from("ab"))
    def ask_again_while_the_late_ones_are_pushed(self, project: str) -> None:
        """What people do: some predictions are missing, so they ask once more."""
        keys = [key for key in KEYS if key[0] == project]
        self.ask(keys, False)
        self.compute_all()
        self.now += DEADLINE + CHECK
        self.take(project, 9)
        self.ask(keys, False)

    @precondition(lambda self: self.pushes)
    @rule(number=pick, end=st.sampled_from(["ok", "reply lost", "request lost", "not sent", "hangs", "gone"]))
    def push(self, number: int, end: str) -> None:
        self.now += 1
        push = self.pushes.pop(number % len(self.pushes))
        if push.hold_until <= self.now:
            return  # its owner has given up
        self._push(push.rows, end)

    def _push(self, rows: list[Work], end: str) -> None:
        keys, ids = [self.key(row.id) for row in rows], [row.id for row in rows]
        missing = [
            key
            for key, row in zip(keys, rows, strict=True)
            if (row.state == "done" and not row.told) or not self.label_studio[key]
        ]
        if end in ("ok", "reply lost", "hangs"):
            self.label_studio.update(missing)
        if end == "hangs":
            return
        self.unresolved.difference_update(keys)
        if end == "ok":
            self.store.delivered(ids, self.now)
        elif end == "gone":
            self.store.drop(ids, "task_deleted", "", self.now)
        else:
            self.store.push_failed(ids, self.now + 5, end, self.now, sent=end != "not sent")
        after = {"ok": "delivered", "gone": "cancelled", "not sent": None}.get(end, "returned")
        for key in keys:
            if self.states[key] in ("done", "returned", *(["queued", "running"] if end == "gone" else [])):
                self.states[key] = after or self.states[key]
            if end == "gone":
                self.deleted.add(key)

    @rule(key=st.sampled_from(KEYS))
    def person_deletes_prediction(self, key: Key) -> None:
        if self.label_studio[key]:
            self.label_studio[key] = 0
            self.deleted.add(key)

    @rule(project=st.sampled_from("ab"))
    def cancel(self, project: str) -> None:
        open_keys = [k for k, s in self.states.items() if k[0] == project and s in ("queued", "running")]
        assert self.store.cancel_project(project, self.now) == len(open_keys)
        self.states.update(dict.fromkeys(open_keys, "cancelled"))

    @rule(project=st.sampled_from("ab"))
    def retry(self, project: str) -> None:
        failed = [key for key, state in self.states.items() if key[0] == project and state == "failed"]
        assert self.store.retry_failed(project, self.now) == len(failed)
        for key in failed:
            if key in self.answered:
                self.states[key] = "done"
            else:
                self.states[key], self.attempts[key] = "queued", 0

    @rule(seconds=st.sampled_from([2.0, 9.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(close=st.booleans())
    def restart(self, close: bool) -> None:
        """Killed: the old connections stay as they are, and no request or push of theirs says anything any more."""
        self.now += 1
        if close:
            self.store.close()
        else:
            self.killed.append(self.store)
        self.store = opened(self.folder / "prelabel.db", self.now)
        assert self.store.set_aside is None
        running = [key for key, state in self.states.items() if state == "running"]
        assert self.store.recover(self.now) == len(running)
        for key in running:
            self.states[key] = "failed" if self.attempts[key] >= 3 else "queued"
        for key in self.unresolved:
            self.states[key] = "returned" if self.states[key] == "done" else self.states[key]
        self.unresolved.clear()
        self.requests.clear()
        self.pushes.clear()

    @invariant()
    def label_studio_never_has_two(self) -> None:
        assert max(self.label_studio.values(), default=0) <= 1

    @invariant()
    def nobody_is_told_what_is_withheld(self) -> None:
        assert not any(self.label_studio[key] for key in self.withheld)
        assert {key for key, state in self.states.items() if state == "withheld"} <= self.withheld

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        counts = Counter((key[0], state) for key, state in self.states.items())
        told: Counter[tuple[str, str]] = Counter()
        for summary in self.store.summary():
            told.update({(summary.project, state.value): num for state, num in summary.states.items()})
            told[summary.project, "cancelled"] += sum(summary.gone.values())
        assert +told == +counts

    def teardown(self) -> None:
        try:
            self.restart(close=False)
            for project in {key[0] for key in self.states}:
                self.store.set_present(replace(RECIPE, project=project), "v1", self.now + 1, 0.0)
            self.states.update({key: "done" for key, state in self.states.items() if state == "withheld"})
            self.withheld.clear()
            while rows := self.store.claim(9, self.now):
                for row in rows:
                    self.store.finish(row.id, StoredAnswer("end", "{}"), None, False, self.now)
                    self.states[self.key(row.id)] = "done"
            self.now += 100
            for project in self.store.projects_due(self.now):
                self._push(self.store.take_due(project, 99, self.now + HOLD, self.now), "ok")
            for key, state in self.states.items():
                if key not in self.deleted and state not in ("failed", "cancelled"):
                    assert (self.label_studio[key], state) == (1, "delivered")
            self.label_studio_never_has_two()
        finally:
            for store in [self.store, *self.killed]:
                store.close()
            shutil.rmtree(self.folder)


TestExactlyOnce = World.TestCase
TestExactlyOnce.settings = settings(
    max_examples=examples(30, 1_000), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
