"""Waiting for the model before a bulk run: a person at a terminal is told what makes it slow."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from rich.console import Console

from backend.bulk.loading import tell_choice, wait_until_ready, wait_with_progress
from backend.engine.api import EngineStatus
from backend.settings import load_settings
from tests.fakes import READY, FakeEngine


def test_what_makes_a_bulk_run_slower_than_it_should_be_is_told_before_it() -> None:
    engine, file = FakeEngine({}), io.StringIO()
    slower = (("slow_graphs", "operation not permitted"), ("slow_linears", "off by 0.98 of the norm"))
    engine.status = EngineStatus("ready", ready=replace(READY, device="cuda:0", slower=slower))
    ready = asyncio.run(wait_with_progress(engine, Console(file=file, width=400)))
    assert ready.slower == slower
    lines = file.getvalue().splitlines()
    assert [line.startswith("! slower than it should be") for line in lines] == [False, True, True]
    assert "operation not permitted" in lines[1]


def test_without_a_terminal_a_start_is_told_in_plain_lines() -> None:
    """As to a log, of hours of download."""
    engine, file = FakeEngine({}, ready=False), io.StringIO()
    download = EngineStatus("loading", "download", 0.02)
    engine.status = EngineStatus("loading", "resolve", 0.0)
    further = iter([
        download,
        replace(download, fraction=0.03),
        replace(download, fraction=0.2, bytes_per_s=50e6, left_s=900),
        EngineStatus("ready", ready=READY),
    ])  # fmt: skip

    def noticed(status: EngineStatus) -> None:
        engine.status = next(further, engine.status)

    assert asyncio.run(wait_until_ready(engine, Console(file=file, width=20), noticed=noticed)) == READY
    assert file.getvalue().splitlines() == [
        "prelabel: 0% Finding the model",
        "prelabel: 2% Downloading the model",
        "prelabel: 20% Downloading the model (50.0 MB/s, 15 min left)",
        "prelabel: garments (nf4) on cpu, 0.1 GiB, loaded in 0 s",
    ]


@pytest.mark.parametrize(
    ("model", "device", "loaded", "is_told"),
    [
        ("auto", "auto", "garments", True),
        ("auto", "cpu", "garments", False),
        ("garments", "auto", "garments", False),
        ("auto", "auto", "Qwen/Qwen3-VL-8B-Instruct", False),
    ],
)
def test_the_built_in_model_in_the_place_of_a_large_one_is_told(
    model: str, device: str, loaded: str, is_told: bool
) -> None:
    file = io.StringIO()
    tell_choice(load_settings({"model": model, "device": device}), loaded, Console(file=file, width=400))
    assert ("no CUDA card is seen, so the small built-in model garments answers" in file.getvalue()) is is_told
