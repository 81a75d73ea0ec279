"""One Chromium for all tests of pages, one log-in to Label Studio, and one bulk run whose results they look at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.end_to_end.pages import bulk_run
from tests.end_to_end.pages.browser import chromium, log_in, new_page
from tests.end_to_end.site import Site

SCREENSHOTS = Path(__file__).resolve().parents[3] / "docs" / "screenshots"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="package")
def label_studio_page(browser: Browser, site: Site) -> Iterator[Page]:
    page = new_page(browser, 1440, 900)
    log_in(page, site.server)
    yield page
    page.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages, which are closed at the end."""
    pages: list[Page] = []

    def open_page(width: int = 1280, height: int = 900, **context: Any) -> Page:
        pages.append(new_page(browser, width, height, locale="zh-CN", **context))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def keep_screenshot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Save what a page shows in docs/screenshots/, where --update-screenshots asks for it."""

    def keep(page: Page, name: str, **options: Any) -> None:
        if request.config.getoption("--update-screenshots"):
            page.mouse.move(720, 880)  # no row or button looks hovered
            page.wait_for_load_state("networkidle")
            page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled", **options)

    return keep


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory, pictures: list[Path]) -> Path:
    made = tmp_path_factory.mktemp("bulk") / "商品"
    bulk_run.fill(made, pictures)
    return made


@pytest.fixture(scope="package")
def image_root_url(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(bulk_run.Served, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="package")
def annotated(folder: Path, image_root_url: str) -> bulk_run.Annotated:
    """What `prelabel annotate` makes of the folder."""
    return bulk_run.annotate(folder, "--image-root-url", image_root_url, "--review-threshold", "0.6", exit_code=1)
