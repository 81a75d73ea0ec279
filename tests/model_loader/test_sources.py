"""Names people write for a model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model_loader import sources
from model_loader.errors import ModelNotFound
from model_loader.geometry import DEFAULT_MODEL
from model_loader.sources import find_config, local_folder, pinned_commit, resolve


def test_folder_is_taken_as_it_is(folder: Path) -> None:
    resolved = resolve(str(folder), revision="ignored")
    assert (resolved.name, resolved.folder, resolved.commit) == ("tiny", folder, "")


def test_garments_is_the_checkpoint_inside_the_package() -> None:
    assert local_folder("garments") == sources.GARMENTS_CHECKPOINT
    assert sources.GARMENTS_CHECKPOINT.parts[-3:] == ("model_loader", "garments", "checkpoint")


@pytest.mark.parametrize("source", ["Qwen/Qwen3-VL-30B-A3B-Instruct", "modelscope:Qwen/Qwen3-VL-30B-A3B-Instruct"])
def test_hub_ids_are_no_folders(source: str) -> None:
    assert local_folder(source) is None


@pytest.mark.parametrize(
    "source",
    [
        "",
        "qwen",
        "/no/such/folder",
        "../elsewhere",
        "a/b/c",
        "https://example.com/model",
        "modelscope:nothing",
        "./x/y",
    ],
)
def test_what_is_neither_folder_nor_id_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"owner/name"):
        local_folder(source)


def test_the_default_model_alone_comes_with_its_commit() -> None:
    assert re.fullmatch("[0-9a-f]{40}", pinned_commit(DEFAULT_MODEL) or "")
    assert pinned_commit(DEFAULT_MODEL.lower()) == pinned_commit(DEFAULT_MODEL)
    assert pinned_commit("someone/tiny") is None


def test_config_is_found_without_network(folder: Path) -> None:
    assert find_config("auto") == find_config(DEFAULT_MODEL) == find_config("modelscope:" + DEFAULT_MODEL)
    assert find_config(str(folder))["model_type"] == "qwen3_vl_moe"
    with pytest.raises(ModelNotFound, match="not on this machine"):
        find_config("someone/never-downloaded")
