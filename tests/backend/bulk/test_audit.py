"""`annotate --audit-share`: the records alone hold the answers of what is withheld, whoever has done the work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from backend.bulk.audit import PROJECT
from backend.bulk.items import identity_of
from backend.bulk.truth import Records, read_truth
from backend.quality.people import Account
from backend.store import Store
from backend.store.audit import chooses
from backend.store.serving import FILE_NAME
from tests.backend.bulk.given import SCHEMA, Here, lines, pictures
from tests.backend.serving import CAPTION

NUM = 24
ANSWERED = ("caption", "tags", "category", "season", "confidence.season", "score", "needs_review", "review_reasons")
FORMS = ("--csv", "--parquet", "--label-studio-tasks", "--review-only", "--report", "--summary")


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


def some_pictures(folder: Path, num: int = NUM) -> Path:
    return pictures(folder / "pictures", [f"p{number}.png" for number in range(num)])


def names(tasks: list[dict[str, Any]]) -> set[str]:
    return {task["data"]["image_id"] for task in tasks}


def table(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def of_csv(path: Path) -> tuple[set[str], set[str]]:
    rows = table(path)
    empty = {row["image_id"] for row in rows if row["withheld"] == "TRUE"}
    assert all(not row[key] for row in rows if row["image_id"] in empty for key in ANSWERED)
    return {row["image_id"] for row in rows if row["caption"]}, empty


def of_parquet(path: Path) -> tuple[set[str], set[str]]:
    rows = pyarrow.parquet.read_table(path).to_pylist()
    empty = {row["image_id"] for row in rows if row["withheld"]}
    assert all(
        not row["caption"] and not row["tags"] and row["score"] is None for row in rows if row["image_id"] in empty
    )
    return {row["image_id"] for row in rows if row["caption"]}, empty


def of_tasks(path: Path) -> tuple[set[str], set[str]]:
    tasks = json.loads(path.read_text(encoding="utf-8"))
    return names([t for t in tasks if t.get("predictions")]), names([t for t in tasks if "predictions" not in t])


READ: dict[str, Callable[[Path], tuple[set[str], set[str]]]] = {
    "--csv": of_csv,
    "--parquet": of_parquet,
    "--label-studio-tasks": of_tasks,
}


@pytest.mark.parametrize("exports", ["with the run", "of records that are there"])
def test_no_file_that_is_made_of_the_records_holds_an_answer_that_is_withheld(
    here: Here, tmp_path: Path, exports: str
) -> None:
    folder, output = some_pictures(tmp_path), tmp_path / "out.jsonl"
    made = {form: tmp_path / f"made{form}" for form in FORMS}
    options = [word for form, path in made.items() for word in (form, path)]
    run: list[str | Path] = [folder, "--output", output, "--audit-share", "0.5"]
    code, said, errors = here.run(*run, *options)
    assert code == 0, errors
    if exports == "of records that are there":
        for path in made.values():
            path.unlink()
        assert here.run(folder, "--output", output, *options)[0] == 0, "also when the option is left out"
    written = lines(output)
    assert all(line["caption"] == CAPTION for line in written), "the records hold all of them"
    withheld = {line["image_id"] for line in written if line.get("withheld")}
    assert 0 < len(withheld) < NUM
    with Store.beside(tmp_path / "data" / FILE_NAME, 0.0) as store:
        key = store.audit_key()
    assert withheld == {w["image_id"] for w in written if chooses(key, PROJECT, identity_of(w).hex(), 0.5)}
    everything = {line["image_id"] for line in written}
    for form, read in READ.items():
        assert read(made[form]) == (everything - withheld, withheld), form
    assert not {line["image_id"] for line in lines(made["--review-only"])} & withheld
    report = made["--report"].read_text(encoding="utf-8")
    assert f"{len(withheld)} 张图片为盲检保留" in report
    assert not {name for name in withheld if f"{name}.png" in report}
    if exports == "with the run":
        summary = json.loads(made["--summary"].read_text())
        assert (summary["num_done"], summary["num_withheld"], summary["num_left"]) == (NUM, len(withheld), 0)
        assert f"= {NUM - len(withheld)} annotated + {len(withheld)} withheld for the blind audit" in said


def test_without_an_audit_no_file_has_a_word_of_it(here: Here, tmp_path: Path) -> None:
    folder, output, made = some_pictures(tmp_path, 3), tmp_path / "out.jsonl", tmp_path / "out.csv"
    code, said, _ = here.run(folder, "--output", output, "--csv", made)
    assert (code, "ithheld" in said) == (0, False)
    assert all("withheld" not in line for line in [*lines(output), *table(made)])


def test_a_run_that_goes_on_in_another_order_withholds_the_same(here: Here, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path)
    audit = ("--audit-share", "0.5")
    assert here.run(folder, "--output", tmp_path / "whole.jsonl", *audit)[0] == 0
    later = sorted(folder.iterdir(), reverse=True)
    assert here.run(*later[:7], "--output", tmp_path / "parts.jsonl", *audit)[0] == 0
    assert here.run(*later, "--output", tmp_path / "parts.jsonl", *audit)[0] == 0
    whole, parts = (
        {line["image"]: line.get("withheld", False) for line in lines(tmp_path / name)}
        for name in ("whole.jsonl", "parts.jsonl")
    )
    assert whole == parts


def test_a_data_folder_that_cannot_be_used_is_refused_before_anything_is_done(here: Here, tmp_path: Path) -> None:
    folder, output = some_pictures(tmp_path, 2), tmp_path / "out.jsonl"
    (tmp_path / "data").write_text("no folder")
    code, _, errors = here.run(folder, "--output", output, "--audit-share", "0.1")
    assert (code, "--audit-share: which pictures are withheld follows from a key" in errors) == (2, True)
    assert not output.exists()


def test_a_table_that_people_fill_is_blind_where_it_was_empty(here: Here, tmp_path: Path) -> None:
    folder, output, made = some_pictures(tmp_path), tmp_path / "out.jsonl", tmp_path / "out.csv"
    assert here.run(folder, "--output", output, "--csv", made, "--audit-share", "0.5")[0] == 0
    rows = table(made)
    empty = [row for row in rows if row["withheld"] == "TRUE"]
    filled = next(row for row in rows if row["withheld"] != "TRUE")
    for row in empty[1:]:
        row.update({key: filled[key] for key in ("category", "season")})
    with made.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, filled.keys())
        writer.writeheader()
        writer.writerows(rows)
    account = Account()
    found = list(read_truth(made, Records(output, SCHEMA), SCHEMA, account))
    blind = {one.name for one in found if not one.saw_answer}
    assert blind == {row["image_id"] for row in empty[1:]}
    assert account.num == {"not_labelled": 1}
