"""What of a model lies in the cache of the hub on this machine, whoever has filled it. No network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from model_loader.checkpoint import INDEX_NAME
from model_loader.disks import downloaded_bytes
from model_loader.errors import DownloadFailed, ModelNotFound
from model_loader.hub import fetch_from_hub
from model_loader.hub_cache import (
    NEEDED,
    cached_bytes,
    cached_commit,
    cached_snapshot,
    check_locks,
    commit_bytes,
    half_bytes,
    is_downloaded_elsewhere,
    remove_halves,
)
from model_loader.locks import QUIET_S
from model_loader.sources import resolve
from model_loader.spellings import CACHE
from tests.limits import POLL_S, WAIT_S
from tests.model_loader.fake_hub import COMMIT, REPO
from tests.model_loader.fake_libraries import modelscope, raising


def test_halves_that_a_killed_download_left_are_removed_and_those_of_another_process_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hf/hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    blobs, locks = cache / "models--someone--tiny/blobs", cache / ".locks/models--someone--tiny"
    for folder in (blobs, locks):
        folder.mkdir(parents=True)
    left, at_work = blobs / "0a.12345678.incomplete", blobs / "0b.12345678.incomplete"
    for half in (left, at_work):
        half.write_bytes(b"half")
    assert half_bytes([REPO]) == 8
    with FileLock(locks / "0b.lock"):
        assert is_downloaded_elsewhere(REPO)
        remove_halves([REPO])
    assert not is_downloaded_elsewhere(REPO)
    assert not left.exists()
    assert at_work.read_bytes() == b"half"


@pytest.mark.parametrize(
    ("record", "quiet_s", "whole", "may_pass"),
    [
        ("7\nan-older-container\n99\n", 0, False, True),
        ("7\nan-older-container\n", 2 * QUIET_S, False, False),
        ("7\nan-older-container\n99\n", 2 * QUIET_S, True, None),  # nobody needs the lock of a file that is here
        (f"7\n{socket.gethostname()}\n99\n", 2 * QUIET_S, False, None),  # filelock sees that it is gone, or at work
        ("", 2 * QUIET_S, False, None),  # a disk with flock
        ("cut", 2 * QUIET_S, False, None),
    ],
)
def test_a_lock_that_another_host_has_left_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str, quiet_s: float, whole: bool, may_pass: bool | None
) -> None:
    cache = tmp_path / "hf/hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    blobs, lock = cache / "models--someone--tiny/blobs", cache / ".locks/models--someone--tiny/0b.lock"
    half = blobs / ("0b" if whole else "0b.12345678.incomplete")
    for file, text in ((lock, record), (half, "half")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    with FileLock(lock):
        for file in (lock, half):
            os.utime(file, (time.time() - quiet_s,) * 2)
        if may_pass is None:
            check_locks(REPO)
            return
        with pytest.raises(
            DownloadFailed, match=f"{lock} is locked: process 7 of .* an-older-container .* rm {lock}"
        ) as e:
            check_locks(REPO)
    assert e.value.may_pass is may_pass
    assert f"for {quiet_s / 60:.0f} min" in str(e.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of REPO, as huggingface_hub keeps it: two shards."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--someone--tiny"
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    files = {name: "{}" for name in (*NEEDED, "1.safetensors", "2.safetensors")} | {INDEX_NAME: json.dumps(index)}
    for name, text in {**{f"blobs/{name}": text for name, text in files.items()}, "refs/main": COMMIT}.items():
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(text)
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    for name in files:
        (cache / "snapshots" / COMMIT / name).symlink_to(cache / "blobs" / name)
    return cache


@pytest.mark.parametrize(
    ("lost", "revision", "told"),
    [
        ("blobs/2.safetensors", None, "only in part: 2.safetensors missing in "),
        (f"snapshots/{COMMIT}/{INDEX_NAME}", None, f"only in part: {INDEX_NAME} missing in "),
        (f"snapshots/{COMMIT}/config.json", None, "only in part: config.json missing in "),
        ("blobs", None, "which must be copied, too"),
        ("snapshots", None, "the cache has nothing of someone/tiny: copy the whole folder "),
        ("refs", "v1", f"at {COMMIT} but not at v1: name one of those in PRELABEL_MODEL_REVISION"),
        ("refs", "e" * 40, f"but not at {'e' * 40}"),
    ],
)
def test_a_cache_that_was_copied_in_part_is_refused_by_what_is_missing(
    cache: Path, lost: str, revision: str | None, told: str
) -> None:
    assert cached_snapshot(REPO, None) == cached_snapshot(REPO, COMMIT) == cache / "snapshots" / COMMIT
    shutil.rmtree(cache / lost) if (cache / lost).is_dir() else (cache / lost).unlink()
    with pytest.raises(ModelNotFound) as refused:
        cached_snapshot(REPO, revision)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "switch", "place"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE", "HF_HOME"),
        ({"TRANSFORMERS_OFFLINE": "1", "HF_HUB_CACHE": "/hub"}, "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "yes"}, "TRANSFORMERS_OFFLINE", "HF_HOME"),
        (
            {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HUGGINGFACE_HUB_CACHE": "/hub", "HF_HOME": "/hf"},
            "HF_HUB_OFFLINE",
            "HUGGINGFACE_HUB_CACHE",
        ),
    ],
    ids=str,
)
def test_offline_a_refusal_names_the_settings_that_somebody_has_set(
    cache: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], switch: str, place: str
) -> None:
    """The hub's library knows each by several names."""
    (cache / "blobs" / "2.safetensors").unlink()
    for name in CACHE:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelNotFound, match=f"^{switch} is set, and .*2.safetensors.* {place} names the cache.* without {switch} what"
    ):
        resolve(REPO)
    modelscope(monkeypatch, raising(ValueError("cannot be found in the cached path")))
    with pytest.raises(ModelNotFound, match=f"^{switch} is set, and ModelScope .*cached path. Without it"):
        resolve(f"modelscope:{REPO}")


def test_of_several_commits_without_refs_none_is_taken_unasked(cache: Path) -> None:
    (cache / "snapshots" / ("f" * 40)).mkdir()
    assert cached_commit(REPO) == COMMIT  # refs/main says so
    shutil.rmtree(cache / "refs")
    assert cached_commit(REPO) is None
    with pytest.raises(ModelNotFound, match="PRELABEL_MODEL_REVISION"):
        cached_snapshot(REPO, None)


def test_half_a_file_does_not_count_as_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    blobs = tmp_path / "models--someone--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / "0a").write_bytes(b"whole file")
    (blobs / "0b.12345678.incomplete").write_bytes(b"half")
    assert cached_bytes(REPO) == len(b"whole file")
    for commit, content in ((COMMIT, b"a file of a cache without links"), ("f" * 40, b"less")):
        snapshot = blobs.parent / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "0a").write_bytes(content)
    assert cached_bytes(REPO) == len(b"a file of a cache without links")


@pytest.mark.parametrize(
    ("revision", "refs", "have"),
    [
        (COMMIT, [], 5),
        ("a" * 40, [], 0),
        (None, ["main"], 5),
        (None, [], 0),  # the hub says which is the newest
        ("main", ["main"], 5),
        ("v2", ["main"], 0),
    ],
)
def test_only_what_was_downloaded_of_the_commit_that_is_taken_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None, refs: list[str], have: int
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--someone--tiny"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}", f"snapshots/{'f' * 40}"):
        (repo / folder).mkdir(parents=True)
    for commit, content in ((COMMIT, b"whole"), ("f" * 40, b"another commit")):
        (repo / "blobs" / content.decode()).write_bytes(content)
        (repo / "snapshots" / commit / "a file").symlink_to(repo / "blobs" / content.decode())
    for name in refs:
        (repo / "refs" / name).write_text(COMMIT)
    assert commit_bytes(REPO, revision) == have


@pytest.mark.parametrize("folder", ["models/a/b___5", "hub/models/a/b___5", "models--a--b.5/blobs", "a/b.5"])
def test_what_has_come_of_modelscope_counts_however_its_cache_is_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    for name in (folder, folder.replace("b", "other")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"whole")
    assert downloaded_bytes("modelscope:a/b.5") == 5
    assert downloaded_bytes("modelscope:a/b") == 0


def test_a_lock_that_another_host_leaves_while_this_one_downloads_is_told_and_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    lock, is_over, looks = tmp_path / ".locks/models--someone--tiny/0b.lock", threading.Event(), []
    lock.parent.mkdir(parents=True)

    def snapshot_download(repo: str, *, dry_run: bool = False, tqdm_class: Any = None, **options: Any) -> Any:
        if dry_run:
            return [SimpleNamespace(file_size=8, will_download=True)]
        if tqdm_class is not None:
            bar = tqdm_class(unit="B")
            bar.update(4)
            lock.write_text("7\nan-older-container\n")
            is_over.wait(WAIT_S)  # as who waits for a lock
        return str(tmp_path / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with FileLock(lock), pytest.raises(DownloadFailed, match="an-older-container has held it") as raised:
        fetch_from_hub(
            REPO, None, inspect=lambda folder: None, on_fraction=lambda missing: looks.append, silence_s=POLL_S
        )
    is_over.set()
    assert looks == [0.5]
    assert raised.value.may_pass
