"""Malformed requests: each gets a 4xx that names the field, and the next good request is served."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backend.serving import CONFIG, Server, predict_body, serving, setup_body, task


@pytest.fixture
def server(shared_server: Server) -> Server:
    return shared_server


def refused(server: Server, path: str, content: bytes, **headers: str) -> dict[str, str]:
    reply = server.client.post(path, content=content, headers={"content-type": "application/json", **headers})
    error: dict[str, str] = reply.json()["error"]
    assert 400 <= reply.status_code < 500, reply.text
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == reply.headers["x-request-id"]
    assert "Traceback" not in reply.text
    assert "0x" not in reply.text
    return {**error, "status": str(reply.status_code)}


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"x"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"tasks": NaN}', id="NaN"),
        pytest.param(b'{"tasks": -Infinity}', id="Infinity"),
        pytest.param(b"[" * 5_000, id="deep list"),
        pytest.param(b'{"a":' * 5_000, id="deep object"),
        pytest.param(b'{"project": ' + b"9" * 5_000 + b"}", id="endless number"),
        pytest.param(b"\x00" * 10, id="NUL bytes"),
    ],
)
def test_what_is_no_json_object_is_refused(server: Server, path: str, content: bytes) -> None:
    assert refused(server, path, content)["status"] == "400"
    assert server.predict(task()).status_code == 200


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        pytest.param(json.dumps(predict_body()).encode("utf-16"), "", id="UTF-16"),
        pytest.param('{"project": "é"}'.encode("latin-1"), "", id="Latin-1"),
        pytest.param(gzip.compress(b"{}"), "gzip", id="gzip"),
        pytest.param(b"{}", "br", id="brotli"),
    ],
)
def test_what_is_no_plain_utf8_is_415(server: Server, content: bytes, encoding: str) -> None:
    headers = {"content-encoding": encoding} if encoding else {}
    assert refused(server, "/predict", content, **headers)["status"] == "415"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=klingon", "", "multipart/form-data"])
def test_json_is_read_under_any_content_type(server: Server, content_type: str) -> None:
    content = json.dumps(predict_body(task())).encode()
    reply = server.client.post("/predict", content=content, headers={"content-type": content_type})
    assert reply.status_code == 200


def test_a_byte_order_mark_is_skipped(server: Server) -> None:
    content = b"\xef\xbb\xbf" + json.dumps(predict_body(task())).encode()
    assert server.client.post("/predict", content=content).status_code == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"tasks": None}, '"tasks"', id="tasks null"),
        pytest.param({"tasks": {"1": task()}}, '"tasks"', id="tasks an object"),
        pytest.param({"tasks": [None]}, '"tasks[0]"', id="task null"),
        pytest.param({"tasks": [task(), 7]}, '"tasks[1]"', id="task a number"),
        pytest.param({"tasks": [{"data": {}}]}, '"id"', id="task without id"),
        pytest.param({"tasks": [{"id": True, "data": {}}]}, '"id"', id="id true"),
        pytest.param({"tasks": [{"id": 1.5, "data": {}}]}, '"id"', id="id a fraction"),
        pytest.param({"tasks": [{"id": "x" * 99, "data": {}}]}, '"id"', id="id too long"),
        pytest.param({"tasks": [{"id": 2**63, "data": {}}]}, '"id"', id="id of 64 bits"),
        pytest.param({"tasks": [{"id": -(2**63), "data": {}}]}, '"id"', id="id of 64 bits below zero"),
        pytest.param({"tasks": [{"id": "\ud800", "data": {}}]}, "tasks[0].id", id="id half a surrogate pair"),
        pytest.param({"tasks": [{"id": 1}]}, '"data"', id="task without data"),
        pytest.param({"tasks": [{"id": 1, "data": []}]}, '"data"', id="data a list"),
        pytest.param({"tasks": [task(1), task(2), task(1)]}, '"tasks[2]"', id="id twice"),
        pytest.param({"params": [1]}, '"params"', id="params a list"),
        pytest.param({"project": {"id": 1}}, '"project"', id="project an object"),
        pytest.param({"project": "x" * 99}, '"project"', id="project too long"),
        pytest.param({"project": "\udfff"}, '"project"', id="project half a surrogate pair"),
        pytest.param({"label_config": None}, '"label_config"', id="config null"),
        pytest.param({"label_config": 7}, '"label_config"', id="config a number"),
        pytest.param({"label_config": CONFIG + "\ud800"}, '"label_config"', id="config with half a surrogate pair"),
        pytest.param({"label_config": CONFIG + "\0"}, '"label_config"', id="config with NUL"),
    ],
)
def test_a_wrong_field_is_named(server: Server, change: dict[str, Any], named: str) -> None:
    error = refused(server, "/predict", json.dumps({**predict_body(task()), **change}).encode())
    assert error["status"] == "400"
    assert named in error["message"]


@pytest.mark.parametrize("field", ["tasks", "label_config"])
def test_a_missing_field_is_named(server: Server, field: str) -> None:
    body = predict_body(task())
    del body[field]
    assert f'"{field}"' in refused(server, "/predict", json.dumps(body).encode())["message"]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("", id="empty"),
        pytest.param("<View></View>", id="nothing to fill"),
        pytest.param("<View/><View/>", id="two roots"),
        pytest.param("<View>", id="not closed"),
        pytest.param('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', id="entity"),
    ],
)
def test_a_label_config_that_cannot_be_honoured_is_refused(server: Server, config: str) -> None:
    for path, body in (("/setup", setup_body(config)), ("/predict", predict_body(task(), config=config))):
        error = refused(server, path, json.dumps(body).encode())
        assert (error["status"], error["code"]) == ("400", "config_refused")


def test_a_huge_label_config_is_413(tmp_path: Path) -> None:
    config = CONFIG + " " * 300_000
    with serving(tmp_path) as server:
        assert refused(server, "/setup", json.dumps(setup_body(config)).encode())["status"] == "413"


def test_too_many_tasks_are_refused_with_the_limit(tmp_path: Path) -> None:
    with serving(tmp_path, max_body_bytes=3 * 1024) as server:
        assert server.predict(*(task(n) for n in range(3))).status_code == 200
        error = refused(server, "/predict", json.dumps(predict_body(*(task(n) for n in range(4)))).encode())
        assert '"tasks" has 4 items; 3 is the limit' in error["message"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_get_a_500(server: Server, content: bytes) -> None:
    refused(server, "/predict", content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["tasks", "project", "label_config", "params"]), value=_json)
def test_no_value_of_a_field_gets_a_500(server: Server, field: str, value: Any) -> None:
    reply = server.client.post("/predict", json={**predict_body(task()), field: value})
    assert reply.status_code in (200, 400)
