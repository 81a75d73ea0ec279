"""Whose page a request comes from."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from backend.api.origin import site_of


@pytest.mark.parametrize(
    ("headers", "site"),
    [
        ([], "unknown"),
        ([("Sec-Fetch-Site", "none")], "unknown"),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", "https://other.example")], "own"),
        ([("Sec-Fetch-Site", "same-site")], "foreign"),
        ([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")], "foreign"),
        ([("Origin", "HTTP://Prelabel.example:9090")], "own"),
        ([("Origin", "https://prelabel.example:9090")], "own"),
        ([("Origin", "http://prelabel.example")], "foreign"),
        ([("Origin", "null")], "foreign"),
        ([("Origin", "http://prelabel.example:9090"), ("Origin", "http://prelabel.example:9090")], "foreign"),
    ],
)
def test_the_site_of_a_request(headers: list[tuple[str, str]], site: str) -> None:
    sent = [("Host", "prelabel.example:9090"), *headers]
    assert site_of(Headers(raw=[(name.lower().encode(), value.encode()) for name, value in sent])) == site


def test_without_a_host_no_origin_is_our_own() -> None:
    assert site_of(Headers({"origin": "http://"})) == "foreign"
