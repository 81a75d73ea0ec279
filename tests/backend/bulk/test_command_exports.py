"""`prelabel annotate ... --output FILE` and the files it makes of the records."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.backend.bulk.given import Here, lines, pictures
from tests.backend.images.pictures import png
from tests.backend.serving import CONFIG


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


def _task(task_id: int, shade: int) -> dict[str, Any]:
    picture = base64.b64encode(png((16, 12), (shade, 0, 0))).decode()
    return {"id": task_id, "data": {"image": f"data:image/png;base64,{picture}", "shade": shade}}


def test_every_task_of_several_exports_is_annotated_and_comes_once(here: Here, tmp_path: Path) -> None:
    one, other, linked = tmp_path / "one.json", tmp_path / "other.json", tmp_path / "linked.json"
    one.write_text(json.dumps([_task(1, 10), _task(2, 20)]))
    other.write_text(json.dumps([_task(1, 30), _task(2, 40)]))
    linked.symlink_to(one)
    output, made = tmp_path / "out.jsonl", tmp_path / "tasks.json"
    code, _, errors = here.run(one, other, one, linked, "--output", output, "--label-studio-tasks", made)
    assert code == 0, errors
    assert len(lines(output)) == 4
    assert [task["data"]["shade"] for task in json.loads(made.read_text())] == [10, 20, 30, 40]


@pytest.mark.parametrize("export", ["--label-studio-tasks", "--csv", "--parquet", "--report"])
def test_with_nothing_left_to_do_a_changed_label_config_is_refused_too(here: Here, tmp_path: Path, export: str) -> None:
    folder, output, made = pictures(tmp_path / "pictures", ["a.png"]), tmp_path / "out.jsonl", tmp_path / "made"
    assert here.run(folder, "--output", output)[0] == 0
    before = output.read_bytes()
    here.config.write_text(CONFIG.replace("冬季", "秋季"), encoding="utf-8")
    code, _, errors = here.run(folder, "--output", output, export, made)
    assert code == 2
    assert "冬季" in errors
    assert "Give the --label-config that it was made with" in errors
    assert (output.read_bytes(), made.exists()) == (before, False)


def test_two_folders_cannot_stand_behind_one_address_unless_their_names_differ(here: Here, tmp_path: Path) -> None:
    pictures(tmp_path / "shop", ["a/p.png", "b/p.png"])
    output, made = tmp_path / "out.jsonl", tmp_path / "tasks.json"
    options: list[str | Path] = [
        "--output",
        output,
        "--label-studio-tasks",
        made,
        "--image-root-url",
        "https://shop.example",
        "--summary",
        tmp_path / "summary.json",
    ]
    code, _, errors = here.run(tmp_path / "shop" / "a", tmp_path / "shop" / "b", *options)
    assert code == 2
    told = json.loads((tmp_path / "summary.json").read_text())
    assert (told["exit_code"], "both would get" in told["error"]) == (2, True)
    assert "both would get the address https://shop.example/p.png" in errors
    assert len(lines(output)) == 2
    assert not made.exists()
    assert here.run(tmp_path / "shop", *options)[0] == 0
    addresses = [task["data"]["image"] for task in json.loads(made.read_text())]
    assert sorted(addresses) == ["https://shop.example/a/p.png", "https://shop.example/b/p.png"]
