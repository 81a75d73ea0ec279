"""`prelabel doctor --start`: what it says of a start, and by which exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend import cli
from backend.commands.dry_start import dry_start
from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Stats
from backend.errors import GenerationFailed, SettingsError
from backend.settings import load_settings
from tests.fakes import READY, FakeEngine
from tests.model_loader.checkpoints import tiny_config

ON_CARD = replace(READY, device="cuda:0", max_slots=126, kv_tokens=51_377)


def told(
    engine: FakeEngine, code: int, folder: Path, capsys: pytest.CaptureFixture[str], *, json_output: bool = False
) -> str:
    settings = load_settings({"data_dir": folder, "model": "garments"})
    assert (
        dry_start(settings, geometry_only=True, json_output=json_output, make_engine=lambda *args, **kwargs: engine)
        == code
    )
    return " ".join(capsys.readouterr().out.split())


def test_a_start_with_which_nothing_is_wrong_is_told_with_time_and_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine({"stars": 3})
    engine.status = EngineStatus("ready", "ready", 1.0, ON_CARD, stats=Stats(memory_gib=21.5))
    said = told(engine, 0, tmp_path, capsys)
    assert "Getting ready" in said
    assert "One answer" in said
    assert "21.5 GiB at the peak; 126 requests at once in a KV cache of 51,377 positions" in said
    assert "every kernel gives what plain torch gives" in said


def test_a_card_that_is_too_hot_over_its_answer_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine({"stars": 3})
    engine.status = EngineStatus("ready", "ready", 1.0, ON_CARD, stats=Stats(slower=(("slow_hot", "91 °C"),)))
    assert "the card is too hot and has lowered its clock (91 °C)" in told(engine, 1, tmp_path, capsys)


def test_what_has_to_be_done_without_is_told_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine({"stars": 3})
    slower = (("slow_attention", "8 tokens: off by 0.98 of the norm"),)
    engine.status = EngineStatus("ready", "ready", 1.0, replace(ON_CARD, slower=slower))
    said = told(engine, 1, tmp_path, capsys)
    assert "! slower than it should be: the attention kernel of decode steps cannot be used" in said
    assert "8 tokens: off by 0.98 of the norm" in said
    assert "every kernel" not in said


@pytest.mark.parametrize(("model", "is_told"), [("auto", True), ("garments", False)])
def test_where_auto_has_found_no_card_it_is_told_which_small_model_that_is(
    model: str, is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine({"stars": 3})
    settings = load_settings({"data_dir": tmp_path, "model": model, "device": "auto"})
    dry_start(settings, geometry_only=True, make_engine=lambda *args, **kwargs: engine)
    said = " ".join(capsys.readouterr().out.split())
    assert ("so the small built-in model garments answers: it knows ten kinds of garment" in said) == is_told


def test_an_engine_that_died_over_its_answer_and_did_it_again_is_no_good_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Faults(FakeEngine):
        async def generate(self, request: GenerateRequest) -> Finished:
            ended = "the engine process ended with exit code 70: the device failed, the log says how"
            self.status = EngineStatus("ready", "ready", 1.0, ON_CARD, num_restarts=1, ended=ended)
            return await super().generate(request)

    engine = Faults({"stars": 3})
    engine.status = EngineStatus("ready", "ready", 1.0, ON_CARD)
    said = told(engine, 1, tmp_path, capsys)
    assert "! the engine's process has ended and was started again by itself (how often, and why: 1; the engine" in said
    assert "exit code 70" in said
    assert "every kernel" not in said


@pytest.mark.parametrize("json_output", [False, True])
def test_a_start_that_fails_says_why(json_output: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine({}, ready=False)
    engine.status = EngineStatus("failed", message="no kernel image is available")
    assert "the model could not be loaded" in told(engine, 1, tmp_path, capsys, json_output=json_output)


def test_a_model_that_loads_and_does_not_answer_is_no_good_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine({})
    engine.failure = GenerationFailed("internal: illegal memory access")
    said: dict[str, Any] = json.loads(told(engine, 1, tmp_path, capsys, json_output=True))
    assert "illegal memory access" in said["error"]
    assert said["ready"]["max_slots"] == READY.max_slots


@pytest.mark.parametrize("arguments", [["--start", "--geometry-only"], []], ids=["a start", "the checks"])
def test_image_tokens_that_a_server_refuses_are_refused_here(arguments: list[str]) -> None:
    refused = CliRunner().invoke(cli.app, ["doctor", "--image-tokens", "16384", *arguments])
    assert isinstance(refused.exception, SettingsError)
    assert "PRELABEL_IMAGE_TOKENS" in str(refused.exception)


def test_the_geometry_is_of_a_start() -> None:
    refused = CliRunner().invoke(cli.app, ["doctor", "--geometry-only"])
    assert isinstance(refused.exception, SettingsError)
    assert "--start" in str(refused.exception)


@pytest.mark.slow
def test_a_geometry_is_started_in_the_engines_own_process_and_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the model but its config.json is there."""
    (tmp_path / "model").mkdir()
    config = tiny_config(num_hidden_layers=6).to_dict()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    settings = load_settings({"data_dir": tmp_path, "model": str(tmp_path / "model"), "device": "cpu"})
    assert dry_start(settings, geometry_only=True, json_output=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert "random_weights" in [stage["name"] for stage in said["stages"]]
    assert (said["error"], said["ready"]["quantisation"], said["ready"]["device"]) == ("", "nf4", "cpu")
    assert said["ready"]["model_name"] == f"random weights of {tmp_path / 'model'}"
    assert said["answer_s"] > 0
