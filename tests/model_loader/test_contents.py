"""A model's files hold what the hub has, or are named before anything is made of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from model_loader.contents import NAME, check_contents, checked_beside, known_contents
from model_loader.errors import ModelFilesInvalid
from model_loader.loader import load_model
from tests.limits import WAIT_S
from tests.model_loader.fake_hub import COMMIT, REPO


def git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hub_cache(folder: Path, cache: Path, name: Callable[[bytes], str]) -> Path:
    """The files of `folder` as huggingface_hub keeps them, each named by its content; returns the snapshot."""
    snapshot, blobs = cache / "models--someone--tiny/snapshots" / COMMIT, cache / "models--someone--tiny/blobs"
    for place in (snapshot, blobs):
        place.mkdir(parents=True)
    for file in folder.iterdir():
        blob = blobs / name(file.read_bytes())
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


@pytest.mark.parametrize("name", [git, sha1, sha256])
def test_a_file_that_is_damaged_is_named_and_the_others_are_not(
    name: Callable[[bytes], str], folder: Path, tmp_path: Path
) -> None:
    snapshot = hub_cache(folder, tmp_path / "hub", name)
    files = known_contents(snapshot)
    assert len(files) == len(list(folder.iterdir()))
    told: list[float] = []
    check_contents(files, told.append)
    assert (sorted(told), told[-1]) == (told, 1.0)
    blob = (snapshot / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-9] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ModelFilesInvalid, match=f"^1 of the model's files .* rm {re.escape(str(blob))}$"):
        check_contents(files)


def test_a_check_that_takes_longer_than_the_load_beside_it_tells_its_own_progress(tmp_path: Path) -> None:
    slow = tmp_path / "model.safetensors"
    os.mkfifo(slow)
    told: list[float] = []

    def feed() -> None:
        with slow.open("wb") as file:
            while not told:
                file.write(bytes(2**20))

    feeding = threading.Thread(target=feed)

    def enter() -> Callable[[float], None]:
        feeding.start()
        return told.append

    with pytest.raises(ModelFilesInvalid, match=f"rm {slow}$"), checked_beside({slow: "0" * 64}, enter):
        assert not told
    feeding.join(WAIT_S)
    assert told


def test_what_is_not_named_by_its_content_is_left_alone(folder: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(folder, tmp_path / "hub", lambda content: f"W-{len(content)}")
    assert known_contents(snapshot) == known_contents(folder) == {}
    noted = {"gone.safetensors": "0" * 64, __file__: "0" * 64, "../tiny/config.json": "0" * 64}
    (folder / NAME).write_text(json.dumps(noted))
    assert known_contents(folder) == {}


@pytest.mark.parametrize("spoilt", ['{"model.safetensors": 7}', '{"model.safetensors": "0123"}', "[]", "{", ""])
def test_a_copy_whose_digests_are_damaged_themselves_is_not_taken_for_whole(folder: Path, spoilt: str) -> None:
    (folder / NAME).write_text(spoilt)
    with pytest.raises(ModelFilesInvalid, match=f"^{re.escape(str(folder / NAME))}, .* is damaged "):
        known_contents(folder)


def test_no_copy_is_made_of_a_damaged_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    blob = (hub_cache(folder, tmp_path / "hub", sha256) / "model.safetensors").resolve()
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-64] + bytes(64))
    stages: list[str] = []

    def load() -> str:
        loaded = load_model(REPO, device="cpu", on_progress=lambda stage, *_: stages.append(stage),
                            save_quantised_to=tmp_path / "copies")  # fmt: skip
        return loaded.name

    with pytest.raises(ModelFilesInvalid, match=blob.name):
        load()
    assert set(stages) == {"folders", "resolve", "check"}
    blob.write_bytes(whole)
    assert load() == REPO


def test_a_copy_that_is_damaged_is_not_loaded_and_made_again_when_the_file_is_gone(
    folder: Path, tmp_path: Path
) -> None:
    stages: list[str] = []

    def load() -> None:
        load_model(
            str(folder),
            device="cpu",
            on_progress=lambda stage, *_: stages.append(stage),
            save_quantised_to=tmp_path / "copies",
        )

    load()
    load()
    assert stages[-1] == "ready"
    assert "load_copy" in stages
    [shard] = (tmp_path / "copies").glob("*/*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-9] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ModelFilesInvalid, match=re.escape(f"rm {shard}")):
        load()
    shard.unlink()
    stages.clear()
    load()
    assert "quantise" in stages
