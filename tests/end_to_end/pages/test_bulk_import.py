"""The import file of `prelabel annotate` in a real Label Studio: imported as it is, opened by an annotator, filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from playwright.sync_api import Page, expect

from backend.label_studio.client import Project, TaskRegions
from backend.label_studio.tabs import DOUBT_TAB, arrange_tabs
from label_config.ready_made import ready_made
from tests.end_to_end.pages.browser import category_list, open_data_manager, open_task, read_form, scores
from tests.end_to_end.pages.bulk_run import BOOT, CONFIG, DOUBTED, Annotated, annotate
from tests.end_to_end.site import Site, label, read_answer

PICTURE = ".lsf-image img"
READ_BYTES = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"


def imported(site: Site, title: str, file: Path) -> Project:
    """A new project with the file in it as if dropped on its import page."""
    project = site.client.create_project(title, ready_made(CONFIG))
    site.client.upload_files(project.id, [file])
    arrange_tabs(site.client, project.id, "")
    return project


def predictions_of(site: Site, project: Project) -> dict[int, TaskRegions]:
    """By task; exactly one each."""
    found = site.client.predictions(project.id)
    assert len({prediction.task_id for prediction in found}) == len(found)
    return {prediction.task_id: prediction for prediction in found}


def expect_filled(page: Page, site: Site, project: Project, found: TaskRegions, picture: Path) -> None:
    """An annotator who opens the task sees the picture and all five fields as the model filled them."""
    said = read_answer(project, found)
    open_task(page, site.server, project.id, found.task_id)
    form = read_form(page)
    assert form.category == label(said, "category")
    assert sorted(form.choices) == sorted(label(said, name) for name in ("style", "season", "scene"))
    assert said.fields["caption"].value in form.captions
    page.wait_for_function(f"document.querySelector('{PICTURE}')?.naturalWidth > 0")
    assert bytes(page.locator(PICTURE).evaluate(READ_BYTES)) == picture.read_bytes()


def test_a_folder_is_imported_and_its_tasks_open_filled(
    site: Site,
    annotated: Annotated,
    image_root_url: str,
    label_studio_page: Page,
    keep_screenshot: Callable[..., None],
) -> None:
    page = label_studio_page
    assert len(annotated.records) == 8
    project = imported(site, "一个文件夹的商品图片", annotated.import_file)

    # Label Studio has what the file says, and has chosen its predictions by itself: no setting is left to a person.
    tasks, predictions = site.client.tasks(project.id), predictions_of(site, project)
    assert sorted(data["image_id"] for data in tasks.values()) == sorted(r["image_id"] for r in annotated.records)
    assert set(predictions) == set(tasks)
    records = {record["image_id"]: record for record in annotated.records}
    for task_id, data in tasks.items():
        found, record = predictions[task_id], records[data["image_id"]]
        assert found.model_version == annotated.model_version
        assert found.score == pytest.approx(record["score"], abs=1e-4)
        assert read_answer(project, found).fields["caption"].value == record["caption"]
        assert data["image"].startswith(f"{image_root_url}/")
        assert httpx.get(data["image"], trust_env=False).content == Path(record["image"]).read_bytes()

    # A manager sees the score of each, the least certain first.
    open_data_manager(page, site.server, project.id, len(tasks), tab=DOUBT_TAB)
    page.get_by_text(f"Predictions: {len(tasks)}").wait_for()
    expect(scores(page)).to_have_count(len(tasks))
    shown = [float(text) for text in scores(page).all_inner_texts()]
    assert shown == pytest.approx(sorted(record["score"] for record in annotated.records), abs=0.001)

    # An annotator opens tasks; the last is one of which the model was in doubt.
    for name in (BOOT.removesuffix(".png"), DOUBTED):
        [task_id] = [number for number, data in tasks.items() if data["image_id"] == name]
        expect_filled(page, site, project, predictions[task_id], Path(records[name]["image"]))
    [reason] = records[DOUBTED]["review_reasons"]
    form = read_form(page)
    assert form.doubted
    assert reason in form.captions
    keep_screenshot(page, "bulk-import")
    category_list(page).click()
    keep_screenshot(page, "annotator-category.zh")
    page.keyboard.press("Escape")


def test_an_export_of_uploads_is_annotated_and_imported_into_a_new_project(
    site: Site, folder: Path, tmp_path: Path, label_studio_page: Page
) -> None:
    uploads = site.client.create_project("上传的图片", ready_made(CONFIG))
    site.client.upload_files(uploads.id, [folder / BOOT, folder / f"{DOUBTED}.png"])
    export = site.call(
        "GET", f"/api/projects/{uploads.id}/export", params={"exportType": "JSON", "download_all_tasks": "true"}
    )
    (tmp_path / "export.json").write_bytes(export.content)
    uploaded = site.client.tasks(uploads.id)

    annotated = annotate(tmp_path / "export.json", **site.access)
    assert {record["task_id"]: record["image"] for record in annotated.records} == {
        task_id: data["image"] for task_id, data in uploaded.items()
    }

    project = imported(site, "导出后预标注", annotated.import_file)
    site.client.prelabel_with(project.id, annotated.model_version)  # refused unless Label Studio has this version
    tasks, predictions = site.client.tasks(project.id), predictions_of(site, project)
    assert [data["image"] for data in tasks.values()] == [task["data"]["image"] for task in annotated.tasks]
    assert sorted(data["image"] for data in tasks.values()) == sorted(data["image"] for data in uploaded.values())
    assert set(predictions) == set(tasks)
    # Label Studio gives uploads names of its own
    [task_id] = [number for number, data in tasks.items() if "靴子" in unquote(data["image"])]
    expect_filled(label_studio_page, site, project, predictions[task_id], folder / BOOT)
