"""Real downloads by huggingface_hub from a hub on this machine, through HF_ENDPOINT."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from huggingface_hub.errors import LocalEntryNotFoundError

from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME, read_checkpoint
from model_loader.disks import downloaded_bytes
from model_loader.errors import DownloadFailed, MachineUnfit, ModelError, ModelNotFound
from model_loader.geometry import DEFAULT_MODEL, shipped_config
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
from tests.limits import RUN_S
from tests.model_loader.checkpoints import IMAGE_TOKEN, rewrite_json
from tests.model_loader.fake_hub import COMMIT, EXPIRED, REPO, FakeHub, serve

Resolve = Callable[..., dict[str, Any]]


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    with serve(folder) as fake:
        yield fake


@pytest.fixture
def resolve_in_child(hub: FakeHub, tmp_path: Path) -> Resolve:
    def run(source: str = REPO, revision: str | None = None, **environment: str) -> dict[str, Any]:
        variables = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), **environment}
        command = [sys.executable, "-m", "tests.model_loader.hub_child", source, *([revision] if revision else [])]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=RUN_S, check=True)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    return run


def test_download_fetches_only_what_loading_needs_and_reports_bytes(hub: FakeHub, resolve_in_child: Resolve) -> None:
    result = resolve_in_child()
    assert result["commit"] == COMMIT
    assert read_checkpoint(Path(result["folder"])).config["model_type"] == "qwen3_vl_moe"
    assert result["model_type"] == "qwen3_vl_moe"
    assert SINGLE_NAME in hub.sent
    assert not {"pytorch_model.bin", "modeling_evil.py"} & set(hub.sent)
    assert result["fractions"] == sorted(result["fractions"])
    assert result["fractions"][-1] == pytest.approx(1.0)


def test_second_start_downloads_nothing_and_works_offline(hub: FakeHub, resolve_in_child: Resolve) -> None:
    first = resolve_in_child(revision="v1")
    hub.sent.clear()
    assert resolve_in_child(revision="v1") == first | {"fractions": []}
    assert resolve_in_child(revision="v1", HF_HUB_OFFLINE="1") == first | {"fractions": []}
    assert hub.sent == []


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


def test_a_download_does_not_begin_behind_such_a_lock(resolve_in_child: Resolve, tmp_path: Path) -> None:
    lock = tmp_path / "hf/hub/.locks/models--someone--tiny/0b.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("7\nan-older-container\n")
    with FileLock(lock):
        refused = resolve_in_child()
    assert refused["error"] == "DownloadFailed"
    assert "an-older-container" in refused["text"]


@pytest.mark.parametrize(
    "network",
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="offline"),
        # the hub's library tries for 20 s
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, id="unreachable", marks=pytest.mark.soak),
    ],
)
def test_a_whole_cache_that_was_copied_without_what_the_hub_notes_beside_it_serves(
    resolve_in_child: Resolve, tmp_path: Path, network: dict[str, str]
) -> None:
    first = resolve_in_child()
    for name in ("refs", "trees"):
        shutil.rmtree(tmp_path / "hf/hub/models--someone--tiny" / name)
    assert resolve_in_child(**network) == first | {"fractions": []}
    (Path(first["folder"]) / "tokenizer.json").unlink()
    refused = resolve_in_child(HF_HUB_OFFLINE="1")
    assert refused["error"] == "ModelNotFound"
    assert refused["text"].startswith(
        "HF_HUB_OFFLINE is set, and the cache has someone/tiny only in part: tokenizer.json"
    )


@pytest.mark.parametrize(
    ("trouble", "told"), [("login page", "perhaps a network's login page"), ("cut", "disconnected without sending")]
)
def test_where_something_else_answers_for_the_hub_a_whole_cache_serves_and_else_it_is_said(
    hub: FakeHub, resolve_in_child: Resolve, tmp_path: Path, trouble: str, told: str
) -> None:
    hub.trouble = trouble
    refused = resolve_in_child()
    assert refused["error"] == "DownloadFailed"
    assert f"could not be reached for {REPO} (" in refused["text"]
    assert told in refused["text"]
    hub.trouble = ""
    first = resolve_in_child()
    for name in ("refs", "trees"):  # as of a cache that was copied
        shutil.rmtree(tmp_path / "hf/hub/models--someone--tiny" / name)
    hub.trouble = trouble
    assert resolve_in_child() == first | {"fractions": []}


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


def test_a_token_that_no_header_can_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a placeholder that was left in the file of HF_HOME."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "你的令牌")
    with pytest.raises(DownloadFailed, match=r"a token is of ASCII alone; correct HF_TOKEN, or unset it"):
        resolve(REPO)


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


def test_a_model_stays_at_the_commit_of_its_first_download(hub: FakeHub, resolve_in_child: Resolve) -> None:
    first = resolve_in_child()
    hub.commit = "f" * 40
    assert resolve_in_child() == first | {"fractions": []}
    assert resolve_in_child(revision="main")["commit"] == "f" * 40


@pytest.mark.parametrize(
    ("file", "change", "error", "text"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling_evil.Evil"}}, "UnsafeModelFiles", "auto_map"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, "UnsupportedModel", "already (fp8)"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "ModelFilesInvalid", "normalizer is Lowercase"),
        ("tokenizer.json", {"added_tokens": []}, "ModelFilesInvalid", "it has no <|im_start|>, <|im_end|>, <|vision_"),
        ("config.json", {"image_token_id": 7}, "ModelFilesInvalid", "<|image_pad|> as token 500, and config.json"),
        ("tokenizer.json", None, "ModelFilesInvalid", "has no tokenizer.json"),
        ("preprocessor_config.json", {"patch_size": 14}, "ModelFilesInvalid", "patch_size 14 and config.json"),
        ("preprocessor_config.json", None, "ModelFilesInvalid", "has no preprocessor_config.json"),
    ],
)
def test_what_small_files_say_is_refused_before_the_weights_are_fetched(
    hub: FakeHub,
    folder: Path,
    resolve_in_child: Resolve,
    file: str,
    change: dict[str, Any] | None,
    error: str,
    text: str,
) -> None:
    if change is None:
        del hub.files[file]
    else:
        rewrite_json(folder / file, **change)
        hub.files[file] = (folder / file).read_bytes()
    refused = resolve_in_child()
    assert (refused["error"], text in refused["text"]) == (error, True)
    assert SINGLE_NAME not in hub.sent


@pytest.mark.parametrize(
    ("source", "revision", "environment", "error", "text"),
    [
        pytest.param("someone/else", None, {}, "ModelNotFound", "no model someone/else", id="no such model"),
        pytest.param(REPO, "v9", {}, "ModelNotFound", "no revision 'v9'", id="no such revision"),
        pytest.param(REPO, None, {"HF_HUB_OFFLINE": "1"}, "ModelNotFound", "HF_HUB_OFFLINE is set", id="offline"),
        pytest.param(
            REPO, None, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "DownloadFailed", "set HF_ENDPOINT", id="no hub there"
        ),
        pytest.param(
            REPO,
            None,
            {"HF_TOKEN": EXPIRED},
            "DownloadFailed",
            "refuses the token: correct HF_TOKEN",
            id="expired token",
        ),
        pytest.param(
            REPO,
            None,
            {"HF_ENDPOINT": "mirror.example"},
            "DownloadFailed",
            "HF_ENDPOINT (each begins with http:// or",
            id="a mirror without http",
        ),
    ],
)
def test_what_cannot_be_fetched_says_what_to_do(
    resolve_in_child: Resolve, source: str, revision: str | None, environment: dict[str, str], error: str, text: str
) -> None:
    result = resolve_in_child(source, revision, **{"HF_TOKEN": "hf_averysecrettoken", **environment})
    assert result["error"] == error
    assert text in result["text"]
    assert "hf_avery" not in result["text"]


@pytest.fixture
def shard(folder: Path) -> bytes:
    """The weights, which are not downloaded yet."""
    content = (folder / SINGLE_NAME).read_bytes()
    (folder / SINGLE_NAME).unlink()
    return content


def modelscope(monkeypatch: pytest.MonkeyPatch, snapshot_download: Callable[..., str]) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", SimpleNamespace(snapshot_download=snapshot_download))


def test_modelscope_is_asked_for_the_same_files_and_reports_bytes(
    folder: Path, shard: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    fractions: list[float] = []
    sizes: list[int] = []

    def snapshot_download(progress_callbacks: Iterable[Callable[[str, int], Any]] = (), **options: Any) -> str:
        asked.append(options)
        for make in progress_callbacks:
            counter = make(SINGLE_NAME, len(shard))
            for start in range(0, len(shard), 2**16):
                counter.update(len(shard[start : start + 2**16]))
            counter.end()
        return str(folder)

    def on_fraction(num_bytes: int) -> Callable[[float], None]:
        sizes.append(num_bytes)
        return fractions.append

    modelscope(monkeypatch, snapshot_download)
    resolved = resolve("modelscope:Qwen/Some-Model", revision="master", on_fraction=on_fraction)
    assert (resolved.name, resolved.folder) == ("Qwen/Some-Model", folder)
    assert [call["model_id"] for call in asked] == ["Qwen/Some-Model"] * 2
    assert "*.safetensors" not in asked[0]["allow_patterns"]
    assert "*.safetensors" in asked[1]["allow_patterns"]
    assert all("*.py" not in call["allow_patterns"] for call in asked)
    [num_bytes] = sizes
    assert num_bytes > 0
    assert len(fractions) > 2
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(len(shard) / num_bytes)


def test_modelscope_downloads_nothing_where_that_is_forbidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    modelscope(monkeypatch, lambda **options: (asked.append(options), str(folder))[1])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve("modelscope:a/b").folder == folder
    assert [call.get("local_files_only") for call in asked] == [True]


@pytest.mark.usefixtures("shard")
def test_modelscope_is_not_asked_for_weights_that_the_disk_has_no_room_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    config = shipped_config(DEFAULT_MODEL)
    assert config is not None
    vast = {
        **config,
        "image_token_id": IMAGE_TOKEN,
        "text_config": {**config["text_config"], "num_hidden_layers": 500, "num_experts": 10**5},
    }
    (folder / "config.json").write_text(json.dumps(vast))
    rewrite_json(folder / "preprocessor_config.json", patch_size=16)
    modelscope(monkeypatch, lambda **options: (asked.append(options), str(folder))[1])
    with pytest.raises(DownloadFailed, match=r"has room for .* set MODELSCOPE_CACHE to a larger disk"):
        resolve("modelscope:a/b")
    assert len(asked) == 1


class NotAllFiles(Exception):
    """As modelscope has it: its text only counts them."""

    def __init__(self) -> None:
        super().__init__("1 of 9 file(s) failed to download from a/b@master")
        self.failed_files = {SINGLE_NAME: OSError(28, "No space left on device")}


def raising(error: Exception) -> Callable[..., str]:
    def snapshot_download(*repo: str, **options: Any) -> str:
        raise error

    return snapshot_download


def test_modelscope_failure_is_a_download_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    modelscope(monkeypatch, raising(RuntimeError("403\nforbidden")))
    with pytest.raises(DownloadFailed, match="ModelScope did not deliver a/b: 403 forbidden"):
        resolve("modelscope:a/b")


@pytest.mark.parametrize(
    ("source", "error", "told"),
    [
        ("a/b", OSError(28, "No space left on device"), "^the disk is full .*No space left.*HF_HOME, MODELSCOPE_CACHE"),
        ("a/b", OSError(122, "Disk quota exceeded", "/cache/a.incomplete"), "^the disk is full .*/cache/a.incomplete"),
        ("a/b", OSError(5, "Input/output error"), "^the disk that holds the model .*look into `dmesg`"),
        (
            "a/b",
            OSError(30, "Read-only file system", "/cache/a"),
            "^the disk that holds the model .*Read-only file system",
        ),
        ("a/b", OSError(27, "File too large"), "^the disk that holds the model .*File too large.*another disk"),
        ("a/b", OSError(37, "No locks available", "/cache/.locks/a"), "^the disk that holds the model .*No locks"),
        (
            "a/b",
            PermissionError(13, "Permission denied", "/cache/.locks/a"),
            "^a file may not be opened .*/cache/.locks/a",
        ),
        ("modelscope:a/b", OSError(28, "No space left on device"), "^the disk is full .*HF_HOME, MODELSCOPE_CACHE"),
        ("modelscope:a/b", NotAllFiles(), "^the disk is full .*No space left"),
    ],
    ids=str,
)
def test_a_disk_that_fails_during_a_download_is_not_blamed_on_the_network(
    source: str, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", raising(error))
    modelscope(monkeypatch, raising(error))
    with pytest.raises(MachineUnfit, match=told) as raised:
        resolve(source)
    assert "mirror" not in str(raised.value)


def test_what_a_hub_far_away_says_in_words_of_the_system_is_not_blamed_on_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", raising(OSError("403 Forbidden: Permission denied")))
    with pytest.raises(DownloadFailed, match="mirror"):
        resolve("a/b")


@pytest.mark.parametrize("why", ["certificate is not yet valid", "self-signed certificate in certificate chain"])
def test_a_certificate_that_is_not_trusted_asks_for_the_clock_and_names_the_setting_for_ones_own(
    why: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub.")
    error.__cause__ = ConnectionError(
        f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why} (_ssl.c:1006)"
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", raising(error))
    with pytest.raises(DownloadFailed, match=rf"{why}.* clock right\? It says 20.* set SSL_CERT_FILE"):
        resolve("a/b")


def test_modelscope_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(ModelError, match="optional package modelscope"):
        resolve("modelscope:a/b")
