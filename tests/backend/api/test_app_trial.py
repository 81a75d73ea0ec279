"""/trial: answers under other options, of which nothing is stored."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.api.requests import read_trial
from backend.errors import BadRequest
from backend.predict.options import ProjectOptions
from backend.predict.trial import MAX_TRIALS
from tests.backend.serving import ANSWER, CONFIG, NEVER_S, Server, read_all, serving
from tests.fakes import FakeEngine
from tests.limits import WAIT_S, until

RULE = "夏季 与 冬季：有雪的选冬季。"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


def trial(**more: Any) -> dict[str, Any]:
    options = ProjectOptions(extra_instructions=RULE).model_dump()
    tasks = [{"id": 1, "image": "https://shop.example/1.jpg"}, {"id": 2, "image": "https://shop.example/missing.jpg"}]
    return {"label_config": CONFIG, "options": options, "tasks": tasks, **more}


def test_tasks_are_answered_under_the_trials_options_and_nothing_is_kept(server: Server) -> None:
    reply = server.client.post("/trial", json=trial(project="12.17")).json()

    answered, missing = reply["answers"]
    assert reply["model_version"].startswith("garments-nf4-")
    assert '"season": {"value": ["冬季"]' in answered["content"]
    assert (missing["content"], missing["reason"]) == ("", "image_not_found")
    assert RULE in server.engine.requests[-1].instruction
    assert not server.engine.requests[-1].interactive, "people go first"
    assert server.engine.requests[-1].group == "12.17"
    assert server.images.asked_by == ["12.17"] * 2
    assert server.client.get("/status.json").json()["projects"] == []
    assert reply["model_version"] not in server.client.get("/versions").text


def test_an_instruction_of_its_own_makes_another_version_and_stands_in_the_place_of_the_usual_one(
    server: Server,
) -> None:
    usual = server.client.post("/trial", json=trial(tasks=[])).json()["model_version"]
    own = server.client.post("/trial", json=trial(instruction="Say it in one line of JSON.")).json()
    assert own["model_version"] != usual
    assert server.engine.requests[-1].instruction == "Say it in one line of JSON."


def test_without_tasks_it_says_only_which_model_version_that_would_be(server: Server) -> None:
    plain = server.client.post("/trial", json=trial(tasks=[], options=ProjectOptions().model_dump())).json()
    other = server.client.post("/trial", json=trial(tasks=[])).json()
    assert plain["answers"] == other["answers"] == []
    assert plain["model_version"] != other["model_version"]


@pytest.mark.parametrize(("max_requests", "others"), [(MAX_TRIALS + 5, MAX_TRIALS), (MAX_TRIALS - 1, MAX_TRIALS - 1)])
def test_a_trial_has_its_place_when_it_is_whole_and_a_few_run_at_once(
    tmp_path: Path, max_requests: int, others: int
) -> None:
    """Each may hold pictures as long as a body may be; and whoever sends half of one has no place yet."""
    engine = FakeEngine(ANSWER, delay_s=NEVER_S)
    body = json.dumps(trial(tasks=trial()["tasks"][:1])).encode()
    head = b"POST /trial HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(tmp_path, engine, max_requests=max_requests) as server, contextlib.ExitStack() as clients:
        halves = [
            clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            for _ in range(others + 1)
        ]
        for half in halves:
            half.sendall(head + body[:-1])
        for half in halves[:-1]:
            half.sendall(body[-1:])
        until(lambda: server.images.fetched == [trial()["tasks"][0]["image"]] * others)
        halves[-1].sendall(body[-1:])
        reply = read_all(halves[-1])
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"are under way (" in reply


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"options": {"extra_instructions": "x" * 2_001}}, "options.extra_instructions"),
        ({"options": {"no_such": 1}}, "options.no_such"),
        ({"tasks": [{"id": 1, "image": None}] * 33}, "tasks"),
        ({"instruction": "x" * 4_001}, "instruction"),
        ({"tasks": [{"id": "x", "image": None}]}, "tasks.0.id"),
        ({"label_config": "x" * 300_000}, "label_config"),
        ({"label_config": "\ud800"}, "label_config"),
        ({"project": "1" * 65}, "project"),
        ({"projects": "12"}, "projects"),
        ({"options": {"fields": {"c": dict.fromkeys(map(str, range(3_000)), 1)}}}, "at most 1,000 values"),
    ],
)
def test_what_is_no_trial_is_refused_with_the_field(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_trial(json.dumps(trial(**more)).encode())
