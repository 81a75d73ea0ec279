"""What the view counts, and what it says when something is not known."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from backend.api.responses import StrictJSON
from backend.delivery.loop import DeliveryStatus
from backend.delivery.tabs import ReviewLeft
from backend.engine.api import EngineStatus
from backend.settings import Settings, load_settings
from backend.status.make_view import make_view
from backend.status.view import StatusView
from backend.store import NewWork, Store
from tests.backend.status.rig import NOW, READY, RECIPE, finished, queued
from tests.backend.store.given import QUICK

PROJECT = "12.1700000000"


def settings(**given: Any) -> Settings:
    return load_settings(given)


def view_of(store: Store, engine: EngineStatus = READY, rate: float = 5.0, **given: Any) -> StatusView:
    summaries = store.summary()
    failures = {s.project: store.failures(s.project, 3) for s in summaries}
    delivery = given.pop("delivery", DeliveryStatus(configured=True))
    names = ("titles", "review_left", "people", "max_projects", "set_aside")
    options = {name: given.pop(name) for name in names if name in given}
    return make_view(engine, summaries, failures, rate, delivery, settings(**given), NOW, **options)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "prelabel.db", NOW - 1000, QUICK) as store:
        yield store


def work_in_every_state(store: Store) -> None:
    works = queued(store, PROJECT, range(1, 21), NOW - 600)
    finished(store, works[:9], NOW - 30, needs_review=2)
    store.delivered([work.id for work in works[:4]], NOW - 20)
    store.returned([works[4].id], NOW + 60, NOW - 20)
    store.fail(works[9].id, "image_timeout", "slow", NOW - 10)
    store.fail(works[10].id, "image_timeout", "slow", NOW - 10)
    store.fail(works[11].id, "crashed", "twice", NOW - 5)
    store.claim(3, NOW - 1)


def test_every_state_is_counted_once(store: Store) -> None:
    work_in_every_state(store)
    project = view_of(store).projects[0]
    counts = (
        project.num_queued, project.num_running, project.num_done, project.num_returned, project.num_delivered,
        project.num_failed, project.num_needs_review,
    )  # fmt: skip
    assert counts == (5, 3, 4, 1, 4, 3, 2)
    assert project.num_answered == 9
    assert project.failures == {"image_timeout": 2, "crashed": 1}
    assert project.progress == pytest.approx(9 / 20), "what failed is no progress"


def test_a_changed_config_leaves_every_task_counted_once_and_what_failed_is_never_all(store: Store) -> None:
    works = queued(store, PROJECT, range(1, 1_001), NOW - 600)
    finished(store, works[:200], NOW - 500)
    store.delivered([work.id for work in works[:200]], NOW - 400)
    changed = replace(RECIPE, fingerprint="recipe-2")
    store.set_present(changed, "v2", NOW - 300)
    for work in store.claim(800, NOW - 200):
        store.fail(work.id, "crashed", "", NOW - 100)
    project = view_of(store).projects[0]
    assert (project.num_answered, project.num_failed, project.num_older, project.progress) == (0, 800, 200, 0.0)
    items = [NewWork(PROJECT, number, "v2", "recipe-2", "https://pictures/1") for number in range(1, 201)]
    finished(store, store.accept(items, interactive=False, reply_until=0.0, now=NOW - 90), NOW - 80)
    project = view_of(store).projects[0]
    assert (project.num_answered, project.num_failed, project.progress) == (200, 800, 0.2)


def test_answers_that_can_never_be_delivered_are_counted_as_the_tasks_they_are(store: Store) -> None:
    works = queued(store, PROJECT, range(1, 4))
    finished(store, works)
    for _ in range(2):
        store.retry_failed(PROJECT, NOW)
        store.drop([works[0].id], "rejected", "left out", NOW)
    store.fail(queued(store, PROJECT, [9])[0].id, "crashed", "", NOW)
    assert view_of(store).delivery.num_dropped == 1


def test_what_is_left_to_review_is_linked_to_its_tab_once_label_studio_has_said_it(store: Store) -> None:
    work_in_every_state(store)
    [unknown] = view_of(store, label_studio_url="http://ls").projects
    assert (unknown.num_needs_review, unknown.num_review_left, unknown.review_url) == (2, None, "")
    left = {PROJECT: ReviewLeft(tab=7, num_tasks=1, num_told=2)}
    [known] = view_of(store, label_studio_url="http://ls", review_left=left).projects
    assert (known.num_needs_review, known.num_review_left) == (2, 1)
    assert known.review_url == "http://ls/projects/12/data?tab=7"
    [without_address] = view_of(store, review_left=left).projects
    assert without_address.review_url == ""


@pytest.mark.parametrize(
    ("num_tasks", "num_told", "num_left"),
    [(0, 0, 2), (0, 1, 1), (1, 1, 2), (0, 2, 0), (5, 9, 5)],
    ids=["before the first", "one more since", "one left, one more", "all submitted", "a label config before"],
)
def test_what_was_answered_since_label_studio_was_asked_is_to_be_reviewed_too(
    store: Store, num_tasks: int, num_told: int, num_left: int
) -> None:
    work_in_every_state(store)
    [project] = view_of(store, review_left={PROJECT: ReviewLeft(7, num_tasks, num_told)}).projects
    assert project.num_review_left == num_left


def test_cancelled_work_is_not_left_to_do(store: Store) -> None:
    finished(store, queued(store, PROJECT, range(1, 11))[:4])
    store.cancel_project(PROJECT, NOW)
    project = view_of(store).projects[0]
    assert (project.num_cancelled, project.progress) == (6, 1.0)


def test_what_the_store_has_forgotten_still_counts_as_delivered(store: Store) -> None:
    works = queued(store, PROJECT, range(1, 6), NOW - 900)
    finished(store, works, NOW - 800)
    store.delivered([work.id for work in works], NOW - 800)
    queued(store, PROJECT, range(6, 11), NOW - 10)
    assert store.prune(NOW, 100) == 5
    project = view_of(store).projects[0]
    assert (project.num_delivered, project.num_answered, project.progress) == (5, 5, 0.5)


def test_the_time_left_follows_from_the_speed_over_all_projects(store: Store) -> None:
    queued(store, PROJECT, range(1, 31))
    queued(store, "13.1", range(1, 21))
    speed = view_of(store, rate=2.5).speed
    assert (speed.num_waiting, speed.num_running, speed.eta_s) == (50, 0, 20.0)


@pytest.mark.parametrize(
    ("engine", "rate"),
    [(READY, 0.0), (EngineStatus("loading"), 5.0), (EngineStatus("failed"), 5.0)],
    ids=["nothing was finished lately", "the model loads", "the model failed"],
)
def test_the_time_left_is_not_known(store: Store, engine: EngineStatus, rate: float) -> None:
    queued(store, PROJECT, [1])
    assert view_of(store, engine, rate, price_per_minute=1).speed.eta_s is None
    assert view_of(store, engine, rate, price_per_minute=1).cost.rest_yuan is None


def test_without_work_nothing_is_left(store: Store) -> None:
    view = view_of(store, rate=0.0)
    assert (view.speed.eta_s, view.projects) == (0.0, ())


def test_cost_is_the_busy_time_at_the_price_of_a_minute(store: Store) -> None:
    queued(store, PROJECT, range(1, 301))
    cost = view_of(store, rate=5.0, price_per_minute=0.06).cost
    assert cost.busy_s == 3_600.0
    assert cost.busy_yuan == pytest.approx(3.6)
    assert cost.rest_yuan == pytest.approx(0.06)
    assert cost.bulk_yuan == pytest.approx(2.0)  # as in the article: 5 images/s, 10,000 images, 2 yuan


def test_without_a_price_there_is_no_cost(store: Store) -> None:
    cost = view_of(store).cost
    assert (cost.busy_s, cost.busy_yuan, cost.rest_yuan, cost.bulk_yuan) == (3_600.0, None, None, None)


@pytest.mark.parametrize("project", ["", "x.1", "../../admin", "1" * 40, "１２.1"])
def test_a_project_without_a_number_has_no_link(store: Store, project: str) -> None:
    queued(store, project, [1])
    found = view_of(store, label_studio_url="https://labels.example").projects[0]
    assert (found.project, found.project_id, found.url) == (project, "", "")


def test_links_lead_to_the_data_manager_and_to_failed_tasks(store: Store) -> None:
    store.fail(queued(store, PROJECT, [77])[0].id, "crashed", "m", NOW)
    project = view_of(store, label_studio_url="https://user:secret@labels.example/ls/?a=b#c").projects[0]
    assert project.url == "https://labels.example/ls/projects/12/data"
    assert project.failed_tasks[0].url == "https://labels.example/ls/projects/12/data?task=77"


def test_without_an_address_there_are_no_links(store: Store) -> None:
    store.fail(queued(store, PROJECT, [77])[0].id, "crashed", "m", NOW)
    project = view_of(store).projects[0]
    assert (project.project_id, project.url, project.failed_tasks[0].url) == ("12", "", "")


@pytest.mark.parametrize("url", ["http://[broken", "http://a:port"])
def test_an_address_that_cannot_be_read_gives_no_link(store: Store, url: str) -> None:
    queued(store, PROJECT, [1])
    assert view_of(store, label_studio_url=url).projects[0].url == ""


def test_messages_lose_secrets_and_line_breaks(store: Store) -> None:
    token = "eyJhbGciOi.eyJ0b2tlbiI.c2lnbmF0dXJl"
    store.fail(queued(store, PROJECT, [1])[0].id, "internal", f"GET failed:\nBearer {token}", NOW)
    status = DeliveryStatus(True, last_error=f"token={token}", last_error_at=NOW)
    view = view_of(store, replace(READY, message=f"{token}\u202e\x1b[31m"), delivery=status)
    told = StrictJSON(asdict(view)).body.decode()
    assert token not in told
    assert "\u202e" not in told
    assert "\\u001b" not in told
    assert view.projects[0].failed_tasks[0].message.startswith("GET failed: Bearer ***")


def test_only_the_first_projects_are_shown_and_all_are_counted(store: Store) -> None:
    for index in range(5):
        queued(store, f"{index}.1", [1, 2], NOW - 600 + index)
    view = view_of(store, max_projects=2)
    assert [p.project_id for p in view.projects] == ["4", "3"]
    assert (view.num_more_projects, view.speed.num_waiting, view.totals.work["queued"]) == (3, 10, 10)


def test_the_view_survives_json(store: Store) -> None:
    work_in_every_state(store)
    view = view_of(store, price_per_minute=0.06, titles={PROJECT: "夏装"}, set_aside="/data/old\ud800")
    assert TypeAdapter(StatusView).validate_json(bytes(StrictJSON(asdict(view)).body)) == view


def test_what_is_gone_or_done_by_people_adds_up_beside_the_tasks(store: Store) -> None:
    work_in_every_state(store)
    store.tasks_done_by_people(PROJECT, [10], NOW)
    store.tasks_gone(PROJECT, [1, 9, 11, 20], "task_deleted", NOW)  # delivered, to deliver, failed, waiting
    view = view_of(store)
    [project] = view.projects
    counts = (project.num_queued, project.num_running, project.num_done, project.num_returned, project.num_delivered)
    assert counts == (4, 3, 3, 1, 3)
    assert (project.num_failed, project.failures) == (1, {"crashed": 1})
    assert (project.gone, project.done_by_people, project.num_cancelled) == (
        {"task_deleted": 4},
        {"image_timeout": 1},
        0,
    )
    assert project.progress == 7 / 15
    assert sum(view.totals.work.values()) == 15
