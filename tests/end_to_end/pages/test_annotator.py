"""What people see and do in Label Studio's own pages: Retrieve Predictions, a pre-filled form, a correction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.tabs import DOUBT_TAB
from tests.end_to_end.pages.browser import (
    category_list,
    choose,
    choose_category,
    open_data_manager,
    open_task,
    read_form,
    retrieve_predictions_of_all,
    scores,
    submit,
)
from tests.end_to_end.site import Site, label, read_answer

TITLE = "商品图片预标注"
SHOWN_FILE = "dress-00013.png"  # what the screenshot of the form shows
DOUBTED_FILE = "t-shirt-top-00027.png"


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
    assert form.category == label(said, "category")
    assert sorted(form.choices) == sorted(label(said, name) for name in ("style", "season", "scene"))
    assert said.fields["caption"].value in form.captions
    keep_screenshot(page, "task-prefilled")

    # The annotator corrects category and season, one choice each, and submits.
    category, season = "服饰 / 上装 / 外套", "春秋"
    assert (label(said, "category"), label(said, "season")) != (category, season)
    choose_category(page, category)
    choose(page, season)
    submit(page)
    [submitted] = site.client.annotations(task_id)
    annotation = read_answer(project, submitted)
    assert (label(annotation, "category"), label(annotation, "season")) == (category, season)
    for name in ("caption", "style", "scene"):
        assert annotation.fields[name].value == said.fields[name].value


def test_the_reason_to_look_is_shown_and_not_submitted(
    site: Site,
    backend: LocalBackend,
    pictures: list[Path],
    label_studio_page: Page,
    keep_screenshot: Callable[..., None],
) -> None:
    page = label_studio_page
    project = site.connected(backend, "Garments to annotate", "garments.en")
    [model] = site.client.backends(project.id)
    same = (project.id, model.url, model.title, model.description, None, model.id)
    site.client.save_backend(*same, extra_params={"language": "en", "review_threshold": 0.6})
    site.client.upload_files(project.id, [path for path in pictures if path.name == DOUBTED_FILE])
    [(task_id, prediction)] = site.retrieve(project, 1).items()
    assert {"needs_review", "review_reason"} < {region["from_name"] for region in prediction.regions}
    said = read_answer(project, prediction)

    open_task(page, site.server, project.id, task_id)
    form = read_form(page)
    assert form.doubted
    reason = f"category has a confidence of {said.fields['category'].confidence:.0%}, below 60%"
    assert reason in form.captions
    keep_screenshot(page, "annotator-doubt.en")

    # No key of the keyboard changes the category behind the annotator's back: its list has none.
    page.keyboard.press("a")
    category_list(page).click()
    expect(page.get_by_test_id(f"select-option-{form.category}")).to_be_visible()
    keep_screenshot(page, "annotator-category.en")
    page.keyboard.press("Escape")
    assert read_form(page) == form
    submit(page)
    [submitted] = site.client.annotations(task_id)
    assert {region["from_name"] for region in submitted.regions} == set(said.fields)
    assert {name: found.value for name, found in read_answer(project, submitted).fields.items()} == {
        name: found.value for name, found in said.fields.items()
    }


def test_the_model_settings_show_a_connected_backend(
    site: Site, backend: LocalBackend, label_studio_page: Page, keep_screenshot: Callable[..., None]
) -> None:
    page = label_studio_page
    project = site.connected(backend, TITLE)
    page.goto(f"{site.server.url}/projects/{project.id}/settings/ml")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    expect(page.get_by_text(backend.url)).to_be_visible()
    keep_screenshot(page, "model-settings")
