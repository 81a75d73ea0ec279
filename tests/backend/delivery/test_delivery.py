"""The plain way, and what becomes of work that Label Studio has already or does not want any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend.delivery.loop import Delivery
from backend.errors import StoreBusy
from backend.label_studio.predictions import is_same_project, project_number
from tests.backend.delivery.fake_server import CONFIG, FakeServer
from tests.backend.delivery.rig import VERSION, Answer, Recipe, Rig, make_prediction
from tests.backend.fake_label_studio import LEGACY_KEY, PERSONAL_KEY


@pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # of label-studio-sdk 2.1.2
@pytest.mark.parametrize("key", [LEGACY_KEY, PERSONAL_KEY], ids=["legacy token", "personal access token"])
def test_fresh_work_is_imported_without_looking_first(rig: Rig, label_studio: FakeServer, key: str) -> None:
    rig.key = key
    rig.store.add(label_studio.add_project(1, 30), sorted(label_studio.tasks[1]))
    rig.run()
    assert set(rig.store.states().values()) == {"delivered"}
    assert label_studio.stored(VERSION) == dict.fromkeys(label_studio.tasks[1], 1)
    assert [path for _, path in label_studio.calls if "token" not in path] == [
        "/api/projects/1",
        "/api/projects/1/import/predictions",
    ]
    assert rig.delivery.status.num_delivered == 30
    assert rig.delivery.status.last_success_at == rig.now


def test_a_prediction_carries_version_score_and_regions(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    rig.run()
    [(_, item)] = label_studio.rows
    assert (item["task"], item["model_version"], item["score"]) == (1000, VERSION, 0.5)
    assert [region["id"] for region in item["result"]] == ["r1000"]


def test_many_tasks_go_in_batches_in_their_order(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 450), sorted(label_studio.tasks[1]))
    rig.run(rounds=3)
    assert label_studio.num_imports == 3
    assert [item["task"] for _, item in label_studio.rows] == sorted(label_studio.tasks[1])


def test_small_batches_leave_label_studio_time_to_rest(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 3)
    rig.store.add(uid, [1000])
    rig.monotonic = iter(range(10_000)).__next__  # each call takes a second
    rig.run()
    rig.store.add(uid, [1001])
    rig.run()
    assert label_studio.stored() == {1000: 1}
    rig.run(rounds=20)
    assert label_studio.stored() == {1000: 1, 1001: 1}


def test_what_was_in_a_reply_is_looked_up_and_only_the_rest_imported(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 4)
    label_studio.store(1, [{"task": 1000, "model_version": VERSION}, {"task": 1001, "model_version": "another-1"}])
    rig.store.add(uid, [1000, 1001], state="returned")
    rig.store.add(uid, [1002])
    rig.run()
    assert label_studio.stored(VERSION) == {1000: 1, 1001: 1, 1002: 1}
    assert set(rig.store.states().values()) == {"delivered"}


def test_a_small_page_size_of_the_server_hides_nothing(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 25)
    label_studio.max_page = 4
    label_studio.store(1, [{"task": 1000 + i, "model_version": VERSION} for i in range(25)])
    rig.store.add(uid, sorted(label_studio.tasks[1]), state="returned")
    rig.run()
    assert label_studio.num_imports == 0
    assert set(rig.store.states().values()) == {"delivered"}


def test_work_that_was_tried_before_is_looked_up_too(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 2)
    label_studio.store(1, [{"task": 1000, "model_version": VERSION}])
    rig.store.add(uid, [1000, 1001], push_attempts=1)
    rig.run()
    assert label_studio.stored() == {1000: 1, 1001: 1}


def test_work_that_was_told_before_it_was_computed_again_is_looked_up_too(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 2)
    label_studio.store(1, [{"task": 1000, "model_version": VERSION}])
    rig.store.add(uid, [1000, 1001], told=True)
    rig.run()
    assert label_studio.stored() == {1000: 1, 1001: 1}


def test_two_model_versions_of_a_task_are_both_delivered(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 1)
    rig.store.add(uid, [1000], state="returned")
    rig.store.add(uid, [1000], state="returned", model_version="garments-nf4-ba9876543210")
    rig.run()
    assert label_studio.stored() == {1000: 2}
    assert label_studio.stored(VERSION) == {1000: 1}


def test_one_task_asked_twice_is_sent_once(rig: Rig, label_studio: FakeServer) -> None:
    uid = label_studio.add_project(1, 1)
    rig.store.add(uid, [1000, "1000"])
    rig.run()
    assert label_studio.stored() == {1000: 1}
    assert not rig.store.open


@pytest.mark.parametrize("num_gone", [1, 3, 10], ids=["one", "three", "all"])
def test_deleted_tasks_are_dropped_and_their_neighbours_delivered(
    rig: Rig, label_studio: FakeServer, num_gone: int
) -> None:
    rig.store.add(label_studio.add_project(1, 10), sorted(label_studio.tasks[1]))
    gone = set(range(1000, 1000 + num_gone))
    label_studio.tasks[1] -= gone
    rig.run()
    states = rig.store.states()
    assert {task for task, state in states.items() if state == "task_deleted"} == gone
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)
    assert label_studio.num_imports <= 2


@pytest.mark.parametrize("disliked", [{1003}, {1000, 1005, 1009}], ids=["one", "three"])
def test_what_is_refused_for_another_reason_is_found_by_halving(
    rig: Rig, label_studio: FakeServer, disliked: set[int]
) -> None:
    rig.store.add(label_studio.add_project(1, 10), sorted(label_studio.tasks[1]))
    label_studio.disliked = disliked
    rig.run()
    assert {task for task, state in rig.store.states().items() if state == "refused"} == disliked
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1] - disliked, 1)


def test_a_server_that_refuses_everything_keeps_the_work(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 4), sorted(label_studio.tasks[1]))
    label_studio.disliked = set(label_studio.tasks[1])
    rig.run()
    assert len(rig.store.open) == 4
    assert "refuses every prediction" in rig.delivery.status.last_error
    label_studio.disliked = set()
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_a_single_prediction_that_is_refused_again_and_again_is_dropped(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    label_studio.disliked = {1000}
    rig.run(rounds=3, advance_s=700)
    assert len(rig.store.open) == 1
    rig.run_until_settled()
    assert rig.store.states() == {1000: "refused"}


@pytest.mark.parametrize("max_items", [1, 7], ids=["one by one", "seven at a time"])
def test_batches_too_large_for_a_gateway_are_split(rig: Rig, label_studio: FakeServer, max_items: int) -> None:
    rig.store.add(label_studio.add_project(1, 20), sorted(label_studio.tasks[1]))
    label_studio.max_items = max_items
    rig.run()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_what_label_studio_leaves_out_is_found_and_marked(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 10), sorted(label_studio.tasks[1]))
    label_studio.misfits = {1002, 1007}
    rig.run()
    assert {task for task, state in rig.store.states().items() if state == "rejected"} == {1002, 1007}
    assert sum(label_studio.stored().values()) == 8


OTHER_CONFIG = CONFIG.replace('name="text"', 'name="caption"')


def test_answers_to_a_changed_label_config_are_dropped_before_anything_is_sent(
    rig: Rig, label_studio: FakeServer
) -> None:
    uid = label_studio.add_project(1, 4, OTHER_CONFIG)
    rig.store.recipes["r2"] = Recipe(OTHER_CONFIG)
    rig.store.add(uid, [1000, 1001])
    rig.store.add(uid, [1002, 1003], recipe="r2")
    rig.run()
    assert rig.store.states() == {
        1000: "config_changed",
        1001: "config_changed",
        1002: "delivered",
        1003: "delivered",
    }


def test_what_label_studio_has_is_delivered_even_if_the_label_config_changed_since(
    rig: Rig, label_studio: FakeServer
) -> None:
    uid = label_studio.add_project(1, 3, OTHER_CONFIG)
    label_studio.store(1, [{"task": 1000, "model_version": VERSION}])
    rig.store.add(uid, [1000, 1001], state="returned")
    rig.store.add(uid, [1002])
    rig.run()
    assert rig.store.states() == {1000: "delivered", 1001: "config_changed", 1002: "config_changed"}
    assert label_studio.num_imports == 0


def test_a_changed_layout_is_no_changed_label_config(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1, CONFIG.replace("<View>", "<View>\n  ")), [1000])
    rig.run()
    assert rig.store.states() == {1000: "delivered"}


@pytest.mark.parametrize("config", ["", "<View", "<View/>"], ids=["empty", "broken", "nothing to fill"])
def test_a_label_config_that_asks_for_nothing_is_a_changed_one(rig: Rig, label_studio: FakeServer, config: str) -> None:
    rig.store.add(label_studio.add_project(1, 1, config), [1000])
    rig.run()
    assert rig.store.states() == {1000: "config_changed"}


def test_a_deleted_project_drops_its_work_and_no_other(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add("9.1700000000", [1, 2])
    rig.store.add(label_studio.add_project(1, 1), [1000])
    rig.run()
    assert rig.store.states() == {1: "project_deleted", 2: "project_deleted", 1000: "delivered"}


def test_another_project_that_got_the_same_number_is_left_alone(rig: Rig, label_studio: FakeServer) -> None:
    label_studio.add_project(1, 2)
    rig.store.add("1.1600000000", [1000])
    rig.run()
    assert rig.store.states() == {1000: "project_deleted"}
    assert not label_studio.rows


def test_work_that_is_no_task_of_label_studio_is_dropped(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 2), ["photo-7", 1000])
    rig.store.add("my project", [5])
    rig.run()
    assert rig.store.states() == {"photo-7": "not_a_task", 1000: "delivered", 5: "not_a_task"}


@pytest.mark.parametrize("content", ["{", "NaN", '"\\ud800"'], ids=["broken", "no number", "lone surrogate"])
def test_an_answer_that_cannot_be_written_is_dropped_alone(rig: Rig, label_studio: FakeServer, content: str) -> None:
    uid = label_studio.add_project(1, 3)
    rig.store.contents["bad"] = Answer(content)
    rig.store.add(uid, [1000, 1001])
    rig.store.add(uid, [1002], answer_key="bad" if content != "{" else "lost")
    rig.run()
    assert rig.store.states() == {1000: "delivered", 1001: "delivered", 1002: "unreadable"}


def test_a_store_that_is_busy_while_predictions_are_made_costs_none_of_them(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 3), [1000, 1001, 1002])
    num_made = 0

    def sometimes(work: Any, content: str) -> dict[str, Any]:
        nonlocal num_made
        num_made += 1
        if num_made == 2:
            raise StoreBusy("It is locked.")
        return make_prediction(work, content)

    rig.make_prediction = sometimes
    rig.run()
    assert [work.task_id for work in rig.store.open] == [1000, 1001, 1002]
    rig.run_until_settled()
    assert label_studio.stored() == {1000: 1, 1001: 1, 1002: 1}


def test_without_a_key_nothing_is_asked_and_the_work_is_kept(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    delivery = Delivery(rig.store, None, make_prediction)

    async def go() -> None:
        await delivery.start()
        await delivery.deliver_due()
        await delivery.stop()

    asyncio.run(go())
    assert not delivery.status.configured
    assert not label_studio.calls
    assert rig.store.states() == {1000: "done"}


@pytest.mark.parametrize(
    ("project", "number"),
    [("12.1700000000", 12), ("12", 12), ("", None), ("a.1", None), ("１.1", None)],
    ids=["as sent", "bare number", "empty", "no number", "wide digit"],
)
def test_a_projects_number_is_read(project: str, number: int | None) -> None:
    assert project_number(project) == number


def test_a_project_is_known_by_number_and_time() -> None:
    assert is_same_project("1.5", "1.5")
    assert is_same_project("1", "1.5")
    assert not is_same_project("1.4", "1.5")
    assert not is_same_project("11", "1.5")
