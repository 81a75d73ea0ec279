"""The import file of `prelabel annotate` in a real Label Studio: imported as it is, opened by an annotator, filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from playwright.sync_api import Page

from backend.label_studio import Project, TaskRegions
from label_config import ready_made
from tests.end_to_end.browser import logged_in, open_data_manager, open_task, read_form
from tests.end_to_end.site import Site, leaf, read_answer

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
CONFIG = "garments.zh"
BOOT, BAG = "新品/靴子 1 #热卖 100%.png", "新品/包 👜.png"
NAMES = {"ankle-boot-00000.png": BOOT, "bag-00018.png": BAG}
DOUBTED = "t-shirt-top-00027"
FILES = (
    *NAMES, f"{DOUBTED}.png", "coat-00006.png", "dress-00013.png", "sandal-00008.png", "shirt-00007.png",
    "sneaker-00009.png",
)  # fmt: skip
PICTURE = ".lsf-image img"
READ_BYTES = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    with logged_in(site.server) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Path]) -> Path:
    """Eight pictures, two of them in a folder below, with names that an address cannot have as they are."""
    made = tmp_path / "商品"
    for picture in (picture for picture in pictures if picture.name in FILES):
        target = made / NAMES.get(picture.name, picture.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes())
    return made


@dataclass(frozen=True)
class Annotated:
    """What `prelabel annotate` has written."""

    records: list[dict[str, Any]]
    import_file: Path

    @property
    def tasks(self) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = json.loads(self.import_file.read_text(encoding="utf-8"))
        return tasks

    @property
    def model_version(self) -> str:
        [version] = {record["model_version"] for record in self.records}
        return str(version)


def annotate(source: Path, *options: str, **environment: str) -> Annotated:
    """`prelabel annotate source` with the embedded model; the files are written beside `source`."""
    beside = source.parent
    command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", source.name]
    command += ["--output", "out.jsonl", "--label-config", CONFIG, "--label-studio-tasks", "tasks.json"]
    command += ["--model", "garments", "--data-dir", "data", *options]
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ended = subprocess.run(
        command, cwd=beside, env={**os.environ, **env, **environment}, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in (beside / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    return Annotated(records, beside / "tasks.json")


class Served(SimpleHTTPRequestHandler):
    """A folder as a static web server serves it that allows other sites its pictures, as Label Studio's page needs."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def image_root_url(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def imported(site: Site, title: str, file: Path) -> Project:
    """A new project with the file in it as if dropped on its import page."""
    project = site.client.create_project(title, ready_made(CONFIG))
    site.client.add_doubt_tab(project.id)
    site.client.upload_files(project.id, [file])
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
    assert form.category == [leaf(said, "category")]
    assert sorted(form.choices) == sorted(leaf(said, name) for name in ("style", "season", "scene"))
    assert said.fields["caption"].value in form.captions
    page.wait_for_function(f"document.querySelector('{PICTURE}')?.naturalWidth > 0")
    assert bytes(page.locator(PICTURE).evaluate(READ_BYTES)) == picture.read_bytes()


def test_a_folder_is_imported_and_its_tasks_open_filled(
    site: Site, folder: Path, image_root_url: str, page: Page, request: pytest.FixtureRequest
) -> None:
    annotated = annotate(folder, "--image-root-url", image_root_url, "--review-threshold", "0.6")
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

    # A manager sees the score of each, the least certain first.
    open_data_manager(page, site.server, project.id, len(tasks))
    page.get_by_text(f"Predictions: {len(tasks)}").wait_for()
    shown = [float(text) for text in page.get_by_text("0.").all_inner_texts() if text.startswith("0.")]
    assert shown == pytest.approx(sorted(record["score"] for record in annotated.records), abs=0.001)

    # An annotator opens tasks; the last is one of which the model was in doubt.
    for name in (*(odd.removesuffix(".png") for odd in NAMES.values()), DOUBTED):
        [task_id] = [number for number, data in tasks.items() if data["image_id"] == name]
        expect_filled(page, site, project, predictions[task_id], Path(records[name]["image"]))
    assert page.locator(".ant-checkbox-input:checked").get_attribute("name") == "需人工复核"
    [reason] = records[DOUBTED]["review_reasons"]
    assert reason in read_form(page).captions
    if request.config.getoption("--update-screenshots"):
        page.mouse.move(720, 880)  # no row or button looks hovered
        page.wait_for_timeout(1_500)  # pictures and animations
        page.screenshot(path=SCREENSHOTS / "bulk-import.png")


def test_an_export_of_uploads_is_annotated_and_imported_into_a_new_project(
    site: Site, folder: Path, tmp_path: Path, page: Page
) -> None:
    uploads = site.client.create_project("上传的图片", ready_made(CONFIG))
    site.client.upload_files(uploads.id, sorted(folder.rglob("*.png")))
    export = httpx.get(
        f"{site.server.url}/api/projects/{uploads.id}/export",
        params={"exportType": "JSON", "download_all_tasks": "true"},
        headers={"Authorization": f"Token {site.server.api_key}"},
        timeout=60,
        trust_env=False,
    ).raise_for_status()
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
    shown = {"靴子": BOOT, "包": BAG, DOUBTED: f"{DOUBTED}.png"}  # Label Studio gives uploads names of its own
    for part, picture in shown.items():
        [task_id] = [number for number, data in tasks.items() if part in unquote(data["image"])]
        expect_filled(page, site, project, predictions[task_id], folder / picture)
