"""A small run of the retrieval benchmark: one click while a real backend and a real Label Studio are killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import retrieval


@pytest.mark.soak
def test_a_click_ends_in_one_prediction_for_each_task_though_both_servers_are_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    assert retrieval.main(["--quick", "--json", str(path)]) == 0
    rounds = json.loads(path.read_text("utf-8"))["rounds"]
    killed, stock = rounds["killed"], rounds["stock"]
    assert [kill["server"] for kill in killed["kills"]] == ["backend", "Label Studio"]
    assert killed["kills"][0]["within_click"]
    assert (killed["predictions"], killed["without"], killed["duplicates"]) == (200, 0, 0)
    assert (stock["predictions"], stock["click_said"]) == (0, "200: Retrieved 200 predictions")
    assert 0 < stock["answered"] < 200
    printed = capsys.readouterr().out
    assert "200          200        0           0" in printed
    assert "0 are kept" in printed
