"""What people see and do in Label Studio's own pages: Retrieve Predictions, a pre-filled form, a correction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from backend.label_studio import DOUBT_TAB
from backend.local_backend import LocalBackend
from tests.end_to_end.browser import (
    choose,
    logged_in,
    open_data_manager,
    open_task,
    read_form,
    retrieve_predictions_of_all,
    submit,
)
from tests.end_to_end.site import Site, leaf, read_answer

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SHOWN_FILE = "dress-00013.png"  # what the screenshot of the form shows


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    with logged_in(site.server) as opened:
        yield opened


@pytest.fixture
def keep_screenshot(request: pytest.FixtureRequest, page: Page) -> object:
    def keep(name: str) -> None:
        if request.config.getoption("--update-screenshots"):
            page.mouse.move(720, 880)  # no row or button looks hovered
            page.wait_for_timeout(1_500)  # pictures and animations
            page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return keep


def test_predictions_fill_the_form_and_a_correction_is_submitted(
    site: Site, backend: LocalBackend, pictures: list[Path], page: Page, keep_screenshot: object
) -> None:
    assert callable(keep_screenshot)
    project = site.connected(backend, "商品图片预标注")
    site.client.upload_files(project.id, pictures)
    tasks = site.client.tasks(project.id)

    # A manager selects all tasks and chooses Retrieve Predictions.
    open_data_manager(page, site.server, project.id, len(tasks))
    assert page.get_by_text(DOUBT_TAB).is_visible()
    retrieve_predictions_of_all(page)
    page.get_by_text(f"Predictions: {len(tasks)}").wait_for()
    scores = [float(text) for text in page.get_by_text("0.").all_inner_texts() if text.startswith("0.")]
    assert scores
    assert scores == sorted(scores)
    keep_screenshot("data-manager")

    # An annotator opens a task: every field is filled with what the model said.
    predictions = {found.task_id: read_answer(project, found) for found in site.client.predictions(project.id)}
    [task_id] = [number for number, data in tasks.items() if data["image"].endswith(SHOWN_FILE)]
    said = predictions[task_id]
    open_task(page, site.server, project.id, task_id)
    form = read_form(page)
    assert form.category == [leaf(said, "category")]
    assert sorted(form.choices) == sorted(leaf(said, name) for name in ("style", "season", "scene"))
    assert said.fields["caption"].value in form.captions
    keep_screenshot("task-prefilled")

    # The annotator corrects the season and submits.
    corrected = "春秋" if leaf(said, "season") != "春秋" else "夏季"
    choose(page, corrected)
    submit(page)
    annotation = read_answer(project, site.annotation_of(task_id))
    assert leaf(annotation, "season") == corrected
    for name in ("caption", "category", "style", "scene"):
        assert annotation.fields[name].value == said.fields[name].value


def test_the_model_settings_show_a_connected_backend(
    site: Site, backend: LocalBackend, page: Page, keep_screenshot: object
) -> None:
    assert callable(keep_screenshot)
    project = site.connected(backend, "模型设置")
    page.goto(f"{site.server.url}/projects/{project.id}/settings/ml")
    page.get_by_text("Connected", exact=True).wait_for()
    assert page.get_by_text(backend.url).is_visible()
    keep_screenshot("model-settings")
