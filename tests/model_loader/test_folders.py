"""Which folders a start writes to, and that one that cannot be written is said by its setting before anything else."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from model_loader.disks import disks_of
from model_loader.errors import MachineUnfit
from model_loader.folders import unwritable_folders
from model_loader.loader import load_model
from model_loader.saved import UNFINISHED, place_for, remove_unfinished, unfinished_bytes
from tests.model_loader.checkpoints import UNREADABLE

HUB, FOLDER = "someone/tiny", "a folder"
ALL = ("HF_HOME", "MODELSCOPE_CACHE", "TRITON_CACHE_DIR", "PRELABEL_QUANTISED_DIR")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that a start writes to is below a file, where no folder can be made."""
    (tmp_path / "file").touch()
    for setting in ALL[:3]:
        monkeypatch.setenv(setting, str(tmp_path / "file" / setting))
    for other in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file/HF_HOME/hub"))
    return tmp_path / "file" / ALL[3]


@pytest.mark.parametrize(
    ("source", "on_card", "settings"),
    [
        (HUB, True, {"HF_HOME", "PRELABEL_QUANTISED_DIR", "TRITON_CACHE_DIR"}),
        (HUB, False, {"HF_HOME", "PRELABEL_QUANTISED_DIR"}),
        (f"modelscope:{HUB}", False, {"MODELSCOPE_CACHE", "PRELABEL_QUANTISED_DIR"}),
        (FOLDER, False, {"PRELABEL_QUANTISED_DIR"}),
        ("garments", False, set()),
        ("garments", True, {"TRITON_CACHE_DIR"}),
    ],
)
def test_what_a_start_puts_somewhere_is_named_by_the_setting_that_moves_it(
    nowhere: Path, folder: Path, source: str, on_card: bool, settings: set[str]
) -> None:
    source = str(folder) if source == FOLDER else source
    found = unwritable_folders(source, None, nowhere, on_card=on_card)
    assert {trouble.values["setting"] for trouble in found} == settings
    for trouble in found:
        assert f"{nowhere.parent}/" in str(trouble)
        assert "cannot be written (Not a directory)" in str(trouble)


def test_folders_that_can_be_written_and_those_of_a_packed_model_are_no_trouble(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    assert unwritable_folders(HUB, None, tmp_path / "not/made/yet", on_card=False) == []
    assert not (tmp_path / "not").exists()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {}}))
    (tmp_path / "file").touch()
    assert unwritable_folders(str(folder), None, tmp_path / "file/copies", on_card=False) == []


def test_a_link_to_a_disk_that_is_not_mounted_is_said_to_be_one(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "copies").symlink_to("/mnt/no-such-disk")
    [found] = unwritable_folders(str(folder), None, tmp_path / "copies", on_card=False)
    assert "it is a link to /mnt/no-such-disk, which is not there" in str(found)


def test_a_user_without_a_home_folder_is_told_to_name_one(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for setting in ("HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    found = unwritable_folders(HUB, None, tmp_path, on_card=True)
    assert {trouble.values["setting"] for trouble in found} == {"HF_HOME", "TRITON_CACHE_DIR"}
    assert all("cannot be written (this user has no home folder)" in str(trouble) for trouble in found)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_what_of_a_model_cannot_be_read_stands_in_the_way_of_no_folder(tmp_path: Path, folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).symlink_to(UNREADABLE)
    assert unwritable_folders(str(folder), None, tmp_path / "copies", on_card=False) == []


def test_nothing_is_asked_of_a_hub_before_all_folders_can_be_written(nowhere: Path) -> None:
    stages: list[str] = []
    with pytest.raises(MachineUnfit, match=r"^HF_HOME: .* cannot be written"):
        load_model(HUB, device="cpu", save_quantised_to=nowhere, on_progress=lambda stage, *_: stages.append(stage))
    assert stages == ["folders"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_disk_without_symbolic_links_is_named_by_the_setting_of_temporary_files(
    folder: Path, tmp_path: Path, number: int
) -> None:
    """As exFAT, SMB and some mounts of WSL are: none of that is a matter of whose the folder is."""

    def link(to: str, at: str) -> None:
        raise OSError(number, os.strerror(number), to, None, at)

    assert unwritable_folders(str(folder), None, tmp_path, on_card=False) == []
    [found] = unwritable_folders(str(folder), None, tmp_path, on_card=False, link=link)
    assert str(found).startswith(f"TMPDIR: the disk of {tempfile.gettempdir()} has no symbolic links")
    assert "uid" not in found.values


def test_what_killed_starts_have_left_of_copies_of_any_model_is_removed_and_counts_as_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [place_for(tmp_path, model, None).name for model in ("someone/else", "someone/at-work")]
    for name in (*names, "not-ours"):
        (tmp_path / f"{name}{UNFINISHED}").mkdir()
        (tmp_path / f"{name}{UNFINISHED}" / "model-00001.safetensors").write_bytes(bytes(1000))
    (tmp_path / f"{names[0]}.lock").touch()
    assert unfinished_bytes(tmp_path) == 2000
    assert disks_of("garments", tmp_path)[1].left_bytes >= 2000
    lock = tmp_path / f"{names[1]}.lock"
    lock.write_text("7\nan-older-container\n99\n")  # as on a disk without flock
    with FileLock(lock):
        remove_unfinished(tmp_path)
    assert "process 7 of the host or container an-older-container has held it for 0 min" in caplog.text
    assert f"rm {lock}" in caplog.text
    left = {place.name for place in tmp_path.iterdir() if place.is_dir()}
    assert left == {f"{names[1]}{UNFINISHED}", f"not-ours{UNFINISHED}"}
    assert not (tmp_path / f"{names[0]}.lock").exists()


@pytest.mark.parametrize("on_card", [True, False])
def test_a_disk_that_runs_no_code_is_named_by_the_setting_of_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_card: bool
) -> None:
    """As one that is mounted noexec: kernels would be built, and never be loaded."""

    def run(file: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "not/made/yet"))
    assert unwritable_folders("garments", None, None, on_card=on_card) == []
    found = unwritable_folders("garments", None, None, on_card=on_card, run=run)
    assert [trouble.values["setting"] for trouble in found] == ["TRITON_CACHE_DIR"] * on_card
    assert all("lets no code run (Operation not permitted)" in str(trouble) for trouble in found)
    assert list(tmp_path.iterdir()) == []
