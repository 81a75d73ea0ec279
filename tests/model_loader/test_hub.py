"""Real downloads by huggingface_hub from a hub on this machine, through HF_ENDPOINT."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from huggingface_hub.errors import LocalEntryNotFoundError

from model_loader.checkpoint import SINGLE_NAME, read_checkpoint
from model_loader.errors import (
    DownloadFailed,
    MachineUnfit,
    ModelError,
    ModelFilesInvalid,
    UnsafeModelFiles,
    UnsupportedModel,
)
from model_loader.sources import resolve
from model_loader.spellings import TOKEN
from tests.limits import RUN_S
from tests.model_loader.checkpoints import rewrite_json
from tests.model_loader.fake_hub import COMMIT, EXPIRED, REPO, FakeHub, serve
from tests.model_loader.fake_libraries import NotAllFiles, modelscope, raising

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
    (Path(first["folder"]) / "tokenizer.json").unlink()
    refused = resolve_in_child(revision="v1", HF_HUB_OFFLINE="1")
    assert refused["error"] == "ModelNotFound"
    assert refused["text"].startswith(
        "HF_HUB_OFFLINE is set, and the cache has someone/tiny only in part: tokenizer.json"
    )


def test_a_download_does_not_begin_behind_such_a_lock(resolve_in_child: Resolve, tmp_path: Path) -> None:
    lock = tmp_path / "hf/hub/.locks/models--someone--tiny/0b.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("7\nan-older-container\n")
    with FileLock(lock):
        refused = resolve_in_child()
    assert refused["error"] == "DownloadFailed"
    assert "an-older-container" in refused["text"]


LONG = pytest.mark.soak
"""The hub's library tries again for 20 s."""


@pytest.mark.parametrize(
    ("network", "trouble"),
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, "", id="offline"),
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, "", id="unreachable", marks=LONG),
        pytest.param({}, "login page", id="something else answers"),
        pytest.param({}, "cut", id="nobody answers", marks=LONG),
    ],
)
def test_a_whole_cache_that_was_copied_without_what_the_hub_notes_beside_it_serves(
    hub: FakeHub, resolve_in_child: Resolve, tmp_path: Path, network: dict[str, str], trouble: str
) -> None:
    first = resolve_in_child()
    for name in ("refs", "trees"):
        shutil.rmtree(tmp_path / "hf/hub/models--someone--tiny" / name)
    hub.trouble = trouble
    assert resolve_in_child(**network) == first | {"fractions": []}


@pytest.mark.parametrize(
    ("trouble", "told"), [("login page", "perhaps a network's login page"), ("cut", "disconnected without sending")]
)
def test_where_something_else_answers_for_the_hub_it_is_said(
    hub: FakeHub, resolve_in_child: Resolve, trouble: str, told: str
) -> None:
    hub.trouble = trouble
    refused = resolve_in_child()
    assert refused["error"] == "DownloadFailed"
    assert f"could not be reached for {REPO} (" in refused["text"]
    assert told in refused["text"]


@pytest.mark.parametrize("name", TOKEN)
def test_a_token_that_no_header_can_hold_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a placeholder that was left in an env file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv(name, "你的令牌")
    with pytest.raises(DownloadFailed, match=rf"a token is of ASCII alone; correct {name}, or unset it"):
        resolve(REPO)


def test_a_model_stays_at_the_commit_of_its_first_download(hub: FakeHub, resolve_in_child: Resolve) -> None:
    first = resolve_in_child()
    hub.commit = "f" * 40
    assert resolve_in_child() == first | {"fractions": []}
    assert resolve_in_child(revision="main")["commit"] == "f" * 40


@pytest.mark.parametrize(
    ("file", "change", "error", "text"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling_evil.Evil"}}, UnsafeModelFiles, "auto_map"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, UnsupportedModel, "already (fp8)"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, ModelFilesInvalid, "normalizer is Lowercase"),
        ("tokenizer.json", {"added_tokens": []}, ModelFilesInvalid, "it has no <|im_start|>, <|im_end|>, <|vision_"),
        ("config.json", {"image_token_id": 7}, ModelFilesInvalid, "<|image_pad|> as token 500, and config.json"),
        ("tokenizer.json", None, ModelFilesInvalid, "has no tokenizer.json"),
        ("preprocessor_config.json", {"patch_size": 14}, ModelFilesInvalid, "patch_size 14 and config.json"),
        ("preprocessor_config.json", None, ModelFilesInvalid, "has no preprocessor_config.json"),
    ],
)
def test_what_small_files_say_is_refused_before_the_weights_are_fetched(
    hub: FakeHub,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    change: dict[str, Any] | None,
    error: type[ModelError],
    text: str,
) -> None:
    if change is None:
        del hub.files[file]
    else:
        rewrite_json(folder / file, **change)
        hub.files[file] = (folder / file).read_bytes()
    for name, value in (
        ("ENDPOINT", hub.url),
        ("HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"),
        ("HF_HUB_CACHE", str(tmp_path / "hub")),
    ):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    with pytest.raises(error, match=re.escape(text)):
        resolve(REPO)
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
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    error = LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub.")
    error.__cause__ = ConnectionError(
        f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why} (_ssl.c:1006)"
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", raising(error))
    with pytest.raises(DownloadFailed, match=rf"{why}.* clock right\? It says 20.* set SSL_CERT_FILE"):
        resolve("a/b")
