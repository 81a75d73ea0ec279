"""Label Studio's address, taken from that of any page of it."""

from __future__ import annotations

import pytest

from backend.label_studio.address import LabelStudioAddresses, is_on_this_machine, shown_url, site_of
from backend.urls import parse_http_url

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


PUBLIC, INSIDE = "http://shop.example:8080", "http://127.0.0.1:9000"
FILE = "/data/upload/1/a.jpg"


@pytest.mark.parametrize(
    ("url", "public", "named", "written"),
    [
        (INSIDE, PUBLIC, "", f"{INSIDE}{FILE}"),
        (INSIDE, PUBLIC, "", f"{PUBLIC}{FILE}"),
        (INSIDE, f"{PUBLIC}/", "", f"HTTP://Shop.Example:8080{FILE}"),
        (INSIDE, f"{PUBLIC}/projects/3/data?tab=1", "", f"{PUBLIC}{FILE}"),
        (INSIDE, f"{PUBLIC}/labels", "", f"{PUBLIC}/labels{FILE}"),
        (f"{INSIDE}/ls", f"{PUBLIC}/labels/", "", f"{PUBLIC}/labels{FILE}"),
        (f"{INSIDE}/ls", PUBLIC, "", f"{INSIDE}/ls{FILE}"),
        (INSIDE, "", PUBLIC, f"{PUBLIC}{FILE}"),
        ("http://label-studio:8080", "", "http://localhost:8080", f"http://127.0.0.1:8080{FILE}"),
        (INSIDE, "", "", f"http://localhost:9000{FILE}"),
        (INSIDE, "", "", f"http://[::1]:9000{FILE}"),
        (INSIDE, "", "", f"http://0.0.0.0:9000{FILE}"),
        (INSIDE, "https://shop.example", "", f"http://shop.example{FILE}"),
        (INSIDE, "http://shop.example", "", f"https://shop.example:443{FILE}"),
        (INSIDE, "http://例子.测试", "", f"http://xn--fsqu00a.xn--0zwm56d{FILE}"),
    ],
)
def test_what_stands_under_any_known_address_stands_in_label_studio(
    url: str, public: str, named: str, written: str
) -> None:
    addresses = LabelStudioAddresses(url, public)
    addresses.name(named)
    assert addresses.within(parse_http_url(written)) == FILE


@pytest.mark.parametrize(
    "written",
    [
        f"http://shop.example{FILE}", f"http://shop.example:8081{FILE}", f"http://shop.example.evil:8080{FILE}",
        f"{PUBLIC}/labels2{FILE}", f"{PUBLIC}{FILE}", f"https://shop.example:8080/labels{FILE}", "http://127.0.0.1/a",
    ],
)  # fmt: skip
def test_what_stands_elsewhere_does_not(written: str) -> None:
    assert LabelStudioAddresses(INSIDE, f"{PUBLIC}/labels").within(parse_http_url(written)) is None


@pytest.mark.parametrize(
    ("url", "public", "path"),
    [
        (f"{INSIDE}/ls", "", f"/ls{FILE}"), (INSIDE, f"{PUBLIC}/labels", f"/labels{FILE}"), (INSIDE, PUBLIC, FILE),
        (f"{INSIDE}/a", f"{PUBLIC}/a/b", f"/a/b{FILE}"), (f"{INSIDE}/data", "", f"/data{FILE}"),
    ],
)  # fmt: skip
def test_an_address_without_a_host_loses_the_path_of_any_of_them(url: str, public: str, path: str) -> None:
    assert LabelStudioAddresses(url, public).without_base(path) == FILE


def test_names_are_told_once_and_the_newest_are_kept() -> None:
    addresses = LabelStudioAddresses(INSIDE, PUBLIC)
    assert [addresses.name(url) for url in (INSIDE, PUBLIC, "http://a", "http://a/", "", "nonsense")] == [
        False, False, True, False, False, False,
    ]  # fmt: skip
    for number in range(20):
        addresses.name(f"http://a{number}")
    assert addresses.named[-1] == "http://a19/".rstrip("/")
    assert len(addresses.named) == 8


@pytest.mark.parametrize(
    ("url", "public", "shown"),
    [
        (INSIDE, PUBLIC, PUBLIC), (INSIDE, "", INSIDE), ("", "", ""), (INSIDE, "http://[", INSIDE),
        (INSIDE, f"{PUBLIC}/labels/projects/3", f"{PUBLIC}/labels"), (INSIDE, "http://u:p@shop.example/", "http://shop.example"),
    ],
)  # fmt: skip
def test_links_lead_where_peoples_browsers_find_it(url: str, public: str, shown: str) -> None:
    assert shown_url(url, public) == shown
