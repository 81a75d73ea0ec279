"""A start that is killed anywhere goes on from there: the next one gives the same model, and fetches nothing twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.limits import RUN_S, SOAK
from tests.model_loader.fake_hub import REPO, serve

POINTS = {
    "resolve": ["folders", "resolve", "download", "check", "quantise", "save", "ready"],
    "download": ["folders", "resolve", "download", "check", "quantise", "save", "ready"],
    "check": ["folders", "resolve", "check", "quantise", "save", "ready"],
    "quantise": ["folders", "resolve", "check", "quantise", "save", "ready"],
    "writing the copy": ["folders", "resolve", "check", "quantise", "save", "ready"],
    "naming the copy": ["folders", "resolve", "check", "quantise", "save", "ready"],
    "ready": ["folders", "resolve", "check", "load_copy", "ready"],
}
"""Where a start is killed, and the stages of the next one."""
MOMENTS = [random.Random(seed).random() for seed in range(30 if SOAK else 1)]


@pytest.mark.slow
def test_a_start_that_is_killed_goes_on_from_there(folder: Path, tmp_path: Path) -> None:
    moments = [f"{moment:.4f}" for moment in MOMENTS]
    with serve(folder) as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.model_loader.killed_child", REPO, str(tmp_path), "never"]
        done = subprocess.run(
            [*command, *POINTS, *moments], env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *after = map(json.loads, done.stdout.splitlines())
    assert len(after) == len(POINTS) + len(moments)
    same: dict[str, Any] = {name: whole[name] for name in ("weights", "weights_id", "copies")}
    for point, found in zip([*POINTS, *moments], after, strict=True):
        assert {name: found[name] for name in same} == same, point
    for (point, stages), found in zip(POINTS.items(), after, strict=False):
        assert found["stages"] == stages, point
