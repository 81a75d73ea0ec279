from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from backend import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    output = io.StringIO()
    logs.configure_logging("DEBUG", output)
    yield output
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("GET https://bucket.example/1.jpg?X-Amz-Signature=CANARY&e=1", id="presigned query"),
        pytest.param("GET s3://bucket/1.jpg?versionId=CANARY", id="cloud query"),
        pytest.param("GET https://user:CANARY@shop.example/1.jpg", id="password in an address"),
        pytest.param("data:image/png;base64,CANARY", id="inline picture"),
        pytest.param("headers {'Authorization': 'Token CANARY'}", id="header in a dict"),
        pytest.param("Authorization: Token CANARY", id="header line"),
        pytest.param("(b'authorization', b'Basic CANARYCANARY')", id="raw header"),
        pytest.param('{"access_token": "CANARY", "project": 1}', id="setup body"),
        pytest.param('{"params": {"login": "CANARY", "password": "CANARY\\"CANARY"}}', id="credentials of task data"),
        pytest.param("LABEL_STUDIO_API_KEY=CANARY", id="environment variable"),
        pytest.param("api_key='CANARY'", id="keyword argument"),
        pytest.param("api_key=Token('CANARY')", id="repr of a value"),
        pytest.param("refresh eyJhbGciOi.CANARYeyJ.sig", id="token in JWT form"),
        pytest.param("Bearer CANARYCANARY", id="bearer"),
    ],
)  # fmt: skip
def test_secrets_of_known_form_never_reach_the_log(stream: io.StringIO, text: str) -> None:
    logging.getLogger("x").warning("%s and the rest", text)
    assert "CANARY" not in stream.getvalue()
    assert logs.HIDDEN in stream.getvalue()


def test_a_secret_told_to_us_is_hidden_in_any_form(stream: io.StringIO) -> None:
    logs.hide("correct horse battery")
    logging.getLogger("x").info("it is correct horse battery, really")
    assert "horse" not in stream.getvalue()


def test_secrets_in_tracebacks_are_hidden(stream: io.StringIO) -> None:
    try:
        raise ValueError("https://b.example/x?sig=CANARY")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "CANARY" not in stream.getvalue()


@pytest.mark.parametrize("text", ["12 tasks, 3 done", "task 7: image_not_found", "读取图片 https://a.example/1.jpg"])
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize(
    "mark", ["\n", "\r", "\r\n", "\n\n", "\x0b", "\x1e", "\x85", "\u2028", "\x1b[2K", "\u202e"], ids=ascii
)
def test_no_text_can_pose_as_a_line_of_its_own(stream: io.StringIO, mark: str) -> None:
    logging.getLogger("x").info("id %s", f"7{mark}2026-01-01 ERROR forged, see https://b.example/?sig=CANARY{mark}")
    assert len(stream.getvalue().splitlines()) == 1
    assert mark not in stream.getvalue().removesuffix("\n")
    assert "CANARY" not in stream.getvalue()


def test_only_a_traceback_takes_several_lines_each_indented(stream: io.StringIO) -> None:
    try:
        raise ValueError("one\n2026-01-01 ERROR forged")
    except ValueError:
        logging.getLogger("x").exception("failed\nhere")
    first, *others = stream.getvalue().splitlines()
    assert first.endswith("x: failed\\nhere")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in others)


def test_a_lone_surrogate_does_not_break_the_log(stream: io.StringIO) -> None:
    logging.getLogger("x").info("id %s", "\ud800")
    assert "\\ud800" in stream.getvalue()


def test_each_line_carries_the_request(stream: io.StringIO) -> None:
    token = logs.request_id.set("ab12")
    logging.getLogger("x").info("hello")
    logs.request_id.reset(token)
    assert "INFO    [ab12] x: hello" in stream.getvalue()


def test_a_very_long_line_is_cut(stream: io.StringIO) -> None:
    logging.getLogger("x").info("a" * 100_000)
    assert len(stream.getvalue()) < 10_000


def test_what_happens_all_the_time_is_said_once_a_minute_with_how_often(caplog: pytest.LogCaptureFixture) -> None:
    now = iter([0.0, 1.0, 59.0, 60.0, 61.0, 500.0])
    seldom = logs.Seldom(logging.getLogger("backend"), "%d so far", lambda: next(now))
    with caplog.at_level(logging.WARNING, "backend"):
        for _ in range(6):
            seldom.happened()
    assert caplog.messages == ["1 so far", "4 so far", "6 so far"]
