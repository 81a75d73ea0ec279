from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.backend.store.crash_child import BAD, KILLED, NUM_TASKS
from tests.limits import TEST_S, examples

EXPECTED = [i for i in range(NUM_TASKS) if i % 10 != BAD]
STEPS = {
    *("open", "recover", "save_recipe", "accept", "claim", "finish", "fail", "returned", "reply_ended"),
    *("take_due", "push_failed", "delivered"),
}


def test_a_job_killed_at_any_point_ends_as_one_that_never_was(tmp_path: Path) -> None:
    """Every accepted task ends; nothing stored is computed again; Label Studio has each prediction exactly once."""
    most = examples(1, NUM_TASKS * 10)
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.store.crash_child", str(tmp_path), str(most)],
        capture_output=True, text=True, timeout=TEST_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    clean, *killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert (clean["code"], clean["delivered"], clean["most_begun"]) == (0, EXPECTED, 1), done.stderr
    assert len(clean["kinds"]) > 2 * NUM_TASKS  # two points a transaction, and those between
    assert len(killed) == len(clean["kinds"] if most > 1 else set(clean["kinds"]))
    assert "between_writes of finish" in clean["kinds"]
    assert {kind.split(" of ")[1] for kind in clean["kinds"]} >= STEPS
    for run in killed:
        where = run["killed_at"]
        assert run["codes"] == [KILLED, 0], (where, done.stderr)
        assert run["states"] == clean["states"], where
        assert run["delivered"] == EXPECTED, where
        assert (run["computed_again"], run["set_aside"]) == ([], False), where
        assert run["most_begun"] <= 2, where
