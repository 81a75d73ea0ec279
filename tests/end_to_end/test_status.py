"""The status page in a real browser, fed by a real store: it changes by itself, also on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect, sync_playwright

from backend.delivery.loop import DeliveryStatus
from tests.backend.status.rig import HOSTILE, NOW, READY, Site, finished, queued, status_site
from tests.end_to_end.browser import ARGUMENTS, CHROMIUM

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
DRESSES, COATS = "12.1700000000", "15.1700000500"
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with status_site(tmp_path, label_studio_url="https://labels.example", price_per_minute=0.06) as site:
        yield site


def opened(browser: Browser, site: Site, width: int = 1280, height: int = 900, **context: object) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, locale="zh-CN", **context)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{site.url}/status")
    return page


def filled(site: Site) -> None:
    """A day's work: one project under way, one whose pictures are partly gone."""
    store = site.store
    coats = queued(store, COATS, range(1, 421), NOW - 7_300)
    finished(store, coats[:408], NOW - 5_000, needs_review=23)
    store.delivered([work.id for work in coats[:408]], NOW - 4_900)
    for work in coats[408:417]:
        store.fail(work.id, "image_not_found", "The picture is not there (HTTP 404).", NOW - 5_000)
    for work in coats[417:]:
        store.fail(work.id, "image_timeout", "The picture did not arrive within 20 s.", NOW - 5_000)
    dresses = queued(store, DRESSES, range(1001, 3001), NOW - 700)
    finished(store, dresses[:620], NOW - 300, needs_review=57)
    store.delivered([work.id for work in dresses[:620]], NOW - 280)
    finished(store, dresses[620:962], NOW - 20, needs_review=31)
    store.delivered([work.id for work in dresses[620:904]], NOW - 10)
    store.claim(32, NOW - 2)
    site.titles = {DRESSES: "夏季女装主图", COATS: "秋冬外套"}
    site.delivery = SimpleNamespace(status=DeliveryStatus(True, num_delivered=1312, last_success_at=NOW - 10))


def sideways_scroll(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> object:
    def screenshot(page: Page, name: str, *, full: bool) -> None:
        if request.config.getoption("--update-screenshots"):
            page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full)

    return screenshot


def test_the_numbers_change_by_themselves(site: Site, browser: Browser, keep: object) -> None:
    filled(site)
    page = opened(browser, site)
    expect(page.locator("#note-waiting")).to_have_text("处理中 32")
    assert callable(keep)
    keep(page, "status", full=True)
    page.evaluate("document.body.dataset.loaded = 'once'")
    running = [work for work in queued(site.store, DRESSES, range(1001, 3001), NOW) if work.state == "running"]
    assert len(running) == 32
    finished(site.store, running[:12], NOW)
    expect(page.locator("#note-waiting")).to_have_text("处理中 20")
    site.engine.status = replace(READY, state="restarting", message="the GPU stopped answering")
    expect(page.get_by_text("重启中")).to_be_visible()
    expect(page.get_by_text("the GPU stopped answering")).to_be_visible()
    assert page.evaluate("document.body.dataset.loaded") == "once", "the page was loaded anew"
    page.close()


def test_a_phone_shows_it_in_one_column_without_sideways_scroll(site: Site, browser: Browser, keep: object) -> None:
    filled(site)
    page = opened(browser, site, 390, 844, device_scale_factor=2, is_mobile=True)
    assert callable(keep)
    keep(page, "status-phone", full=False)
    site.titles[DRESSES] = HOSTILE + "很长的项目名称" * 20 + "x" * 120
    site.delivery.status = replace(site.delivery.status, last_error="https://" + "a" * 200, last_error_at=NOW)
    expect(page.get_by_text("很长的项目名称")).to_be_visible()
    assert sideways_scroll(page) == 0
    page.close()


def test_hostile_texts_run_nothing(site: Site, browser: Browser) -> None:
    filled(site)
    site.titles = {DRESSES: HOSTILE, COATS: "</script><script>alert(2)</script>"}
    site.engine.status = replace(READY, state="failed", message=HOSTILE)
    page = browser.new_page()
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.goto(f"{site.url}/status?lang=en")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    site.titles[DRESSES] = "renamed"
    expect(page.get_by_text("renamed")).to_be_visible()
    assert (alerts, complaints) == ([], [])
    page.close()


def test_what_failed_is_tried_again_and_the_rest_is_cancelled_in_two_steps(site: Site, browser: Browser) -> None:
    filled(site)
    page = opened(browser, site)
    page.get_by_role("button", name="重试失败的任务").click()
    page.wait_for_url("**/status?lang=zh")
    coats = page.locator("section", has_text="秋冬外套")
    expect(coats.get_by_text("408 / 420 张")).to_be_visible()
    coats.get_by_text("取消排队").click()
    coats.get_by_role("button", name="确认取消").click()
    expect(coats.get_by_text("已取消")).to_be_visible()
    assert site.changed == [COATS, COATS]
    page.close()


def test_an_open_confirmation_stands_still_until_it_is_closed(site: Site, browser: Browser) -> None:
    filled(site)
    page = opened(browser, site)
    page.get_by_text("取消排队").click()
    with pytest.raises(TimeoutError), page.expect_request("**/status*", timeout=3_000):
        pass
    page.get_by_text("取消排队").click()
    with page.expect_request("**/status*"):
        pass
    page.close()


def test_a_backend_that_is_away_is_said_and_its_last_numbers_stay(site: Site, browser: Browser) -> None:
    filled(site)
    page = opened(browser, site)
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    expect(page.get_by_text("夏季女装主图")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    page.close()


def test_without_a_script_the_page_is_complete_and_reloads(site: Site, browser: Browser) -> None:
    filled(site)
    page = opened(browser, site, java_script_enabled=False)
    expect(page.get_by_text("夏季女装主图")).to_be_visible()
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
    page.close()
