"""What a person is told when Label Studio refuses: each text names the next step."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from backend.commands.connect import connect
from backend.errors import LabelStudioError, PrelabelError
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.refusals import detail
from label_config.ready_made import ready_made
from tests.backend.fake_label_studio import ACCESS_KEY, LEGACY_KEY, FakeLabelStudio
from tests.limits import WAIT_S

# label-studio-sdk 2.1.2 exchanges a personal access token through a deprecated method of pydantic
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method")


def refusal(server: FakeLabelStudio, api_key: str = LEGACY_KEY, url: str = "") -> LabelStudioError:
    with pytest.raises(LabelStudioError) as caught:
        connect(label_studio=url or server.url, api_key=api_key, project=None, create="Shoes", backend_url=server.url)
    return caught.value


def test_a_proxy_that_can_read_the_key_is_named_before_it_is_asked(
    server: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    refusal(server, url="http://labels.example")
    said = " ".join(capsys.readouterr().out.split())
    assert "through the proxy of the environment variable http_proxy, which can read the API key" in said


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
        (404, "<!DOCTYPE html><script>var a = 1</script>", "before /projects or /user", False),
        (302, "", "redirects elsewhere", False),
        (400, {"title": ["too long"]}, "title: too long", False),
        (503, "busy", "answered 503: busy", True),
        (200, "<html>", "does not answer like Label Studio's API", False),
        (200, {"status": "UP"}, "does not answer like Label Studio's API", False),
    ],
    ids=[
        "forbidden",
        "not found",
        "not found, a web page",
        "redirect",
        "bad request",
        "unavailable",
        "a web page",
        "another program's JSON",
    ],
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
    assert connect(**options, backend_url=server.url) == 0
    assert "needs a dot" in capsys.readouterr().out


def test_what_label_studio_says_is_short_and_without_traceback() -> None:
    said = detail({"detail": "<b>Bad</b>\n input " + "x" * 5_000, "exc_info": "Traceback", "version": "1"})
    assert said.startswith("Bad input x")
    assert len(said) <= 600


def test_the_client_does_not_show_its_token(server: FakeLabelStudio) -> None:
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        assert LEGACY_KEY not in repr(client)


@pytest.mark.parametrize("page", ["", "/", "/projects/1", "/projects/1/data?tab=2", "/user/login/?next=/projects/#x"])
def test_an_address_copied_from_a_page_of_label_studio_is_understood(server: FakeLabelStudio, page: str) -> None:
    options: dict[str, Any] = {"api_key": LEGACY_KEY, "project": None, "create": "Shoes", "backend_url": server.url}
    assert connect(**options, label_studio=server.url + page) == 0
    assert server.calls[0] == ("GET", "/api/current-user/whoami")


HEALTH = {
    "failed model": (
        (503, {"status": "DOWN", "model": {"state": "failed", "message": "the folder holds no model"}}),
        ("has no model: the folder holds no model", "PRELABEL_MODEL"),
    ),
    "password": ((401, {"error": "unauthorized"}), ("BASIC_AUTH_PASS",)),
    "name": (
        (403, {"error": {"code": "forbidden", "message": "Set BASIC_AUTH_PASS or PRELABEL_ALLOWED_HOSTS."}}),
        ("refuses: Set BASIC_AUTH_PASS or PRELABEL_ALLOWED_HOSTS.",),
    ),
    "another program": ((200, "<html>"), ("no prelabel backend", "--backend-url")),
    "another program's JSON": ((200, {"status": "UP"}), ("no prelabel backend",)),
    "model not chosen yet": (
        (200, {"status": "UP", "model": {"state": "loading"}}),
        ("still loading", "Run this again", "--label-config", "garments.zh"),
    ),
}


@pytest.mark.parametrize("case", HEALTH)
def test_a_backend_that_is_of_no_use_is_named_before_anything_is_changed(server: FakeLabelStudio, case: str) -> None:
    server.health, says = HEALTH[case]
    with pytest.raises(PrelabelError) as caught:
        connect(label_studio=server.url, api_key=LEGACY_KEY, project=None, create="Shoes", backend_url=server.url)
    assert all(part in str(caught.value) for part in says), caught.value
    assert server.changes == []


@pytest.mark.parametrize("path", ["/api/ml", "/api/dm/views"])
def test_a_project_made_for_nothing_is_removed_and_an_older_one_is_kept(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    server.refusals[("POST", path)] = (503, {"detail": "busy"})
    refusal(server)
    assert server.projects == {}
    assert "was removed again" in capsys.readouterr().out
    server.add_project("A", ready_made("garments.zh"))
    refusal(server)
    assert len(server.projects) == 1


def test_a_backend_that_only_label_studio_reaches_is_connected(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add_project("A", ready_made("garments.zh"))
    options: dict[str, Any] = {"label_studio": server.url, "api_key": LEGACY_KEY, "project": 1, "create": None}
    assert connect(**options, backend_url="http://127.0.0.1:1") == 0
    assert "cannot be reached from here" in capsys.readouterr().out


def test_every_line_of_a_message_is_a_line_on_the_terminal(server: FakeLabelStudio) -> None:
    said = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
    server.refusals[("POST", "/api/ml")] = (403, {"detail": said})
    command = [sys.executable, "-c", "from backend.cli import main; main()", "connect", "--create", "Shoes"]
    access = ["--label-studio", server.url, "--api-key", LEGACY_KEY, "--backend-url", server.url]
    ended = subprocess.run([*command, *access], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert "prelabel:     USE_DEFAULT_BANNED_SUBNETS=false" in lines
    assert "prelabel:     ML_BLOCK_LOCAL_IP=false" in lines
    assert "\\n" not in ended.stderr
