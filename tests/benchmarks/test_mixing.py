"""What sharing and mixed steps give and cost: a small run of the real thing by `make soak`."""

import json
from pathlib import Path

import pytest

from benchmarks import engine


@pytest.mark.soak
def test_both_parts_are_measured_and_written(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    engine.main(["--small", "--only", "sharing", "mixing", "--json", str(path)])  # its limit is of time
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert parts["sharing"]["figures"]["2 slots: CPU time, shared to its own"]["value"] > 0
    assert parts["mixing"]["figures"]["a person beside mixed steps, CPU time: times"]["value"] == 2
