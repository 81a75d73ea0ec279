"""What is wrong with a checkpoint folder is found before a tensor is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME, read_checkpoint, weights_id
from model_loader.clean import checkpoint_id
from model_loader.errors import ModelError, ModelFilesInvalid, ModelNotFound, UnsafeModelFiles
from tests.model_loader.checkpoints import rewrite_json, write_checkpoint


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", shards=3)


def test_whole_checkpoint_tells_its_tensors(sharded: Path) -> None:
    checkpoint = read_checkpoint(sharded)
    assert len(checkpoint.shards) == 3
    entry = checkpoint.tensors["model.language_model.layers.0.mlp.experts.gate_up_proj"]
    assert (entry.dtype, entry.shape, entry.size_bytes) == ("BF16", (7, 256, 192), 7 * 256 * 192 * 2)
    assert checkpoint.size_bytes == sum(entry.size_bytes for entry in checkpoint.tensors.values())


def test_missing_shards_are_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelFilesInvalid, match=r"1 of 3 shards are missing: model-00002-of-00003.safetensors"):
        read_checkpoint(sharded)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_in_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def huge_header(file: Path) -> None:
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def not_json(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8:12] = b"!!!!"
    file.write_bytes(bytes(content))


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5000000000\n")


@pytest.mark.parametrize("damage", [cut, grow, empty, cut_in_header, huge_header, not_json, pointer])
def test_damaged_shard_is_named(sharded: Path, damage: Callable[[Path], None]) -> None:
    damage(sharded / "model-00003-of-00003.safetensors")
    with pytest.raises(ModelFilesInvalid, match=r"model-00003-of-00003.safetensors .*download it again"):
        read_checkpoint(sharded)


def test_tensor_of_the_index_that_no_shard_holds_is_named(sharded: Path) -> None:
    index = json.loads((sharded / INDEX_NAME).read_text())
    index["weight_map"]["ghost.weight"] = "model-00001-of-00003.safetensors"
    (sharded / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ModelFilesInvalid, match=r"no shard holds: ghost.weight"):
        read_checkpoint(sharded)


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": {"a": "b.safetensors"}}, {"metadata": {}, "weight_map": {}}],
    ids=["empty", "no metadata", "no tensors"],
)
def test_index_without_its_parts_is_refused(sharded: Path, index: dict[str, object]) -> None:
    (sharded / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ModelFilesInvalid, match="has no"):
        read_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "weights.bin"])
def test_index_that_leaves_the_folder_is_refused(sharded: Path, name: str) -> None:
    (sharded / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": name}}))
    with pytest.raises(UnsafeModelFiles, match=r"no \.safetensors of this folder"):
        read_checkpoint(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "w.pkl"])
def test_pickled_weights_only_are_refused(folder: Path, name: str) -> None:
    (folder / SINGLE_NAME).unlink()
    torch.save({}, folder / name)
    with pytest.raises(UnsafeModelFiles, match=f"pickled weights only .{name}"):
        read_checkpoint(folder)


def test_pickle_beside_safetensors_is_never_looked_at(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert read_checkpoint(folder).shards == (folder / SINGLE_NAME,)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_remote_code_is_refused(folder: Path, file: str) -> None:
    rewrite_json(folder / file, nested=[{"auto_map": {"AutoModel": "modeling_evil.Evil"}}])
    with pytest.raises(UnsafeModelFiles, match=f"{file} has auto_map"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "not a JSON object"), ("[" * 200_000, "nested deeper than 32 levels")],
    ids=["cut short", "a list", "nested too deep"],
)
def test_malformed_config_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelFilesInvalid, match=message):
        read_checkpoint(folder)


def test_folder_without_config_or_weights_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / SINGLE_NAME).rename(folder / "other.safetensors")
    with pytest.raises(ModelFilesInvalid, match=r"found other.safetensors but no model.safetensors.index.json"):
        read_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"no config.json"):
        read_checkpoint(folder)
    with pytest.raises(ModelNotFound, match="there is no folder"):
        read_checkpoint(tmp_path / "nowhere")


def test_every_error_is_one_line_of_one_family() -> None:
    family = ModelError.__subclasses__()
    assert {kind.__name__ for kind in family} >= {"ModelNotFound", "ModelFilesInvalid", "ModelTooLarge"}
    assert issubclass(UnsafeModelFiles, ModelFilesInvalid)


def test_weights_are_told_apart_by_content_and_not_by_place(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((8,), value)}, tmp_path / name / "model.safetensors")
    one, same, other = (weights_id([tmp_path / name / "model.safetensors"]) for name in "abc")
    assert one == same != other


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer.json", {"added_tokens": []}),
        ("tokenizer_config.json", {"eos_token": "<|im_start|>"}),
        ("preprocessor_config.json", {"image_mean": [0.4, 0.4, 0.4]}),
        ("config.json", {"text_config": {"rms_norm_eps": 0.5}}),
    ],
)
def test_a_corrected_file_beside_the_same_weights_is_another_checkpoint(
    folder: Path, file: str, changes: dict[str, Any]
) -> None:
    """What is answered from then on must not stand under the model version of what was answered before."""
    checkpoint = read_checkpoint(folder)
    before = checkpoint_id(checkpoint)
    assert checkpoint_id(replace(checkpoint, config={**checkpoint.config, "transformers_version": "9"})) == before
    if file == "config.json":
        assert checkpoint_id(replace(checkpoint, config={**checkpoint.config, **changes})) != before
        return
    rewrite_json(folder / file, **changes)
    assert checkpoint_id(checkpoint) != before
