"""A small run of the retrieval benchmark: one click while a real backend and a real Label Studio are killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import retrieval


@pytest.mark.soak
def test_a_click_ends_in_one_prediction_for_each_task_though_both_servers_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert retrieval.main(["--small", "--only", "killed", "--json", str(path)]) == 0
    killed = json.loads(path.read_text("utf-8"))["parts"]["killed"]
    assert "backend killed after" in killed["about"]
    assert "Label Studio killed after" in killed["about"]
    figures = {name: figure["value"] for name, figure in killed["figures"].items()}
    assert (figures["predictions"], figures["tasks without one"], figures["tasks with more than one"]) == (200, 0, 0)
