"""The checks against a real Label Studio: a good key of each kind, a refused one, a page's address."""

from __future__ import annotations

from typing import Any

from backend.settings import load_settings
from backend.status.check import Check
from backend.status.label_studio_checks import label_studio_checks
from tests.end_to_end.site import Site
from tests.limits import WAIT_S


def found(url: str, api_key: str, **given: Any) -> dict[str, Check]:
    settings = load_settings({"label_studio_url": url, "label_studio_api_key": api_key, **given})
    return {check.name: check for check in label_studio_checks(settings, call_s=WAIT_S)}


def test_the_checks_tell_what_a_real_label_studio_accepts_and_refuses(site: Site) -> None:
    url = site.server.url
    for key in (site.server.api_key, site.personal_token):
        checks = found(url, key)
        assert (checks["address"].code, checks["token"].code) == ("address_good", "token_good")
        assert checks["token"].values["user"] == site.server.username
    for refused in ("b" * 40, f"{site.personal_token[:-6]}AAAAAA"):
        assert found(url, refused)["token"].code == "token_refused"
    page = found(f"{url}/projects/1/data?tab=2", site.server.api_key)["address"]
    assert (page.code, page.values["site"]) == ("address_page", url)
    # Label Studio tells its version below any path; the key is what shows that the address is another one's
    assert found(f"{url}/elsewhere", site.server.api_key)["address"].code == "address_other"
