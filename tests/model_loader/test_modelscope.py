"""Downloads through the optional package modelscope, with a fake of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from model_loader.checkpoint import SINGLE_NAME
from model_loader.errors import DownloadFailed, ModelError
from model_loader.geometry import DEFAULT_MODEL, shipped_config
from model_loader.sources import resolve
from tests.model_loader.checkpoints import IMAGE_TOKEN, rewrite_json
from tests.model_loader.fake_libraries import modelscope, raising


@pytest.fixture
def shard(folder: Path) -> bytes:
    """The weights, which are not downloaded yet."""
    content = (folder / SINGLE_NAME).read_bytes()
    (folder / SINGLE_NAME).unlink()
    return content


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


def test_modelscope_failure_is_a_download_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    modelscope(monkeypatch, raising(RuntimeError("403\nforbidden")))
    with pytest.raises(DownloadFailed, match="ModelScope did not deliver a/b: 403 forbidden"):
        resolve("modelscope:a/b")


def test_modelscope_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(ModelError, match="optional package modelscope"):
        resolve("modelscope:a/b")
