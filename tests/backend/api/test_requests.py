"""What is read of a request's body, without a server."""

from __future__ import annotations

import json

import pytest

from backend.api.requests import read_predict
from tests.backend.serving import predict_body, task


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
    read = read_predict(body.replace(once, twice, 1).encode(), max_tasks=10)
    second = "https://a.example/x" if "a.example" in twice else "https://shop.example/2.jpg"
    assert [(one.id, one.image_url) for one in read.tasks] == [
        (1, "https://shop.example/1.jpg"), (2, second), (3, "https://shop.example/3.jpg"),
    ]  # fmt: skip
    assert read.project == "12.1700000000"
