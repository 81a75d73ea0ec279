from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.backend.store.crash_child import BAD, NUM_TASKS

EXPECTED = [i for i in range(NUM_TASKS) if i % 10 != BAD]


def test_a_job_killed_at_any_point_ends_as_one_that_never_was(tmp_path: Path) -> None:
    """Every accepted task ends; nothing stored is computed again; Label Studio has each prediction exactly once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.store.crash_child", str(tmp_path)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "FAULT": "any"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *killed, clean = [json.loads(line) for line in done.stdout.splitlines()]
    assert clean["codes"] == [0, 0], done.stderr
    assert clean["delivered"] == EXPECTED
    assert clean["most_begun"] == 1
    assert len(killed) > 3 * NUM_TASKS  # two points a transaction, and those between
    for run in killed:
        assert run["codes"] == [137, 0], (run["number"], done.stderr)
        assert run["states"] == clean["states"], run["number"]
        assert run["delivered"] == EXPECTED, run["number"]
        assert (run["computed_again"], run["set_aside"]) == ([], False), run["number"]
        assert run["most_begun"] <= 2, run["number"]
