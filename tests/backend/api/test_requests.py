"""What is read of a request's body, without a server."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from backend.api.requests import MAX_EXTRA_CHARS, read_predict, read_setup, read_tasks
from backend.errors import BadRequest, PayloadTooLarge
from label_config.task_value import shown
from tests.backend.serving import predict_body, setup_body, task


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (
            '"image": "https://shop.example/2.jpg"',
            '"image": "https://shop.example/0.jpg", "image": "https://a.example/x"',
        ),
        ('"id": 2', '"id": 0, "id": 2'),
        ('"inner_id": 2', '"inner_id": 0, "inner_id": 2'),
        ('"meta": {}', '"meta": {"a": 1, "a": 2}'),
        ('"login": null', '"login": 1, "login": null'),
        ('"project": "12.1700000000"', '"project": "3", "project": "12.1700000000"'),
    ],
    ids=["a task's picture", "a task's id", "what we do not read", "deep down", "params", "the project"],
)
def test_of_a_key_that_stands_twice_the_last_value_counts_and_nothing_else_changes(once: str, twice: str) -> None:
    body = json.dumps(predict_body(task(1), task(2), task(3)))
    assert once in body
    read = read_predict(body.replace(once, twice, 1).encode(), 10, "image")
    second = "https://a.example/x" if "a.example" in twice else "https://shop.example/2.jpg"
    assert [(one.id, one.image_url) for one in read.tasks] == [
        (1, "https://shop.example/1.jpg"), (2, second), (3, "https://shop.example/3.jpg"),
    ]  # fmt: skip
    assert read.project == "12.1700000000"


@pytest.mark.parametrize("params", ["x" * MAX_EXTRA_CHARS, {"extra_instructions": "裙" * 2_000}, None, [], 7], ids=type)
def test_extra_params_of_a_size_that_a_person_types_are_left_as_they_are(params: Any) -> None:
    assert read_setup(json.dumps(setup_body(extra_params=params)).encode()).extra_params == params


@pytest.mark.parametrize("params", ["x" * (MAX_EXTRA_CHARS + 1), {f"k{n}": n for n in range(10_000)}], ids=type)
def test_extra_params_that_nobody_types_are_refused_by_name(params: Any) -> None:
    with pytest.raises(PayloadTooLarge, match="characters long; the limit is 65,536"):
        read_setup(json.dumps(setup_body(extra_params=params)).encode())


@pytest.mark.parametrize("levels", range(800, 1_100, 20))
def test_however_deep_extra_params_are_they_are_read_or_refused(levels: int) -> None:
    body = json.dumps(setup_body(extra_params="deep")).replace('"deep"', "[" * levels + "]" * levels)
    with contextlib.suppress(BadRequest):
        read_setup(body.encode())


@pytest.mark.parametrize("place", ["$a$a$a$a$a", "https://host.example/$a", "a"])
def test_addresses_that_are_many_times_as_long_as_the_tasks_are_refused_by_name(place: str) -> None:
    tasks = [{"id": number, "data": {"a": "x" * 100}} for number in range(10)]
    num_chars = 10 * len(shown(place, tasks[0]["data"]) or "")  # type: ignore[arg-type]
    assert len(read_tasks(tasks, place, num_chars)) == 10
    with pytest.raises(PayloadTooLarge, match=f"more than {num_chars - 1:,} characters"):
        read_tasks(tasks, place, num_chars - 1)
