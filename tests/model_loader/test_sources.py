"""Names people write for a model, and which model `auto` becomes."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model_loader import sources
from model_loader.errors import ModelNotFound
from model_loader.geometry import DEFAULT_MODEL
from model_loader.sources import choose_model, find_card, find_config, local_folder, pinned_commit, resolve


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


def test_named_model_is_taken_as_asked() -> None:
    assert choose_model("garments") == ("garments", "as asked")


def put_card_in(monkeypatch: pytest.MonkeyPatch, memory_gib: float, taken_gib: float = 0.0) -> None:
    """Let torch say that this machine has a card, of which other programs hold `taken_gib`."""
    free_bytes = int((memory_gib - 0.5 - taken_gib) * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, int(memory_gib * 2**30)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    card = SimpleNamespace(name="Some Card", total_memory=int(memory_gib * 2**30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)


def test_a_card_that_is_full_to_the_brim_has_nothing_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(device: object) -> None:
        raise torch.AcceleratorError("CUDA error: out of memory")

    put_card_in(monkeypatch, 23.6)
    monkeypatch.setattr(torch.cuda, "mem_get_info", no_room)
    card = find_card()
    assert card is not None
    assert (card.name, card.free_gib) == ("Some Card", 0.0)


def test_auto_without_a_card_is_the_built_in_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, reason = choose_model("auto")
    assert model == "garments"
    assert "no CUDA card" in reason


def test_auto_on_a_cpu_that_was_asked_for_is_the_built_in_model(monkeypatch: pytest.MonkeyPatch) -> None:
    put_card_in(monkeypatch, 80.0)
    assert choose_model("auto", device="cpu")[0] == "garments"


@pytest.mark.parametrize(
    ("memory_gib", "taken_gib", "vram_gib", "model", "reason"),
    [
        pytest.param(23.6, 0, None, DEFAULT_MODEL, "Some Card with 23.6 GiB holds it", id="a 24 GB card"),
        pytest.param(15.8, 0, None, "garments", "19.1 GiB are needed, and 15.8 GiB are there", id="a 16 GB card"),
        pytest.param(80.0, 0, 12.0, "garments", "12.0 GiB are there", id="a large card with a small share"),
        pytest.param(23.6, 0, 80.0, DEFAULT_MODEL, "with 23.6 GiB", id="a share larger than the card"),
        pytest.param(23.6, 9.0, None, DEFAULT_MODEL, "23.6 GiB holds it", id="a card in use: loading says by whom"),
    ],
)
def test_auto_follows_the_memory_plan(
    monkeypatch: pytest.MonkeyPatch,
    memory_gib: float,
    taken_gib: float,
    vram_gib: float | None,
    model: str,
    reason: str,
) -> None:
    put_card_in(monkeypatch, memory_gib, taken_gib)
    chosen, why = choose_model("auto", vram_gib=vram_gib)
    assert chosen == model
    assert reason in why
