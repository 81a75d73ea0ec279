"""No token, presigned query or inline body reaches a message or a log, whatever fails, at DEBUG."""

from __future__ import annotations

import asyncio
import logging

import pytest

from backend.errors import ImageError
from backend.images import ImageFetcher, ImagePolicy
from tests.backend.images.conftest import PATIENT, fetch, policy, refusal
from tests.backend.images.pictures import png
from tests.backend.images.site import Answer, Site, raw, redirect, reply
from tests.limits import WAIT_S

KEY = "canarytoken0123456789"
SIGNATURE = "canarysignature"
BODY = "canarybodyAAAA"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore", "httpcore.http11", "httpcore.connection", "asyncio", "PIL"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(png()), id="picture"),
        pytest.param(reply(status=401), id="401"),
        pytest.param(reply(status=403), id="403"),
        pytest.param(reply(status=404), id="404"),
        pytest.param(reply(status=503), id="503"),
        pytest.param(reply(f"<html>{SIGNATURE}".encode()), id="page"),
        pytest.param(raw(b"garbage canarysignature\r\n\r\n"), id="garbage"),
        pytest.param(redirect(f"http://10.0.0.1/a?X-Signature={SIGNATURE}"), id="forbidden redirect"),
        pytest.param(redirect(f"ftp://nowhere/a?X-Signature={SIGNATURE}"), id="foreign redirect"),
        pytest.param(redirect(f"/data/upload/1/a?X-Signature={SIGNATURE}"), id="loop"),
        pytest.param(lambda peer, request: peer.close(), id="hang up"),
    ],
)
def test_nothing_secret_is_shown(site: Site, answer: Answer, logged: pytest.LogCaptureFixture) -> None:
    site.routes["/data/upload/1/a"] = answer
    rules = ImagePolicy(label_studio_url=site.url(), api_key=KEY, limits=PATIENT)
    url = f"/data/upload/1/a?X-Signature={SIGNATURE}"
    shown = ""
    try:
        fetch(url, rules)
    except Exception as error:
        shown = f"{error!r} {error} {error.__cause__!r} {error.__suppress_context__}"
    assert site.requests[0].headers["authorization"] == f"Token {KEY}"
    everything = shown + logged.text + repr(rules)
    for secret in (KEY, SIGNATURE):
        assert secret not in everything
    assert "0x" not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SIGNATURE}@example.com/",
        f"http://10.0.0.1/a?sig={SIGNATURE}",
        f"https://[bad/{SIGNATURE}",
        f"data:image/png;base64,{BODY}",
        f"data:image/png;base64,{BODY}*",
        f"s3://bucket/{SIGNATURE}",
        f"/data/local-files/?d=../{SIGNATURE}",
        f"\\\\host\\{SIGNATURE}",
    ],
)
def test_a_refused_address_is_not_repeated(url: str, logged: pytest.LogCaptureFixture) -> None:
    error = refusal(url, policy(allowed_networks=()))
    for secret in (SIGNATURE, BODY):
        assert secret not in f"{error!r}{error}{logged.text}"


def test_a_slow_debugging_event_loop_does_not_show_the_address(site: Site, logged: pytest.LogCaptureFixture) -> None:
    """asyncio's debug mode logs slow callbacks with their arguments."""
    site.routes["/a"] = reply(png())

    async def run() -> None:
        asyncio.get_running_loop().set_debug(True)
        asyncio.get_running_loop().slow_callback_duration = 0.0
        fetcher = ImageFetcher(policy())
        await fetcher.fetch(site.url(f"/a?X-Signature={SIGNATURE}"))
        with pytest.raises(ImageError):
            await fetcher.fetch(f"data:image/png;base64,{BODY}", timeout_s=WAIT_S)
        await fetcher.aclose()

    asyncio.run(run())
    assert SIGNATURE not in logged.text
    assert BODY not in logged.text
