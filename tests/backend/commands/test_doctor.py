"""`prelabel doctor`: the plan for people and for scripts, from files of the package alone."""

from __future__ import annotations

import json

import pytest

from backend.commands import doctor as command
from backend.commands.doctor import doctor
from model_loader.geometry import DEFAULT_MODEL
from model_loader.sources import Card


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_card", lambda: None)


def test_json_says_that_the_30b_fits_24_gib(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(DEFAULT_MODEL, 24.0, 256, True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fits"] is True
    assert (said["params_billion"], said["experts_params_billion"]) == (31.07, 28.99)
    assert said["weights_gib"] == pytest.approx(17.85, abs=0.01)
    assert said["naive_load_in_4bit_gib"] == pytest.approx(56, abs=0.2)
    assert said["num_slots"] == 26
    assert said["needed_gib"] < 24
    assert set(said["gib"]) >= {"experts", "attention", "vision", "embeddings_and_head", "router_and_norms"}


def test_card_that_is_too_small_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(DEFAULT_MODEL, 16.0, 256, True) == 1
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_more_image_tokens_leave_room_for_fewer(capsys: pytest.CaptureFixture[str]) -> None:
    slots = []
    for image_tokens in (256, 1024):
        doctor(DEFAULT_MODEL, 24.0, image_tokens, True)
        slots.append(json.loads(capsys.readouterr().out)["num_slots"])
    assert slots[0] > slots[1] > 0


@pytest.mark.parametrize("json_output", [True, False], ids=["json", "text"])
def test_unknown_model_is_exit_code_2(capsys: pytest.CaptureFixture[str], json_output: bool) -> None:
    assert doctor("no/such-model", 24.0, 256, json_output) == 2
    said = capsys.readouterr()
    assert "no/such-model" in said.out + said.err


def test_table_names_the_card_of_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_card", lambda: Card("Some Card", 23.6))
    assert doctor("auto", None, 256, False) == 0
    text = capsys.readouterr().out
    for expected in ("31.07 B parameters", "Some Card, 23.6 GiB", "Fits 23.6 GiB", "bitsandbytes", "load_in_4bit"):
        assert expected in text


def test_without_a_card_there_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("auto", None, 256, False) == 0
    assert "name one with --vram-gib" in capsys.readouterr().out
