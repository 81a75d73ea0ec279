"""`prelabel annotate ... --output FILE` and the files it makes of the records."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.backend.bulk.given import Here, lines
from tests.backend.images.pictures import png


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
