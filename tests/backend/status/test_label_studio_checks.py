"""Label Studio's address, API key and networks: what each check says of a Label Studio as it may be found."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from backend.label_studio.address import LabelStudioAddresses
from backend.pages.words import Words
from backend.predict.build import build_images
from backend.predict.named_addresses import NamedAddresses
from backend.settings import Settings, load_settings
from backend.status.check import Check
from backend.status.label_studio_checks import label_studio_checks, network_checks, written_checks
from tests.backend.fake_label_studio import ACCESS_KEY, LEGACY_KEY, PERSONAL_KEY, fake_label_studio
from tests.limits import WAIT_S

VERSION, WHOAMI, REFRESH = ("GET", "/api/version"), ("GET", "/api/current-user"), ("POST", "/api/token/refresh")
HTML = "<!doctype html><title>Sign in</title>"
LEGACY_OFF = {"detail": "Authentication token no longer valid: legacy token authentication has been disabled for this "}
DAY_S = 86_400.0


def settings(url: str, key: str = "", **given: Any) -> Settings:
    return load_settings({"label_studio_url": url, "label_studio_api_key": key, **given})


def found(url: str, key: str = "", **options: Any) -> dict[str, Check]:
    return {check.name: check for check in label_studio_checks(settings(url, key), call_s=WAIT_S, **options)}


def said(check: Check) -> str:
    """In English; that there are words in both languages, and for every value, is seen here for all checks."""
    texts = [Words(language).check(check.code, check.values) for language in ("zh", "en")]
    assert texts[0] != check.code, "there are no words for it"
    assert not any("{" in text for text in texts), texts
    return texts[1]


def jwt(**claims: Any) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({}, claims, 1))


@pytest.mark.parametrize("key", [LEGACY_KEY, PERSONAL_KEY], ids=["a legacy token", "a personal access token"])
def test_a_good_label_studio_is_named_with_its_version_and_the_keys_owner(key: str) -> None:
    with fake_label_studio() as server:
        checks = found(server.url, key, clock=lambda: 0.0)
        assert [check.verdict for check in checks.values()] == ["good", "good", "unused"]
        assert said(checks["address"]) == f"{server.url} is Label Studio 1.23.2"
        assert said(checks["token"]) == "belongs to a@example.com"


@pytest.mark.parametrize(
    ("refusals", "code"),
    [
        ({VERSION: (200, HTML)}, "address_other"),
        ({VERSION: (200, {"status": "ok"})}, "address_other"),
        ({VERSION: (404, "no such page")}, "address_other"),
        ({VERSION: (401, HTML)}, "address_login"),
        ({VERSION: (403, HTML)}, "address_login"),
        ({VERSION: (502, HTML)}, "address_error"),
        ({VERSION: (400, "The plain HTTP request was sent to HTTPS port")}, "address_needs_tls"),
        ({WHOAMI: (404, HTML)}, "address_other"),
        ({WHOAMI: (503, HTML)}, "address_error"),
        ({REFRESH: (502, HTML)}, "address_error"),
    ],
)
def test_what_is_not_label_studio_fails_the_address_and_not_the_key(
    refusals: dict[tuple[str, str], tuple[int, Any]], code: str
) -> None:
    with fake_label_studio() as server:
        server.refusals |= refusals
        checks = found(server.url, PERSONAL_KEY)
        assert (checks["address"].verdict, checks["address"].code) == ("bad", code)
        assert checks["token"].code == "token_unchecked"
        assert server.url in said(checks["address"])


@pytest.mark.parametrize(
    ("location", "code", "told"),
    [
        ("/user/login/?next=/api/version/", "address_login", "asks for a login"),
        ("https://sso.example/authorize?x=1", "address_login", "asks for a login"),
        ("https://{host}/api/version/", "address_needs_tls", "Set LABEL_STUDIO_URL=https://{host}"),
        ("https://labels.example/api/version/", "address_moved", "Set LABEL_STUDIO_URL to that"),
        ("/base/api/version", "address_moved", "redirects to http://{host}/base"),
    ],
)
def test_a_redirect_is_told_by_where_it_leads(location: str, code: str, told: str) -> None:
    with fake_label_studio() as server:
        host = server.url.removeprefix("http://")
        server.redirects["/api/version"] = location.format(host=host)
        check = found(server.url)["address"]
        assert (check.verdict, check.code) == ("bad", code)
        assert told.format(host=host) in said(check)


@pytest.mark.parametrize(
    ("key", "refusals", "code", "told"),
    [
        ("b" * 40, {}, "token_refused", "set it as LABEL_STUDIO_API_KEY"),
        (jwt(token_type="refresh", exp=4_000_000_000), {}, "token_refused", "Personal Access Token"),
        (jwt(token_type="refresh", exp=1), {}, "token_expired", "has expired"),
        (ACCESS_KEY, {}, "token_short", "lasts for minutes"),
        (LEGACY_KEY, {WHOAMI: (401, LEGACY_OFF)}, "token_legacy", "Organization > API Tokens Settings"),
        (LEGACY_KEY, {WHOAMI: (403, {"detail": "No organization"})}, "token_forbidden", "403: No organization"),
    ],
    ids=["unknown", "unknown personal", "expired", "short-lived", "legacy, switched off", "without organization"],
)
def test_a_key_that_does_not_work_is_told_with_the_fix(
    key: str, refusals: dict[tuple[str, str], tuple[int, Any]], code: str, told: str
) -> None:
    with fake_label_studio() as server:
        server.refusals |= refusals
        checks = found(server.url, key)
        assert checks["address"].verdict == "good"
        assert (checks["token"].verdict, checks["token"].code) == ("bad", code)
        assert told in said(checks["token"])
        assert key not in said(checks["token"])


def test_a_key_that_ends_within_a_week_is_told_before() -> None:
    with fake_label_studio() as server:
        check = found(server.url, PERSONAL_KEY)["token"]  # it lasts a day
        assert (check.verdict, check.code, check.values["days"]) == ("doubtful", "token_ends", "0")
        assert "expires in 0 days" in said(check)


def test_without_an_address_or_a_key_nothing_is_asked_and_nothing_fails() -> None:
    checks = found("")
    assert [(check.verdict, check.code) for check in checks.values()] == [
        ("unused", "address_unset"), ("unused", "token_unset"),
    ]  # fmt: skip
    with fake_label_studio() as server:
        assert found(server.url)["token"].code == "token_unset"
        assert [call for call in server.calls if call[1] != "/api/version"] == []


def test_an_address_where_nothing_listens_is_down_and_one_that_is_no_name_has_no_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = found(f"http://127.0.0.1:{port}")["address"]
    assert (down.code, "Start Label Studio" in said(down)) == ("address_down", True)
    nowhere = found("http://no-such-host.invalid")["address"]
    assert said(nowhere).startswith("There is no host no-such-host.invalid")


def test_a_silent_label_studio_does_not_hold_the_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        [check, *_] = label_studio_checks(settings(url), call_s=0.1)
        assert (check.code, "within 0.1 s" in said(check)) == ("address_slow", True)


def test_https_and_http_are_told_apart() -> None:
    with fake_label_studio() as server:
        url = server.url.replace("http://", "https://")
        check = found(url)["address"]
        assert (check.code, check.values["site"]) == ("address_no_tls", server.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with fake_label_studio(context) as server:
        assert found(server.url)["address"].code == "address_certificate"


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("http://labels/projects/1/data?tab=2", "address_page", "The address of Label Studio is http://labels"),
        ("http://a:b@labels", "address_unreadable", "user name or password"),
        ("http://labels:99999", "address_unreadable", "port"),
        ("http://labels/base", "", ""),
    ],
)
@pytest.mark.parametrize("name", ["label_studio_url", "label_studio_public_url"])
def test_an_address_is_judged_as_it_is_written(name: str, url: str, code: str, told: str) -> None:
    checks = written_checks(load_settings({name: url}))
    assert [check.code for check in checks] == [code][: len(code)]
    for check in checks:
        assert name.upper() in said(check)
        assert told in said(check)


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        ("http://labels.example", {"http_proxy": "http://proxy"}, "http_proxy"),
        ("http://labels.example:8080/base", {"HTTP_PROXY": "http://a:b@proxy"}, "HTTP_PROXY"),
        ("http://labels.example", {"ALL_PROXY": "http://proxy"}, "ALL_PROXY"),
        ("http://labels.example", {"http_proxy": ""}, ""),
        ("http://labels.example", {"HTTPS_PROXY": "http://proxy"}, ""),
        ("https://labels.example", {"http_proxy": "http://proxy", "https_proxy": "http://proxy"}, ""),
        ("http://labels.example", {"http_proxy": "http://proxy", "no_proxy": ".example"}, ""),
        ("http://localhost:8080", {"http_proxy": "http://proxy"}, ""),
        ("http://127.0.0.1", {"http_proxy": "http://proxy"}, ""),
    ],
)
def test_a_proxy_that_can_read_the_key_is_named(
    url: str, environment: dict[str, str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    checks = written_checks(settings(url, LEGACY_KEY))
    assert [check.values["variable"] for check in checks] == [variable][: len(variable)]
    for check in checks:
        assert "which can read the API key. Add labels.example to NO_PROXY" in said(check)
        assert "a:b" not in said(check)
    assert written_checks(settings(url)) == []


@pytest.mark.parametrize(
    ("given", "verdict", "code", "told"),
    [
        ({}, "good", "networks_public", "public internet"),
        ({"label_studio_url": "http://inside"}, "unused", "networks_private", "for example 10.1.2.0/24"),
        ({"allowed_networks": "10.0.0.0/8"}, "good", "networks_listed", "10.0.0.0/8"),
        (
            {"label_studio_public_url": "http://inside:8080"},
            "good", "networks_public_url", "those of http://inside:8080 at https://labels.example",
        ),
        (
            {"label_studio_public_url": "http://inside:8080", "allowed_networks": "10.1.0.0/16"},
            "good", "networks_listed", "10.1.0.0/16",
        ),
        ({"label_studio_public_url": "https://labels.example"}, "good", "networks_public", ""),
        ({"label_studio_url": "http://unknown"}, "good", "networks_public", ""),
        ({"label_studio_url": "http://fake"}, "doubtful", "networks_stand_in", "ALLOWED_NETWORKS=198.18.0.0/15"),
    ],
)  # fmt: skip
def test_networks_say_which_pictures_are_fetched(
    tmp_path: Path, given: dict[str, str], verdict: str, code: str, told: str
) -> None:
    known = {"inside": ["10.1.2.3"], "labels.example": ["93.184.216.34"], "unknown": [], "fake": ["198.18.0.23"]}
    asked = load_settings({"data_dir": tmp_path, "label_studio_url": "https://labels.example", **given})
    [check] = network_checks(asked, lambda host, port: known[host])
    assert (check.verdict, check.code) == (verdict, code)
    assert told in said(check)


def test_what_label_studio_calls_itself_in_setup_is_known_to_doctor_and_to_every_fetcher(tmp_path: Path) -> None:
    asked = load_settings({"data_dir": tmp_path, "label_studio_url": "http://10.1.2.3:8080"})
    asyncio.run(NamedAddresses(tmp_path, LabelStudioAddresses()).remember("http://localhost:8080"))
    [check] = network_checks(asked, lambda host, port: [host])
    assert "those of http://localhost:8080 at http://10.1.2.3:8080" in said(check)
    assert build_images(asked).label_studio.named == ("http://localhost:8080",)
