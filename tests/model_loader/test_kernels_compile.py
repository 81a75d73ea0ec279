"""The kernels compile to machine code for the cards they are for, though none is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_loader.experts.plan import FUSED
from tests.limits import TEST_S

SHARED_BYTES = 99 * 1024  # what a program may use on an RTX 3090, RTX 4090, A10 or L4
REGISTERS = 65_536  # of a core


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "num_packed", "num_others"),
    [
        pytest.param((), 4, 5, id="one card"),
        pytest.param(("all",), 2 * len(FUSED), 14, id="all cards and tiles", marks=pytest.mark.soak),
    ],
)
def test_every_kernel_compiles_for_the_cards_and_fits_them(
    tmp_path: Path, which: tuple[str, ...], num_packed: int, num_others: int
) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-m", "tests.model_loader.compile_child", *which],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=TEST_S,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    rows = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == num_packed + num_others
    for row in rows:
        assert row["spilled_bytes"] <= 16, row
        assert row["registers"] * row["warps"] * 32 <= REGISTERS, row
        if row["arch"] < 90:
            assert row["shared_bytes"] <= SHARED_BYTES, row
        if row["kernel"] in ("gate_up_kernel", "linear_kernel", "attend_kernel"):
            assert row["tensor_cores"], row
            assert row["loads_ahead"], row
    assert all(row["permutes"] for row in rows[:num_packed]), "the codes are looked up in registers"
