"""`python -m benchmarks.quality`: the rule it compares with, and its own small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import quality


@pytest.mark.soak
def test_the_small_run_writes_and_prints_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality.main(["--small", "--json", str(tmp_path / "figures.json")]) == 0

    assert json.loads((tmp_path / "figures.json").read_text())
    assert "400 blind, guaranteed: over the target" in capsys.readouterr().out


def test_what_merely_looks_good_passes_as_much_as_the_sample_allows() -> None:
    sample = [(0.9, True)] * 20 + [(0.6, False)] + [(0.3, True)] * 20 + [(0.1, False)] * 9

    assert quality.looks_good(sample, 0.05, 0.1) == 0.11
    assert quality.looks_good([(0.9, False)], 0.05, 0.1) is None
