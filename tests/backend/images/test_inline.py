from __future__ import annotations

import base64
from urllib.parse import quote, unquote_to_bytes

import pytest

from backend.images import Limits
from backend.images.files import read_data_uri
from tests.backend.images.conftest import fetch, policy, refusal
from tests.backend.images.pictures import png

BODY = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param(f"data:image/png;base64,{BODY}", id="usual"),
        pytest.param(f"data:image/jpeg;base64,{BODY}", id="claimed type is ignored"),
        pytest.param(f"data:;base64,{BODY}", id="no type"),
        pytest.param(f"data:image/png;name=a.png;base64,{BODY}", id="with a parameter"),
        pytest.param(f"DATA:image/png;BASE64,{BODY}", id="capitals"),
        pytest.param(f"data:image/png;base64,{quote(BODY, safe='')}", id="percent-encoded base64"),
        pytest.param(f"data:image/png,{quote(png())}", id="percent-encoded bytes"),
    ],
)
def test_an_inline_picture_is_decoded(uri: str) -> None:
    assert fetch(uri).picture.rgb


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        pytest.param("data:image/png;base64", "corrupt", id="no comma"),
        pytest.param(f"data:image/png;base64,{BODY[:40]}*{BODY[40:]}", "corrupt", id="foreign character"),
        pytest.param(f"data:image/png;base64,{BODY}=", "corrupt", id="wrong padding"),
        pytest.param(f"data:image/png;base64,{BODY[:40]} {BODY[40:]}", "corrupt", id="space"),
        pytest.param(f"data:image/png;base64,{BODY[:100]}", "corrupt", id="cut off"),
        pytest.param("data:image/png;base64,连衣裙", "corrupt", id="Chinese"),
        pytest.param("data:image/png;base64,\ud800", "corrupt", id="lone surrogate"),
        pytest.param("data:image/png;base64,", "not_an_image", id="empty"),
        pytest.param("data:image/svg+xml,<svg/>", "unsupported_format", id="SVG"),
        pytest.param("data:text/html,<script>alert(1)</script>", "not_an_image", id="script"),
    ],
)
def test_a_bad_inline_picture_is_refused_without_showing_it(uri: str, kind: str) -> None:
    error = refusal(uri)
    assert error.kind == kind
    assert BODY[:10] not in str(error)


@pytest.mark.parametrize("before", range(4))
def test_escapes_are_read_in_pieces_and_none_is_cut(before: int) -> None:
    body = "a" * before + "%00%ff%%4" * 50_000 + "%"
    assert read_data_uri(f"data:,{body}", 2**20) == unquote_to_bytes(body)


@pytest.mark.parametrize("kind", ["data:image/png,", "data:image/png;base64,"])
@pytest.mark.parametrize("escape", ["%41", "%"])
def test_more_escapes_than_any_picture_has_are_refused_before_they_are_read(kind: str, escape: str) -> None:
    assert refusal(kind + escape * 2_100_000).kind == "corrupt"


def test_the_encoded_length_is_limited() -> None:
    limits = Limits(max_bytes=1000)
    assert refusal("data:image/png;base64," + "A" * 100_000, policy(limits=limits)).kind == "too_large"
    assert refusal("data:image/png;base64," + "AAAA" * 400, policy(limits=limits)).kind == "too_large"


@pytest.mark.parametrize("value", [None, "", "   ", 3, [], {"url": "http://a/"}, True])
def test_a_field_without_an_address_is_missing(value: object) -> None:
    assert refusal(value).kind == "missing"


def test_a_very_long_address_is_refused() -> None:
    assert refusal("http://example.com/" + "a" * 10_000).kind == "unsupported_source"
