"""Delivery over the real store on disk: what was accepted is in Label Studio once, also after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.delivery.loop import Delivery
from backend.errors import StoreFull
from backend.label_studio.predictions import PredictionsClient
from backend.store.people import LabelledTask
from backend.store.store import Store
from backend.store.types import NewWork, RecipeRecord, StoredAnswer
from tests.backend.delivery.fake_server import CONFIG, CREATED, FakeServer
from tests.backend.delivery.rig import VERSION, make_prediction
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.store.given import QUICK
from tests.limits import WAIT_S

NOW = 1_800_000_000.0


def fill(store: Store, uid: str, task_ids: list[int]) -> list[int]:
    """Accepted, predicted, and the request that asked for them answered with nothing yet. Returns the work's ids."""
    store.save_recipe(RecipeRecord("r1", uid, CONFIG, "{}"), NOW)
    items = [NewWork(uid, task, VERSION, "r1", "http://pictures.example/1.jpg") for task in task_ids]
    works = store.accept(items, interactive=False, reply_until=NOW + 45, now=NOW)
    for work in store.claim(len(works), NOW):
        store.finish(work.id, StoredAnswer("a1", '"a red coat"'), 0.5, False, NOW)
    store.reply_ended([work.id for work in works], NOW)
    return [work.id for work in works]


def delivery_of(store: Store, server: FakeServer, now: Callable[[], float]) -> Delivery:
    def connect() -> PredictionsClient:
        return PredictionsClient(server.url, LEGACY_KEY, read_s=WAIT_S, import_s=WAIT_S)

    return Delivery(store, connect, make_prediction, clock=now, monotonic=now)


def deliver(store: Any, server: FakeServer, *times: float) -> Delivery:
    now = [0.0]
    delivery = delivery_of(store, server, lambda: now[0])

    async def go() -> None:
        for now[0] in times:
            await delivery.deliver_due()
        await delivery.stop()

    asyncio.run(go())
    return delivery


def states(store: Store, uid: str) -> dict[str, int]:
    [found] = [summary for summary in store.summary() if summary.project == uid]
    return {str(state): count for state, count in found.states.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prelabel.sqlite"


class DiesBeforeNoting:
    """The store of a process that is killed after Label Studio's answer: nothing is written any more."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name in ("delivered", "push_failed", "drop"):
            return self._die
        return getattr(self._store, name)

    def _die(self, *args: Any, **kwargs: Any) -> None:
        raise StoreFull("the disk is full")


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "same process, later"])
def test_a_crash_between_import_and_note_repeats_nothing(path: Path, label_studio: FakeServer, restarted: bool) -> None:
    uid = label_studio.add_project(1, 20)
    with Store.open(path, NOW, QUICK) as store:
        fill(store, uid, sorted(label_studio.tasks[1]))
        died = deliver(DiesBeforeNoting(store), label_studio, NOW + 1)
        assert "disk is full" in died.status.last_error
    with Store.open(path, NOW, QUICK) as store:
        if restarted:
            store.recover(NOW + 2)
        deliver(store, label_studio, NOW + 1_000)
        assert states(store, uid) == {"delivered": 20}
    assert label_studio.num_imports == 1
    assert label_studio.stored(VERSION) == dict.fromkeys(label_studio.tasks[1], 1)


def test_why_something_is_not_delivered_is_kept(path: Path, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 3)
    with Store.open(path, NOW, QUICK) as store:
        fill(store, uid, sorted(label_studio.tasks[1]))
        label_studio.tasks[1].remove(1001)
        deliver(store, label_studio, NOW + 1)
        [summary] = store.summary()
        assert (dict(summary.gone), dict(summary.failures), summary.num_tasks) == ({"task_deleted": 1}, {}, 2)
        assert store.retry_failed(uid, NOW + 2) == 0, "nothing brings it back"


def test_what_the_blind_audit_withholds_is_pushed_once_people_have_labelled_it(
    path: Path, label_studio: FakeServer
) -> None:
    uid = label_studio.add_project(1, 40)
    tasks = sorted(label_studio.tasks[1])
    with Store.open(path, NOW, QUICK) as store:
        fill(store, uid, tasks)
        store.set_present(RecipeRecord("r1", uid, CONFIG, "{}"), VERSION, NOW, 0.5)
        withheld = store.withheld_tasks(uid, tasks, 0.5)
        deliver(store, label_studio, NOW + 1, NOW + 2)
        assert label_studio.stored(VERSION) == dict.fromkeys(set(tasks) - withheld, 1)
        store.begin_reading(uid, NOW + 3)
        store.save_people(uid, [LabelledTask(n, NOW, 1, 0, "{}") for n in tasks], {}, until=NOW + 3, after=tasks[-1])
        deliver(store, label_studio, NOW + 70, NOW + 71)
        assert states(store, uid) == {"delivered": 40}
    assert label_studio.stored(VERSION) == dict.fromkeys(tasks, 1)


OTHER_CONFIG = CONFIG.replace("</View>", '<Rating name="stars" toName="image"/></View>')


def replied(store: Store, server: FakeServer, ids: list[int]) -> None:
    """A reply brought them to Label Studio."""
    tasks = {work.id: work.task_id for work in store.due(f"1.{CREATED}", 100, NOW + 1e6)}
    for work_id in store.returned(ids, NOW + 121, NOW + 1, chosen_at=NOW):
        server.store(1, [{"task": tasks[work_id], "model_version": VERSION}])


def test_a_label_config_that_changes_after_a_reply_fails_only_what_did_not_arrive(
    path: Path, label_studio: FakeServer
) -> None:
    uid = label_studio.add_project(1, 20)
    with Store.open(path, NOW, QUICK) as store:
        ids = fill(store, uid, sorted(label_studio.tasks[1]))
        replied(store, label_studio, ids[:15])
        label_studio.configs[1] = OTHER_CONFIG
        deliver(store, label_studio, NOW + 130)
        assert states(store, uid) == {"delivered": 15, "failed": 5}
        label_studio.configs[1] = CONFIG
        assert store.retry_failed(uid, NOW + 200) == 5
        assert store.claim(9, NOW + 201) == [], "they have their answers"
        deliver(store, label_studio, NOW + 202)
        assert states(store, uid) == {"delivered": 20}
    assert label_studio.stored(VERSION) == dict.fromkeys(label_studio.tasks[1], 1)


def test_what_arrives_after_it_was_given_up_is_found_when_it_is_retried(path: Path, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 3)
    with Store.open(path, NOW, QUICK) as store:
        ids = fill(store, uid, sorted(label_studio.tasks[1]))
        store.returned(ids, NOW + 121, NOW + 1, chosen_at=NOW)
        label_studio.configs[1] = OTHER_CONFIG
        deliver(store, label_studio, NOW + 130)
        label_studio.store(1, [{"task": 1000, "model_version": VERSION}])  # it was that slow
        label_studio.configs[1] = CONFIG
        store.retry_failed(uid, NOW + 200)
        deliver(store, label_studio, NOW + 202)
        assert states(store, uid) == {"delivered": 3}
    assert label_studio.stored(VERSION) == {1000: 1, 1001: 1, 1002: 1}
