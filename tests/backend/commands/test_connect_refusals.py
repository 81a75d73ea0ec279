"""What a person is told when Label Studio refuses: each text names the next step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backend.commands.connect import connect
from backend.errors import LabelStudioError
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.errors import detail
from tests.backend.fake_label_studio import ACCESS_KEY, LEGACY_KEY, FakeLabelStudio, fake_label_studio

# label-studio-sdk 2.1.2 exchanges a personal access token through a deprecated method of pydantic
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method")


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        yield fake


def refusal(server: FakeLabelStudio, api_key: str = LEGACY_KEY, url: str = "") -> LabelStudioError:
    with pytest.raises(LabelStudioError) as caught:
        connect(
            label_studio=url or server.url, api_key=api_key, project=None, create="Shoes", backend_url="http://b.lan"
        )
    return caught.value


def test_a_private_address_is_explained_with_both_settings(server: FakeLabelStudio) -> None:
    said = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
    server.refusals[("POST", "/api/ml")] = (403, {"detail": said})
    text = str(refusal(server))
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in text
    assert "ML_BLOCK_LOCAL_IP=false" in text


VALIDATION = {
    "health check": (
        "Can't connect to ML backend http://b.lan, health check failed. <a href='x'>Learn more</a>",
        "prelabel serve",
        True,
    ),
    "password": (
        "Able to connect to ML Server, but authentication parameters were either not provided or are incorrect.",
        "BASIC_AUTH_PASS",
        False,
    ),
    "setup": (
        "Successfully connected to http://b.lan but it doesn't look like a valid ML backend. Reason: 400.",
        "refused the project's label config",
        False,
    ),
}


@pytest.mark.parametrize("case", VALIDATION)
def test_a_backend_that_label_studio_does_not_take_is_explained(server: FakeLabelStudio, case: str) -> None:
    said, says, retryable = VALIDATION[case]
    body = {"detail": "Validation error", "validation_errors": {"non_field_errors": [said]}}
    server.refusals[("POST", "/api/ml")] = (400, body)
    error = refusal(server)
    assert says in str(error)
    assert "<a" not in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize("api_key", ["b" * 40, ACCESS_KEY], ids=["unknown legacy token", "short-lived access token"])
def test_a_wrong_token_says_where_to_get_one_and_does_not_repeat_it(server: FakeLabelStudio, api_key: str) -> None:
    text = str(refusal(server, api_key))
    assert "Personal Access Token" in text
    assert api_key not in text


def test_switched_off_legacy_tokens_are_explained(server: FakeLabelStudio) -> None:
    said = "Authentication token no longer valid: legacy token authentication has been disabled for this organization"
    server.refusals[("GET", "/api/current-user")] = (401, {"detail": said})
    assert "legacy tokens switched off" in str(refusal(server))


@pytest.mark.parametrize(
    ("status", "body", "says", "retryable"),
    [
        (403, {"detail": "no"}, "may not do that", False),
        (404, {"detail": "no"}, "no such project", False),
        (302, "", "redirects elsewhere", False),
        (400, {"title": ["too long"]}, "title: too long", False),
        (503, "busy", "answered 503: busy", True),
        (200, "<html>", "does not answer like Label Studio", False),
        (200, {"status": "UP"}, "does not answer like Label Studio", False),
    ],
    ids=["forbidden", "not found", "redirect", "bad request", "unavailable", "a web page", "another program's JSON"],
)
def test_other_replies_become_one_clear_line(
    server: FakeLabelStudio, status: int, body: Any, says: str, retryable: bool
) -> None:
    server.refusals[("GET", "/api/current-user")] = (status, body)
    error = refusal(server)
    assert says in str(error)
    assert error.retryable is retryable


def test_a_failing_call_is_not_repeated(server: FakeLabelStudio) -> None:
    server.refusals[("POST", "/api/projects")] = (503, {"detail": "busy"})
    refusal(server)
    assert server.calls.count(("POST", "/api/projects")) == 1


def test_an_address_where_nothing_listens_is_explained(server: FakeLabelStudio) -> None:
    error = refusal(server, url="http://127.0.0.1:1")
    assert "cannot be reached at http://127.0.0.1:1" in str(error)
    assert error.retryable


def test_an_address_without_scheme_is_explained(server: FakeLabelStudio) -> None:
    assert "starts with http://" in str(refusal(server, url="label-studio.lan:8080"))


def test_a_refused_webhook_is_a_note_not_a_failure(server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    server.refusals[("POST", "/api/webhooks")] = (400, {"validation_errors": {"url": ["Enter a valid URL."]}})
    server.refusals[("GET", "/api/webhooks")] = (200, [])
    options: dict[str, Any] = {"label_studio": server.url, "api_key": LEGACY_KEY, "project": None, "create": "Shoes"}
    assert connect(**options, backend_url="http://backend:9090") == 0
    assert "needs a dot" in capsys.readouterr().out


def test_what_label_studio_says_is_short_and_without_traceback() -> None:
    said = detail({"detail": "<b>Bad</b>\n input " + "x" * 5_000, "exc_info": "Traceback", "version": "1"})
    assert said.startswith("Bad input x")
    assert len(said) <= 600


def test_the_client_does_not_show_its_token(server: FakeLabelStudio) -> None:
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        assert LEGACY_KEY not in repr(client)
