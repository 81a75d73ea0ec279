"""Waiting for the model before a bulk run: a person at a terminal is told what makes it slow."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from rich.console import Console

from backend.bulk.loading import tell_choice, wait_with_progress
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
    assert [line.startswith("! slower than it should be") for line in lines if line] == [True, True]
    assert "operation not permitted" in lines[0]


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
