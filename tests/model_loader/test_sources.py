"""Names people write for a model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model_loader import sources
from model_loader.errors import ModelNotFound
from model_loader.geometry import COMMITS, DEFAULT_MODEL
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


def test_the_chosen_models_alone_come_with_their_commit() -> None:
    for model in COMMITS:
        assert re.fullmatch("[0-9a-f]{40}", pinned_commit(model) or "")
        assert pinned_commit(model.lower()) == pinned_commit(model)
    assert len(set(COMMITS.values())) == len(COMMITS)
    assert pinned_commit("someone/tiny") is None


def test_config_is_found_without_network(folder: Path) -> None:
    assert find_config("auto") == find_config(DEFAULT_MODEL)
    assert all(find_config(model) == find_config(f"modelscope:{model}") for model in COMMITS)
    assert find_config(str(folder))["model_type"] == "qwen3_vl_moe"
    with pytest.raises(ModelNotFound, match="not on this machine"):
        find_config("someone/never-downloaded")
