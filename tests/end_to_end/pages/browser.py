"""A headless Chromium, and the few things an annotator or manager does in Label Studio with it.

Locators follow Label Studio 1.23: accessible names and test ids where it has them, else its class names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Response, ViewportSize, expect, sync_playwright

from backend.commands.demo.local_label_studio import LocalLabelStudio
from tests.limits import WAIT_S

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 1000 * WAIT_S


@contextmanager
def chromium() -> Iterator[Browser]:
    """Every wait for something in it ends by the limit of all tests."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=WAIT_MS)
        yield browser
        browser.close()


def new_page(browser: Browser, width: int, height: int, **context: Any) -> Page:
    """In a context of its own: nothing is kept or known from other pages."""
    page = browser.new_page(viewport=ViewportSize(width=width, height=height), **context)
    page.set_default_timeout(WAIT_MS)
    return page


def log_in(page: Page, server: LocalLabelStudio) -> None:
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.username)
    page.fill("input[name=password]", server.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "login" not in url, wait_until="commit")


def sideways_scroll(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def open_data_manager(
    page: Page,
    server: LocalLabelStudio,
    project_id: int,
    num_tasks: int,
    *,
    num_shown: int | None = None,
    tab: str = "",
) -> None:
    """At the tab of that name, or the one that an address without a tab opens; return once its rows are counted."""
    page.goto(f"{server.url}/projects/{project_id}/data")
    if tab:
        page.get_by_role("button", name=tab).click()
    page.get_by_text(f"Tasks: {num_tasks if num_shown is None else num_shown} / {num_tasks}").wait_for()


def scores(page: Page) -> Locator:
    """Those of the Data Manager's rows in sight, from top to bottom."""
    return page.get_by_text(re.compile(r"^[01]\.\d+$"))


def retrieve_predictions_of_all(page: Page) -> None:
    """Select every row and choose Actions > Retrieve Predictions; return once Label Studio has answered."""
    page.get_by_label("Select all rows").check(force=True)
    page.get_by_role("button", name="Tasks Actions").click()
    page.get_by_label("Retrieve Predictions").click()
    with page.expect_response(lambda reply: "id=retrieve_tasks_predictions" in reply.url) as answer:
        page.get_by_test_id("dialog-ok-button").click()
    assert answer.value.status == 200


@dataclass(frozen=True)
class Form:
    """What the labelling form shows."""

    category: str
    choices: list[str]
    captions: list[str]
    doubted: bool


def open_task(page: Page, server: LocalLabelStudio, project_id: int, task_id: int) -> None:
    """Open a task beside the Data Manager and wait until its form stands. The list holds only rows in sight."""
    page.goto(f"{server.url}/projects/{project_id}/data?task={task_id}")
    page.get_by_role("button", name="Submit").wait_for()
    category_list(page).wait_for()


def category_list(page: Page) -> Locator:
    return page.locator(".lsf-choices_layout_select button")


def read_form(page: Page) -> Form:
    page.get_by_test_id("htx-textbox-content").first.wait_for()
    return Form(
        category=category_list(page).inner_text(),
        choices=[radio.get_attribute("name") or "" for radio in page.locator(".ant-radio-input:checked").all()],
        captions=page.get_by_test_id("htx-textbox-content").filter(visible=True).all_inner_texts(),
        doubted=page.get_by_text("⚠").is_visible(),
    )


def choose_category(page: Page, path: str) -> None:
    """Two clicks: one on the field, one on the label that replaces the one there."""
    category_list(page).click()
    page.get_by_test_id(f"select-option-{path}").click()
    expect(category_list(page)).to_have_text(path)
    expect(page.get_by_test_id("select-popup")).to_be_hidden()  # it covers what stands below until it has faded


def choose(page: Page, label: str) -> None:
    page.locator(f'.ant-radio-input[name="{label}"]').check(force=True)


def submit(page: Page) -> None:
    with page.expect_response(lambda reply: "/annotations" in reply.url and reply.request.method == "POST") as answer:
        page.get_by_test_id("bottombar-submit-button").click()
    assert answer.value.status == 201


def label_all_tasks(page: Page) -> int:
    """Press the big button; return the number of the task that Label Studio brings."""
    with page.expect_response(lambda reply: "id=next_task" in reply.url) as answer:
        page.get_by_role("button", name="Label All Tasks").click()
    return _brought(answer.value)


def submit_and_go_on(page: Page) -> int:
    """Submit in the stream that `label_all_tasks` began; return the number of the task that comes next."""
    page.get_by_test_id("bottombar-submit-button").wait_for()
    with page.expect_response(lambda reply: "id=next_task" in reply.url) as answer:
        submit(page)
    return _brought(answer.value)


def _brought(reply: Response) -> int:
    return int(reply.json()["id"])
