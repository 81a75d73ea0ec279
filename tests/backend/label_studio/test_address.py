"""Label Studio's address, taken from that of any page of it."""

from __future__ import annotations

import pytest

from backend.label_studio.address import is_on_this_machine, site_of

HOST = "http://labels:8080"


@pytest.mark.parametrize(
    "page",
    [
        "/projects/", "/projects/1", "/projects/12/data?tab=3", "/projects/12/settings/ml", "/user/login/?next=/a",
        "/user/account", "/organization/?page=1", "/api/version/", "/data/upload/1/a.jpg", "/?next=/x", "/#x", "//",
    ],
)  # fmt: skip
def test_the_page_is_taken_off_and_a_sub_path_stays(page: str) -> None:
    assert site_of(HOST + page) == HOST
    assert site_of(f"{HOST}/label-studio{page}") == f"{HOST}/label-studio"


@pytest.mark.parametrize(
    "url", [HOST, f"{HOST}/", f"{HOST}/label-studio", f"{HOST}/projects", "https://a/b/userdata", "https://a/ml/labels"]
)
def test_an_address_that_may_be_label_studios_stays(url: str) -> None:
    assert site_of(url) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:8080", True), ("https://127.0.0.1", True), ("http://[::1]:8080/a", True),
        ("http://10.0.0.1", False), ("http://labels", False), ("nonsense", False), ("http://[", False),
    ],
)  # fmt: skip
def test_this_machine_is_told_from_others(url: str, here: bool) -> None:
    assert is_on_this_machine(url) is here
