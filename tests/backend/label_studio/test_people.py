"""What people did, as /api/tasks tells it: put together as an export would have it, and nothing that names anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backend.label_studio.people import ChangedTask, Extent, PeopleClient, seconds
from backend.label_studio.predictions import CallFailed
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.label_studio.tasks_server import TasksServer, annotation, at, prediction, tasks_server

REGION = {"id": "r1", "from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["winter"]}}
KEPT = {"from_name": "season", "value": {"choices": ["winter"]}}


@pytest.fixture
def server() -> Iterator[TasksServer]:
    with tasks_server("<View/>") as running:
        yield running


@pytest.fixture
def client(server: TasksServer) -> Iterator[PeopleClient]:
    with PeopleClient(server.url, LEGACY_KEY) as opened:
        yield opened


def test_a_project_s_extent_and_what_changed_since_in_the_order_of_the_tasks(
    server: TasksServer, client: PeopleClient
) -> None:
    server.add(1, 30, annotation(1, 5, [REGION]), annotation(2, 6, [], was_cancelled=True))
    server.add(2, 10)
    server.add(3, 20, annotation(3, 20, [], was_cancelled=True))

    assert client.extent(12) == Extent(seconds(at(30)), 3, 1, 2)
    assert client.changed(12, seconds(at(20)), 0) == [
        ChangedTask(1, seconds(at(30)), True),
        ChangedTask(3, seconds(at(20)), True),
    ]
    assert [task.task_id for task in client.changed(12, 0.0, 1)] == [2, 3]
    assert {method for method, _, _ in server.calls} == {"GET"}
    assert all(query["review"] == "true" for _, path, query in server.calls if path == "/api/tasks")


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        ({}, {"model_version": "second"}),
        ({"parent_prediction": 1}, {"model_version": "first"}),
        ({"created_at": at(1)}, {}),
        ({"created_at": at(3)}, {"model_version": "first"}),
        ({"parent_prediction": 99, "created_at": at(1)}, {}),
    ],
)
def test_the_prediction_a_person_saw_is_the_one_it_was_made_from_else_the_last_before_it(
    server: TasksServer, client: PeopleClient, more: Any, seen: Any
) -> None:
    made = prediction(2, "second", 4, [REGION]), prediction(1, "first", 2, [REGION], 0.4), prediction(3, "third", 9, [])
    server.add(1, 30, annotation(1, 5, [REGION], **more), predictions=made)

    [found] = client.people_on(12, [1, 2])
    [one] = found.annotations
    assert one["prediction"] == seen
    assert found.predictions["first"] == {"score": 0.4, "result": [KEPT]}


def test_neither_names_nor_masks_are_kept(server: TasksServer, client: PeopleClient) -> None:
    mask = {"from_name": "mask", "type": "brushlabels", "value": {"format": "rle", "rle": [1] * 1000}}
    odd: list[Any] = [
        None,
        "x",
        {"value": 3},
        {"from_name": "a", "value": {"text": ["红"], "x": 5}, "origin": "manual"},
    ]
    server.add(1, 30, annotation(1, 5, [REGION, mask, *odd]))

    [found] = client.people_on(12, [1])
    assert found.annotations[0]["result"] == [
        KEPT,
        {"from_name": "a", "origin": "manual", "value": {"text": ["红"]}},
    ]
    assert "Zhang" not in json.dumps(found.annotations, ensure_ascii=False)
    assert found.annotations[0]["completed_by"] == 4


@pytest.mark.parametrize("odd", [{"tasks": [{}]}, {"total": 1}, {"tasks": [{"id": 1, "updated_at": "noon"}]}, [1]])
def test_a_reply_that_is_not_label_studio_s_is_a_failed_call(
    server: TasksServer, client: PeopleClient, odd: Any
) -> None:
    server.odd = odd
    for call in (lambda: client.extent(12), lambda: client.changed(12, 0.0, 0), lambda: client.people_on(12, [1])):
        with pytest.raises(CallFailed) as caught:
            call()
        assert caught.value.kind == "busy"


def test_a_reply_without_end_is_too_large(server: TasksServer, client: PeopleClient) -> None:
    server.odd = b"[" + b" " * (9 * 2**20) + b"]"
    with pytest.raises(CallFailed, match="larger than 8 MiB") as caught:
        client.people_on(12, [1])
    assert caught.value.kind == "too_large"


def test_a_reply_that_is_nested_too_deeply_is_too_large_so_that_its_task_is_found(
    server: TasksServer, client: PeopleClient
) -> None:
    server.odd = b"[" * 10**5 + b"]" * 10**5
    with pytest.raises(CallFailed, match="nested too deeply") as caught:
        client.people_on(12, [1])
    assert caught.value.kind == "too_large"
