"""When tasks are looked up that may need no answer any more, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend.delivery.asking import MAX_REST_S, MIN_REST_S, Asking, rest_s
from backend.delivery.gone import AT_ONCE, CALLS, MAX_PROJECTS, GoneTasks
from backend.label_studio.predictions import PredictionsClient
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer, WorkState
from tests.backend.delivery.fake_server import FakeServer
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.store.given import QUICK
from tests.limits import until

NOW = 1_800_000_000.0
NUM_TASKS = 6


@dataclass
class Site:
    """Tasks 1000 to 1005: the first failed, the second is in Label Studio, the others wait. `now` is the clock."""

    server: FakeServer
    store: Store
    project: str
    gone: Any = None
    asking: Any = None
    now: float = NOW

    @property
    def summary(self) -> Any:
        return self.store.summary()[0]

    def looked(self) -> Any:
        """The counts once what was put before is done: one comes after the other."""
        ended: list[bool] = []
        self.asking.put(lambda: ended.append(True))
        until(lambda: ended, "the end of what was asked")
        return self.summary


@pytest.fixture
def site(tmp_path: Path, label_studio: FakeServer) -> Iterator[Site]:
    project = label_studio.add_project(1, NUM_TASKS)
    with Store.open(tmp_path / "prelabel.db", NOW, QUICK) as store:
        add(store, project, range(1000, 1000 + NUM_TASKS))
        store.fail(1, "image_not_found", "HTTP 404", NOW)
        store.finish(2, StoredAnswer("k", "{}"), 0.9, True, NOW)
        store.delivered([2], NOW)
        site = Site(label_studio, store, project)
        site.asking = Asking(lambda: PredictionsClient(label_studio.url, LEGACY_KEY))
        site.gone = GoneTasks(store, site.asking, clock=lambda: site.now, monotonic=lambda: site.now)
        site.asking.start()
        yield site
        site.asking.stop()


def add(store: Store, project: str, task_ids: range) -> None:
    store.save_recipe(RecipeRecord("r", project, "<View/>", "{}"), NOW)
    works = store.accept(
        [NewWork(project, task_id, "v", "r", "http://p/1") for task_id in task_ids],
        interactive=False, reply_until=0.0, now=NOW,
    )  # fmt: skip
    store.reply_ended([work.id for work in works], NOW)


def test_a_look_finds_deleted_tasks_that_wait_or_failed_and_failed_ones_that_people_did(site: Site) -> None:
    site.server.tasks[1] -= {1001, 1002, 1003}
    site.server.annotated |= {1000, 1004}
    site.gone.look([site.project])
    found = site.looked()
    assert dict(found.gone) == {"task_deleted": 2}
    assert dict(found.done_by_people) == {"image_not_found": 1}
    assert found.states == {WorkState.QUEUED: 2, WorkState.DELIVERED: 1}
    site.server.tasks[1] -= {1005}
    num_calls = len(site.server.calls)
    site.gone.look([site.project])
    site.looked()
    assert len(site.server.calls) == num_calls, "a moment ago it was looked at"
    site.now += MAX_REST_S
    site.gone.look([site.project])
    assert dict(site.looked().gone) == {"task_deleted": 3}


def test_after_label_studio_said_so_what_it_was_told_is_looked_up_too(site: Site) -> None:
    site.server.tasks[1] -= {1001, 1002}
    site.gone.changed("1", deleted=True)
    site.looked()
    assert dict(site.looked().gone) == {"task_deleted": 2}
    assert site.summary.num_delivered == 0


@pytest.mark.parametrize("emptied", [True, False], ids=["emptied", "deleted"])
def test_a_project_without_tasks_has_none_left_to_do(site: Site, emptied: bool) -> None:
    if emptied:
        site.server.tasks[1] = set()
    else:
        del site.server.tasks[1]
    site.gone.look([site.project])
    found = site.looked()
    assert dict(found.gone) == {"task_deleted" if emptied else "project_deleted": NUM_TASKS}
    assert (found.num_tasks, found.num_delivered, found.num_needs_review) == (0, 0, 0)


def test_a_project_that_is_found_again_has_its_answers_delivered(site: Site) -> None:
    tasks = site.server.tasks.pop(1)
    site.gone.look([site.project])
    assert site.looked().num_tasks == 0
    site.server.tasks[1] = tasks
    site.now += MAX_REST_S
    site.gone.look([site.project])
    assert site.looked().states == {WorkState.RETURNED: 1}
    assert dict(site.summary.gone) == {"project_deleted": NUM_TASKS - 1}, "they have no answer"


def test_where_no_answer_could_end_nothing_is_asked(site: Site) -> None:
    site.store.claim(9, NOW)
    site.store.tasks_gone(site.project, [1000, 1001], "task_deleted", NOW)
    site.gone.changed("1", deleted=True)
    site.looked()
    site.looked()
    assert site.server.calls == []


def test_another_project_of_the_same_number_is_no_proof_that_tasks_are_there(site: Site) -> None:
    add(site.store, "1.1600000000", range(1000, 1003))
    site.gone.look(["1.1600000000"])
    site.looked()
    by_name = {one.project: one for one in site.store.summary()}
    assert dict(by_name["1.1600000000"].gone) == {"project_deleted": 3}
    assert not by_name[site.project].gone


@pytest.mark.parametrize("fault", ["503", "200 html", "reset"])
def test_a_label_studio_that_says_nothing_ends_nothing(site: Site, fault: str) -> None:
    del site.server.tasks[1]
    site.server.fail("read", fault)
    site.gone.look([site.project])
    assert site.looked().num_tasks == NUM_TASKS


def test_of_many_tasks_each_look_takes_some_and_the_next_goes_on(site: Site) -> None:
    last = 2_000 + AT_ONCE * CALLS
    add(site.store, site.project, range(2_000, last))
    site.server.tasks[1] |= set(range(2_000, last - 1))
    site.gone.look([site.project])
    assert not site.looked().gone
    site.now += MAX_REST_S
    site.gone.look([site.project])
    assert dict(site.looked().gone) == {"task_deleted": 1}


def test_without_an_api_key_nothing_is_asked(site: Site) -> None:
    site.gone = GoneTasks(site.store, Asking(None))
    site.gone.look([site.project])
    site.gone.changed("1", deleted=True)
    assert site.server.calls == []


@pytest.mark.parametrize(
    ("took_s", "rests_s"), [(0.0, MIN_REST_S), (0.1, MIN_REST_S), (1.0, 3.0), (4.0, 12.0), (30.0, MAX_REST_S)]
)
def test_between_two_looks_at_a_project_label_studio_rests_three_times_as_long_as_they_took(
    took_s: float, rests_s: float
) -> None:
    assert rest_s(took_s) == pytest.approx(rests_s)


class CountedStore:
    """Without projects."""

    num_asked = 0

    def summary(self) -> list[Any]:
        self.num_asked += 1
        return []


def test_hints_about_projects_without_end_do_not_wait_without_end(label_studio: FakeServer) -> None:
    store: Any = CountedStore()
    asking, ended = Asking(lambda: PredictionsClient(label_studio.url, LEGACY_KEY)), list[bool]()
    gone = GoneTasks(store, asking)
    for number in range(5 * MAX_PROJECTS):
        gone.changed(str(number), deleted=True)
        gone.changed("0", deleted=True)
    asking.put(lambda: ended.append(True))
    asking.start()
    until(lambda: ended)
    asking.stop()
    assert store.num_asked == MAX_PROJECTS
