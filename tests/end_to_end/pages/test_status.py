"""The status page in a real browser, fed by a real store: it changes by itself, also on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backend.delivery.loop import DeliveryStatus
from backend.store import Store
from tests.backend.status.rig import HOSTILE, NOW, READY, Site, finished, queued, status_site
from tests.end_to_end.pages.browser import sideways_scroll

DRESSES, COATS = "12.1700000000", "15.1700000500"

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def days_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one project under way, and one whose pictures are partly gone."""
    folder = tmp_path_factory.mktemp("store")
    with status_site(folder) as site:
        fill(site.store)
    return folder


@pytest.fixture
def site(days_work: Path, tmp_path: Path) -> Iterator[Site]:
    shutil.copytree(days_work, tmp_path, dirs_exist_ok=True)
    with status_site(tmp_path, label_studio_url="https://labels.example", price_per_minute=0.06) as site:
        site.titles = {DRESSES: "夏季女装主图", COATS: "秋冬外套"}
        site.delivery.status = DeliveryStatus(True, num_delivered=1312, last_success_at=NOW - 10)
        yield site


def fill(store: Store) -> None:
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


def test_the_numbers_change_by_themselves(site: Site, opened: Open) -> None:
    page = opened()
    page.goto(f"{site.url}/status")
    expect(page.locator("#note-waiting")).to_have_text("处理中 32")
    page.evaluate("document.body.dataset.loaded = 'once'")
    running = [work for work in queued(site.store, DRESSES, range(1001, 3001), NOW) if work.state == "running"]
    assert len(running) == 32
    finished(site.store, running[:12], NOW)
    expect(page.locator("#note-waiting")).to_have_text("处理中 20")
    site.engine.status = replace(READY, state="restarting", message="the GPU stopped answering")
    expect(page.get_by_text("重启中")).to_be_visible()
    page.get_by_label("模型", exact=True).get_by_text("英文原文", exact=True).click()
    expect(page.get_by_text("the GPU stopped answering")).to_be_visible()
    site.engine.status = replace(READY, state="restarting", message="it starts again")
    expect(page.get_by_text("it starts again")).to_be_visible()  # what was opened stays so, and goes on changing
    assert page.evaluate("document.body.dataset.loaded") == "once", "the page was loaded anew"


def test_a_phone_shows_it_in_one_column_without_sideways_scroll(site: Site, opened: Open) -> None:
    page = opened(390, 844, device_scale_factor=2, is_mobile=True)
    page.goto(f"{site.url}/status")
    site.titles[DRESSES] = HOSTILE + "很长的项目名称" * 20 + "x" * 120
    site.delivery.status = replace(site.delivery.status, last_error="https://" + "a" * 200, last_error_at=NOW)
    expect(page.get_by_text("很长的项目名称")).to_be_visible()
    assert sideways_scroll(page) == 0


def test_hostile_texts_run_nothing(site: Site, opened: Open) -> None:
    site.titles = {DRESSES: HOSTILE, COATS: "</script><script>alert(2)</script>"}
    site.engine.status = replace(READY, state="failed", message=HOSTILE)
    page = opened()
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.goto(f"{site.url}/status?lang=en")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    site.titles[DRESSES] = "renamed"
    expect(page.get_by_text("renamed")).to_be_visible()
    assert (alerts, complaints) == ([], [])


def test_what_failed_is_tried_again_and_the_rest_is_cancelled_in_two_steps(site: Site, opened: Open) -> None:
    page = opened()
    page.goto(f"{site.url}/status")
    page.get_by_role("button", name="重试失败的任务").click()
    expect(page.get_by_text("项目 15：12 个失败的任务已重新排队。")).to_be_visible()
    page.wait_for_url("**/status?lang=zh")  # what was done is not said again when the page is loaded anew
    coats = page.locator("section", has_text="秋冬外套")
    expect(coats.get_by_text("408 / 420 张")).to_be_visible()
    coats.get_by_text("取消排队").click()
    coats.get_by_role("button", name="确认取消").click()
    expect(coats.get_by_text("已取消")).to_be_visible()
    assert (site.cancelled, site.num_woken) == ([COATS], 2)


def test_an_open_confirmation_stands_still_until_it_is_closed(site: Site, opened: Open) -> None:
    page = opened()
    page.goto(f"{site.url}/status")
    asked: list[str] = []
    page.get_by_text("取消排队").click()
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    assert asked == []
    page.get_by_text("取消排队").click()
    with page.expect_request("**/status*"):
        page.clock.run_for(10_000)


def test_a_backend_that_is_away_is_said_and_its_last_numbers_stay(site: Site, opened: Open) -> None:
    page = opened()
    page.goto(f"{site.url}/status")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    expect(page.get_by_text("夏季女装主图")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()


def test_without_a_script_the_page_is_complete_and_reloads(site: Site, opened: Open) -> None:
    page = opened(java_script_enabled=False)
    page.goto(f"{site.url}/status")
    expect(page.get_by_text("夏季女装主图")).to_be_visible()
    expect(page.locator("meta[http-equiv=refresh]")).to_have_attribute("content", "10")
