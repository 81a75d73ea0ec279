"""The command as a person types it, with the built-in model: a folder of garments to every kind of output."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from label_studio_sdk.label_interface import LabelInterface

from label_config.parse import parse_label_config
from label_config.ready_made import ready_made
from tests.backend.bulk.given import annotate, lines

pytestmark = pytest.mark.slow

GARMENTS = Path(__file__).parents[3] / "model_loader" / "garments" / "pictures"
CONFIG = ready_made("garments.zh")
NAMES = {
    "ankle-boot-00000.png": "靴子/短靴 1.png",
    "bag-00018.png": "包 👜.png",
    "bag-00030.png": "-bag.png",
}


class Done:
    """A finished run in `folder`."""

    def __init__(self, folder: Path, result: subprocess.CompletedProcess[str]) -> None:
        self.folder = folder
        self.result = result
        self.records = lines(folder / "out.jsonl")

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("run")
    for source in sorted(GARMENTS.glob("*.png"))[:12]:
        target = folder / "pictures" / NAMES.get(source.name, source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copy(folder / "pictures" / "包 👜.png", folder / "pictures" / "copy.png")
    (folder / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    result = annotate(
        folder, "--csv", "out.csv", "--parquet", "out.parquet", "--label-studio-tasks", "tasks.json",
        "--review-only", "review.jsonl", "--summary", "summary.json", "--report", "report.html",
        "--review-threshold", "0.9", "--price-per-minute", "0.6",
    )  # fmt: skip
    return Done(folder, result)


def test_every_picture_has_its_record_and_the_broken_one_its_reason(done: Done) -> None:
    assert done.result.returncode == 1, done.result.stderr
    assert len(done.records) == 13
    assert {"靴子/短靴 1", "包 👜", "-bag", "copy"} < {record["image_id"] for record in done.records}
    fields = {field.name for field in parse_label_config(CONFIG).fields}
    for record in done.records:
        assert set(record["fields"]) == fields
        assert record["caption"] == record["fields"]["caption"]
        assert len(record["tags"]) == 4
        assert Path(record["image"]).is_file()
    (failed,) = lines(done.folder / "out.failed.jsonl")
    assert failed["reason"] == "image_corrupt"


def test_an_identical_picture_has_the_identical_answer(done: Done) -> None:
    by_id = {record["image_id"]: record for record in done.records}
    assert by_id["copy"]["fields"] == by_id["包 👜"]["fields"]
    assert done.json("summary.json")["num_reused"] == 1


def test_what_the_names_say_is_what_the_model_sees(done: Done) -> None:
    by_id = {record["image_id"]: record["fields"]["category"] for record in done.records}
    assert "靴" in by_id["靴子/短靴 1"]
    assert "包" in by_id["-bag"]


def test_the_summary_is_shown_and_written(done: Done) -> None:
    summary = done.json("summary.json")
    assert (summary["num_total"], summary["num_done"], summary["num_failed"]) == (14, 13, 1)
    assert summary["num_review"] == sum(record["needs_review"] for record in done.records)
    assert summary["cost_yuan"] == pytest.approx(0.01 * summary["seconds"])
    assert summary["model_version"] == done.records[0]["model_version"]
    for text in ("Annotated", "Need review", "image_corrupt", "garments-nf4-"):
        assert text in done.result.stdout
    assert "14 of 14 (100.0%)" in done.result.stderr


def test_every_table_says_the_same(done: Done) -> None:
    with (done.folder / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(done.folder / "out.parquet").to_pylist()
    for record, row, typed in zip(done.records, rows, table, strict=True):
        assert row["image_id"].lstrip("'") == typed["image_id"] == record["image_id"]
        assert row["caption"] == typed["caption"] == record["caption"]
        assert row["category"] == typed["category"] == record["fields"]["category"]
        assert float(row["score"]) == typed["score"] == record["score"]
    assert lines(done.folder / "review.jsonl") == [record for record in done.records if record["needs_review"]]


def test_label_studio_takes_every_task(done: Done) -> None:
    tasks = done.json("tasks.json")
    interface = LabelInterface(CONFIG)
    assert len(tasks) == 13
    for task in tasks:
        assert task["data"]["image"].startswith("/data/local-files/?d=")
        assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_the_report_is_one_page_that_needs_no_network(done: Done) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "短靴" in page
    assert "https://" not in page


def test_the_same_command_again_has_nothing_to_do(done: Done) -> None:
    before = (done.folder / "out.jsonl").read_bytes()
    again = annotate(done.folder, "--review-threshold", "0.9")
    assert again.returncode == 1  # one picture still stands as failed
    assert "Done before" in again.stdout
    assert (done.folder / "out.jsonl").read_bytes() == before
