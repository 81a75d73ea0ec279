"""Text that JSON can hold and UTF-8 cannot (half a surrogate pair), and NULs: wherever a client may put them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backend.served import states
from tests.backend.serving import CONFIG, Server, predict_body, serving, setup_body, task

HALF = "\ud800"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


def post(server: Server, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """As ASCII: the JSON says "\\ud800"."""
    reply = server.client.post(path, content=json.dumps(body).encode())
    return reply.status_code, reply.json()


@pytest.mark.parametrize("text", [HALF, "\udfff", "a\0b"], ids=["first half", "second half", "NUL"])
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/predict", lambda text: predict_body(task(1)) | {"project": text}, "project"),
        ("/predict", lambda text: predict_body(task(1), config=CONFIG + text), "label_config"),
        ("/predict", lambda text: predict_body(task(1) | {"id": text}), "tasks[0].id"),
        ("/setup", lambda text: setup_body(project=text), "project"),
        ("/setup", lambda text: setup_body(CONFIG.replace("夏季", text)), "schema"),
        ("/webhook", lambda text: {"action": "TASKS_CREATED", "project": {"id": text}}, "project"),
    ],
    ids=["project", "label config", "task id", "project of /setup", "label config of /setup", "project of a webhook"],
)
def test_text_that_cannot_be_kept_is_refused_by_name(
    server: Server, path: str, body: Any, field: str, text: str
) -> None:
    status, reply = post(server, path, body(text))
    assert status == 400
    assert f'"{field}"' in reply["error"]["message"]


@pytest.mark.parametrize(("text", "beside"), [(HALF, 11), ("a\0b", 12)], ids=["half a pair", "NUL"])
def test_an_address_that_is_no_text_costs_its_own_task_only(server: Server, text: str, beside: int) -> None:
    body = predict_body(task(1, f"https://shop.example/{text}.jpg"), task(beside))
    status, reply = post(server, "/predict", body)
    assert (status, [bool(result) for result in reply["results"]]) == (200, [False, True])


def test_what_is_not_used_may_be_anything(server: Server) -> None:
    odd = task(3, **{HALF: HALF, "note": "a\0b"})
    status, reply = post(server, "/predict", predict_body(odd, context={"result": HALF}, **{HALF: HALF}))
    assert (status, bool(reply["results"][0]["result"])) == (200, True)
    assert post(server, "/webhook", {"action": HALF, "project": 12})[0] == 200


@pytest.mark.parametrize("as_text", [False, True], ids=["an object", "its text"])
@pytest.mark.parametrize(
    "params",
    [{HALF: 1}, {"extra_instructions": HALF}, {"language": HALF}, {"temperature": HALF}, {HALF: HALF, "top_p": 0.5}],
    ids=["a name", "instructions", "language", "a number", "beside a good one"],
)
def test_extra_params_that_are_no_text_are_warned_of_and_left_out(
    server: Server, params: dict[str, Any], as_text: bool
) -> None:
    status, reply = post(server, "/setup", setup_body(extra_params=json.dumps(params) if as_text else params))
    assert status == 200
    assert reply["warnings"]
    kept = server.settings.data_dir / "projects.json"
    assert not kept.exists() or json.loads(kept.read_text(encoding="utf-8")) in ({}, {"12.1700000000": {"top_p": 0.5}})


def test_after_all_that_every_page_answers_and_the_store_is_whole(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        post(server, "/predict", predict_body(task(1, f"https://shop.example/{HALF}.jpg"), task(2)))
        post(server, "/setup", setup_body(extra_params={HALF: 1}))
        for path in ("/health", "/status", "/status.json", "/metrics", "/versions?project=%ED%A0%80"):
            assert server.client.get(path).status_code == 200
    assert states(tmp_path) == {"failed": 1, "returned": 1}
    with serving(tmp_path) as server:
        assert server.client.get("/status.json").json()["set_aside"] == ""
