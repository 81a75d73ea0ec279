"""What people see and do in Label Studio's own pages: Retrieve Predictions, a pre-filled form, a correction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.tabs import DOUBT_TAB
from tests.end_to_end.pages.browser import (
    choose,
    open_data_manager,
    open_task,
    read_form,
    retrieve_predictions_of_all,
    scores,
    submit,
)
from tests.end_to_end.site import Site, leaf, read_answer

TITLE = "商品图片预标注"
SHOWN_FILE = "dress-00013.png"  # what the screenshot of the form shows


def test_predictions_fill_the_form_and_a_correction_is_submitted(
    site: Site,
    backend: LocalBackend,
    pictures: list[Path],
    label_studio_page: Page,
    keep_screenshot: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    page = label_studio_page
    project = site.connected(backend, TITLE)
    every = 1 if request.config.getoption("--update-screenshots") else 3
    site.client.upload_files(project.id, pictures[::every])
    tasks = site.client.tasks(project.id)

    # A manager selects all tasks and chooses Retrieve Predictions.
    open_data_manager(page, site.server, project.id, len(tasks))
    retrieve_predictions_of_all(page)
    page.get_by_text(f"Predictions: {len(tasks)}").wait_for()
    open_data_manager(page, site.server, project.id, len(tasks), tab=DOUBT_TAB)
    expect(scores(page).first).to_be_visible()
    shown = [float(text) for text in scores(page).all_inner_texts()]
    assert shown == sorted(shown)
    keep_screenshot(page, "data-manager")

    # An annotator opens a task: every field is filled with what the model said.
    predictions = {found.task_id: read_answer(project, found) for found in site.client.predictions(project.id)}
    [task_id] = [number for number, data in tasks.items() if data["image"].endswith(SHOWN_FILE)]
    said = predictions[task_id]
    open_task(page, site.server, project.id, task_id)
    form = read_form(page)
    assert form.category == [leaf(said, "category")]
    assert sorted(form.choices) == sorted(leaf(said, name) for name in ("style", "season", "scene"))
    assert said.fields["caption"].value in form.captions
    keep_screenshot(page, "task-prefilled")

    # The annotator corrects the season and submits.
    corrected = "春秋" if leaf(said, "season") != "春秋" else "夏季"
    choose(page, corrected)
    submit(page)
    [submitted] = site.client.annotations(task_id)
    annotation = read_answer(project, submitted)
    assert leaf(annotation, "season") == corrected
    for name in ("caption", "category", "style", "scene"):
        assert annotation.fields[name].value == said.fields[name].value


def test_the_model_settings_show_a_connected_backend(
    site: Site, backend: LocalBackend, label_studio_page: Page, keep_screenshot: Callable[..., None]
) -> None:
    page = label_studio_page
    project = site.connected(backend, TITLE)
    page.goto(f"{site.server.url}/projects/{project.id}/settings/ml")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    expect(page.get_by_text(backend.url)).to_be_visible()
    keep_screenshot(page, "model-settings")
