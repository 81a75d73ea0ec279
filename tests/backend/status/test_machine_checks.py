"""Model, card, disk, data folder and port: what each check says of a machine as it may be found."""

from __future__ import annotations

import json
import socket
import string
from pathlib import Path
from typing import Any

import pytest

from backend.errors import SettingsError
from backend.pages.check_words import CHECKS, NAMES
from backend.pages.words import Words
from backend.settings import Settings, load_settings
from backend.status.check import Check
from backend.status.machine_checks import (
    Disk,
    card_check,
    data_dir_check,
    disk_checks,
    memory_check,
    memory_plan,
    model_check,
    port_check,
)  # fmt: skip
from backend.status.serve_checks import refuse_hopeless
from model_loader.geometry import DEFAULT_MODEL
from model_loader.memory import GIB
from model_loader.sources import GARMENTS_CHECKPOINT, Card


def settings(**given: Any) -> Settings:
    return load_settings(given)


def said(check: Check) -> str:
    texts = [Words(language).check(check.code, check.values) for language in ("zh", "en")]
    assert texts[0] != check.code, "there are no words for it"
    assert not any("{" in text for text in texts), texts
    return texts[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: models/qwen3 holds no model, models/other another kind of one."""
    for name, config in (("qwen3", None), ("other", {"model_type": "qwen2_vl"})):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        if config:
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "verdict", "code", "told"),
    [
        ("auto", "good", "model_auto", ""),
        ("garments", "good", "model_here", "garments"),
        (str(GARMENTS_CHECKPOINT), "good", "model_here", ""),
        ("garment", "bad", "model_unknown_near", "Did you mean garments?"),
        ("Garments", "bad", "model_unknown_near", "Did you mean garments?"),
        ("aut", "bad", "model_unknown_near", "Did you mean auto?"),
        ("qwen", "bad", "model_unknown", "Write garments, auto, owner/name"),
        ("./models/qwen", "bad", "model_unknown_near", "Did you mean models/qwen3?"),
        ("/no/such/folder", "bad", "model_unknown", "PRELABEL_MODEL=/no/such/folder"),
        ("models/qwen3", "bad", "model_refused", "has no config.json"),
        ("models/other", "bad", "model_refused", "qwen2_vl"),
        ("modelscope:nonsense", "bad", "model_unknown", ""),
        (DEFAULT_MODEL, "good", "model_download", "is downloaded at the first start"),
        ("Qwen/Qwen3-VL-30B-A3B-Thinking", "good", "model_download", ""),
        ("Qwen/Qwen3-VL-30B-A3B-Instuct", "doubtful", "model_doubtful", f"Did you mean {DEFAULT_MODEL}?"),
        ("models/qwen4", "doubtful", "model_doubtful", "Did you mean models/qwen3?"),
        ("models/mine", "doubtful", "model_no_folder", "There is no folder models/mine"),
        ("someone/else", "good", "model_download", ""),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_model_is_judged_before_anything_is_loaded(model: str, verdict: str, code: str, told: str) -> None:
    check = model_check(settings(model=model))
    assert (check.verdict, check.code) == (verdict, code)
    assert told in said(check)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"model": "garment"}, ["PRELABEL_MODEL=garment is neither"]),
        ({"model": "/nowhere"}, ["PRELABEL_MODEL=/nowhere is neither"]),
        (
            {"label_studio_url": "http://labels/projects/1"},
            ["LABEL_STUDIO_URL=http://labels/projects/1 is"],
        ),
        ({"model": "garment", "label_studio_url": "http://a/user/login"}, ["PRELABEL_MODEL=", "LABEL_STUDIO_URL="]),
    ],
)
def test_serve_refuses_at_once_what_can_never_work(tmp_path: Path, given: dict[str, str], lines: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        refuse_hopeless(settings(data_dir=tmp_path, **given))
    told = str(refused.value).splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(told, lines, strict=True))


@pytest.mark.parametrize("given", [{}, {"model": "garments"}, {"label_studio_url": "http://127.0.0.1:1/base"}])
def test_serve_starts_with_what_may_work(tmp_path: Path, given: dict[str, str]) -> None:
    refuse_hopeless(settings(data_dir=tmp_path, **given))


@pytest.mark.parametrize(
    ("given", "card", "driver", "verdict", "code"),
    [
        ({}, Card("Some Card", 23.6), "570.1", "good", "card_found"),
        ({}, None, "", "unused", "card_none"),
        ({"device": "cpu"}, None, "570.1", "unused", "card_not_wanted"),
        ({"device": "cuda"}, None, "", "bad", "card_missing"),
        ({"model": DEFAULT_MODEL}, None, "", "doubtful", "card_none_for_model"),
    ],
)
def test_a_card_is_seen_or_not(given: dict[str, str], card: Card | None, driver: str, verdict: str, code: str) -> None:
    check = card_check(settings(**given), card, driver)
    assert (check.verdict, check.code) == (verdict, code)
    assert said(check)


def test_a_driver_without_a_card_is_told_with_what_may_hide_it() -> None:
    check = card_check(settings(), None, "570.1")
    assert check.verdict == "bad"
    assert check.code in ("card_cpu_torch", "card_hidden")  # by the torch of this machine
    assert "570.1" in said(check)


@pytest.mark.parametrize(
    ("vram_gib", "card", "verdict", "told"),
    [
        (None, None, "unused", "--vram-gib"),
        (24.0, None, "good", "128 requests at a time (an instruction of 975 tokens that all share; 256 for a picture"),
        (None, Card("Some Card", 23.65, 23.2), "good", "4.70 GiB left for the KV cache = 126 requests"),
        (None, Card("Some Card", 23.65, 22.35), "good", "3.94 GiB left for the KV cache = 105 requests"),
        (22.0, Card("Some Card", 23.65, 23.2), "good", "fits 22.0 GiB"),
        (16.0, None, "bad", "at least 19.1 GiB are needed"),
        (None, Card("Some Card", 23.65, 12.0), "bad", "but other programs leave 12.5 GiB of it, and at least 19.1 GiB"),
        (None, Card("Some Card", 15.8, 12.0), "bad", "does not fit 15.8 GiB: at least 19.1 GiB are needed"),
        (80.0, Card("Some Card", 15.8, 12.0), "good", "fits 80.0 GiB"),  # another card
    ],
)
def test_memory_fits_or_not(vram_gib: float | None, card: Card | None, verdict: str, told: str) -> None:
    check = memory_check(memory_plan(settings(vram_gib=vram_gib), DEFAULT_MODEL, card))
    assert check.verdict == verdict
    assert told in said(check)


@pytest.mark.parametrize(
    ("model", "downloads_gib", "copies_gib", "same", "verdicts"),
    [
        ("garments", 2, 2, True, ["good"]),
        ("garments", 0.5, 0.5, True, ["bad"]),
        (DEFAULT_MODEL, 100, 100, True, ["good"]),
        (DEFAULT_MODEL, 70, 70, True, ["bad"]),  # 57.9 to download, 17.9 for the copy
        (DEFAULT_MODEL, 70, 20, False, ["good", "good"]),
        (DEFAULT_MODEL, 70, 10, False, ["good", "bad"]),
        (DEFAULT_MODEL, 50, 20, False, ["bad", "good"]),
    ],
)
def test_disks_hold_what_the_model_needs(
    tmp_path: Path, model: str, downloads_gib: float, copies_gib: float, same: bool, verdicts: list[str]
) -> None:
    downloads = Disk(Path("/models"), 1, int(downloads_gib * GIB))
    copies = Disk(Path("/data"), 1 if same else 2, int(copies_gib * GIB))
    asked = settings(model=model, data_dir=tmp_path)
    checks = disk_checks(asked, model, memory_plan(asked, model, None), downloads, copies)
    assert [check.verdict for check in checks] == verdicts
    for check in checks:
        assert ("HF_HOME" in said(check)) is (check.verdict == "bad")


def test_a_data_folder_is_writable_or_the_reason_is_told(tmp_path: Path) -> None:
    new = tmp_path / "new" / "data"
    assert data_dir_check(new).verdict in ("good", "doubtful")  # by the room this machine has
    assert not new.exists()
    (tmp_path / "file").write_text("")
    check = data_dir_check(tmp_path / "file" / "data")
    assert check.verdict == "bad"
    assert said(check).startswith(f"PRELABEL_DATA_DIR={tmp_path}/file/data cannot be written (")


def test_a_port_is_free_ours_or_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check = port_check("127.0.0.1", port, is_prelabel=False)
        assert (check.verdict, "Choose another PRELABEL_PORT" in said(check)) == ("bad", True)
        assert said(port_check("127.0.0.1", port, is_prelabel=True)).endswith("prelabel is running there")
    assert said(port_check("127.0.0.1", 0, is_prelabel=False)) == "127.0.0.1:0 is free"


@pytest.mark.parametrize("texts", [*CHECKS.values(), *NAMES.values()], ids=[*CHECKS, *NAMES])
def test_both_languages_name_the_same_values(texts: tuple[str, str]) -> None:
    names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts]
    assert names[0] == names[1]
    assert all(texts)
