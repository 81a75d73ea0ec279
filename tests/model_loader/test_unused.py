"""What lies on the disks beside what a start takes is told, with how to remove it, and left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_loader.checks import tell_of_unused
from model_loader.saved import MANIFEST, UNFINISHED, place_for
from model_loader.unused import unused_files

MODEL, OTHER = "Someone/Tiny-VL", "Someone/Other-VL"


def copy(parent: Path, source: str, revision: str | None = None, commit: str = "0a1b2c3d4e5f6a7b") -> Path:
    """One of 3 GiB."""
    folder = place_for(parent, source, revision)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps({"source": source, "commit": commit}))
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(3 * 2**30)
    return folder


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "the copies"


def test_copies_of_other_models_revisions_and_spellings_are_told_with_the_one_that_is_taken(copies: Path) -> None:
    own = copy(copies, MODEL)
    others = [copy(copies, OTHER), copy(copies, MODEL, "v1"), copy(copies, MODEL.lower(), commit="")]
    for name in ("somebody-elses", f"{own.name}{UNFINISHED}"):
        (copies / name).mkdir()
    [told] = unused_files(MODEL, None, copies)
    said = str(told)
    assert "take, 9.0 GiB in all: " in said
    assert f"{OTHER} 0a1b2c3d4e5f: 3.0 GiB" in said
    assert f"{MODEL.lower()}: 3.0 GiB" in said
    assert f"Its own is {own.name}. " in said
    removed = said.partition("rm -r ")[2]
    assert all(f"'{other}'" in removed for other in others)
    assert own.name not in removed
    assert (told.refuses, all(other.is_dir() for other in others)) == (False, True)


@pytest.mark.parametrize("source", [MODEL, "garments", f"modelscope:{MODEL}"])
def test_where_nothing_else_lies_there_nothing_is_said(copies: Path, source: str) -> None:
    assert unused_files(source, None, copies) == []
    copy(copies, source)
    assert unused_files(source, None, copies) == []


def test_a_start_logs_it(copies: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    copy(copies, OTHER)
    tell_of_unused(MODEL, None, copies)
    assert caplog.messages == [str(unused_files(MODEL, None, copies)[0])]


def test_a_copy_that_says_nothing_of_itself_is_told_by_its_folder(copies: Path) -> None:
    other = copy(copies, OTHER)
    (other / MANIFEST).unlink()
    [told] = unused_files(MODEL, None, copies)
    assert f"{other.name}: 3.0 GiB" in str(told)


@pytest.mark.parametrize(
    ("source", "is_told"), [(MODEL, True), (MODEL.upper(), True), (MODEL.lower(), False), (OTHER, False)]
)
def test_a_download_under_another_spelling_of_the_same_name_is_told(
    copies: Path, tmp_path: Path, source: str, is_told: bool
) -> None:
    folder = tmp_path / "hub" / f"models--{MODEL.lower().replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    with (folder / "blobs" / "0a").open("wb") as blob:
        blob.truncate(20 * 2**30)
    found = unused_files(source, None, copies)
    assert [f"set PRELABEL_MODEL={MODEL.lower()} to use that" in str(one) for one in found] == [True] * is_told
    assert ["20 GiB" in str(one) and f"rm -r {folder}" in str(one) for one in found] == [True] * is_told
    assert folder.is_dir()
