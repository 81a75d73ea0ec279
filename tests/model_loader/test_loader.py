"""`load_model` from a folder: what it returns, what it reports, and what it saves and reuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image
from transformers import AutoModelForImageTextToText

from model_loader.checkpoint import SINGLE_NAME, read_checkpoint
from model_loader.contents import NAME, note_contents
from model_loader.errors import MachineUnfit, ModelFilesInvalid, ModelNotFound, UnsupportedModel
from model_loader.geometry import ARCHITECTURES, COMMITS
from model_loader.loader import LoadedModel, load_model
from model_loader.patch_embed import LinearPatchEmbed
from model_loader.saved import MANIFEST, UNFINISHED, find_saved, place_for, save
from model_loader.sources import Resolved
from tests.limits import WAIT_S, until
from tests.model_loader.checkpoints import (
    UNREADABLE,
    both_kinds,
    dense_only,
    image_inputs,
    rewrite_json,
    rewrite_tensors,
)


def load(source: Path, **options: Any) -> LoadedModel:
    return load_model(str(source), device="cpu", **options)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**image_inputs(2)).logits
    return result


def stages_of(events: list[tuple[str, float]]) -> list[str]:
    return list(dict.fromkeys(stage for stage, _ in events))


@both_kinds
def test_loaded_model_is_ready_to_answer(folder: Path) -> None:
    events: list[tuple[str, float]] = []
    loaded = load(folder, on_progress=lambda stage, fraction, pace: events.append((stage, fraction)))
    assert (loaded.name, loaded.quantisation, loaded.device, loaded.dtype) == ("tiny", "nf4", "cpu", torch.float32)
    assert loaded.load_s > 0
    assert not loaded.model.training
    assert not any(value.requires_grad for value in loaded.model.parameters())
    assert torch.isfinite(logits(loaded.model)).all()
    fractions = [fraction for _, fraction in events]
    assert fractions == sorted(fractions)
    assert events[-1] == ("ready", 1.0)
    assert stages_of(events) == ["folders", "resolve", "check", "quantise", "ready"]
    assert sum(stage == "quantise" for stage, _ in events) > 5


def test_tokenizer_and_image_processor_are_those_of_the_checkpoint(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.tokenizer.decode(loaded.tokenizer("连衣裙 dress")["input_ids"]) == "连衣裙 dress"
    features = loaded.image_processor(images=[Image.new("RGB", (64, 48), "red")], return_tensors="pt")
    assert features["image_grid_thw"].tolist() == [[1, 6, 8]]
    assert features["pixel_values"].shape == (48, 3 * 2 * 8 * 8)


@both_kinds
def test_sixteen_bit_model_answers_as_transformers_own(folder: Path) -> None:
    loaded = load(folder, quantisation="none")
    original = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert loaded.quantisation == "none"
    assert isinstance(loaded.model.model.visual.patch_embed, LinearPatchEmbed)
    assert not isinstance(original.model.visual.patch_embed, LinearPatchEmbed)
    torch.testing.assert_close(logits(loaded.model), logits(original), rtol=1e-4, atol=1e-5)


@both_kinds
def test_saved_checkpoint_is_used_the_next_time_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    parent = tmp_path / "quantised"
    place_for(parent, "another/model", None).with_suffix(UNFINISHED).mkdir(parents=True)  # of a start that was killed
    first = load(folder, save_quantised_to=parent)
    before = logits(first.model)
    (saved,) = parent.iterdir()
    assert json.loads((saved / MANIFEST).read_text())["name"] == "tiny"
    (folder / SINGLE_NAME).unlink()  # the 16-bit weights are not needed any more
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    events: list[tuple[str, float]] = []
    second = load(folder, save_quantised_to=parent, on_progress=lambda *event: events.append(event[:2]))
    assert stages_of(events) == ["folders", "resolve", "check", "load_copy", "ready"]
    assert second.name == "tiny"
    assert second.weights_id == first.weights_id != ""
    assert torch.equal(logits(second.model), before)
    assert second.tokenizer("x")["input_ids"] == first.tokenizer("x")["input_ids"]


@both_kinds
def test_a_copy_is_written_and_read_in_shards(folder: Path, tmp_path: Path) -> None:
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    save(first.model, original, Resolved("tiny", folder), place, str(folder), shard_bytes=400_000)
    shards = list(place.glob("*.safetensors"))
    assert len(shards) > 2
    assert max(shard.stat().st_size for shard in shards) < 450_000  # with its header
    second = load(folder, save_quantised_to=tmp_path / "q")
    assert torch.equal(logits(first.model), logits(second.model))
    assert second.weights_id == first.weights_id


@both_kinds
def test_a_copy_is_on_the_disk_before_it_has_its_name(folder: Path, tmp_path: Path) -> None:
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    synced: list[str] = []

    def sync(opened: int) -> None:
        assert not place.exists()
        synced.append(Path(f"/proc/self/fd/{opened}").resolve().name)

    save(first.model, original, Resolved("tiny", folder), place, str(folder), sync=sync)
    assert sorted(synced) == sorted([*(file.name for file in place.iterdir()), place.name + UNFINISHED])


def test_of_two_starts_at_once_one_saves_the_copy_and_the_other_leaves_it_alone(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    others: list[LoadedModel] = []

    def sync(opened: int) -> None:
        if not others:  # another start comes to its end while this one is saving
            others.append(load(folder, save_quantised_to=tmp_path / "q"))

    save(first.model, original, Resolved("tiny", folder), place, str(folder), sync=sync)
    assert "was not saved" not in caplog.text
    assert list(place.parent.iterdir()) == [place]
    assert torch.equal(logits(load(folder, save_quantised_to=tmp_path / "q").model), logits(first.model))


def test_a_lock_that_another_host_has_left_on_the_copy_is_named(folder: Path, tmp_path: Path) -> None:
    place = place_for(tmp_path, str(folder), None)
    lock = place.with_name(f"{place.name}.lock")
    lock.write_text("7\nan-older-container\n99\n")  # as on a disk without flock
    with FileLock(lock):
        loaded = load(folder, save_quantised_to=tmp_path)
    assert loaded.unsaved.startswith(f"{lock} is locked: process 7 of the host or container an-older-container")


def test_a_copy_that_another_start_has_saved_meanwhile_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    before = []
    for _ in range(2):
        save(first.model, original, Resolved("tiny", folder), place, str(folder))
        before.append({file.name: file.stat().st_ino for file in place.iterdir()})
    assert before[0] == before[1], "somebody may be reading it"


def test_saved_checkpoint_computes_in_the_dtype_asked_for(folder: Path, tmp_path: Path) -> None:
    load(folder, save_quantised_to=tmp_path / "q")
    again = load(folder, save_quantised_to=tmp_path / "q", dtype=torch.bfloat16)
    linear = again.model.model.language_model.layers[0].self_attn.q_proj
    assert linear.compute_dtype == torch.bfloat16
    assert again.model.lm_head.weight.dtype == torch.bfloat16
    assert torch.isfinite(logits(again.model)).all()


@pytest.mark.parametrize("damage", ["cut short", "manifest gone", "original changed", "not to be read"])
def test_saved_checkpoint_that_cannot_be_trusted_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    parent = tmp_path / "q"
    load(folder, save_quantised_to=parent)
    (saved,) = parent.iterdir()
    if damage == "cut short":
        (saved / SINGLE_NAME).write_bytes((saved / SINGLE_NAME).read_bytes()[:-10])
    elif damage == "manifest gone":
        (saved / MANIFEST).unlink()
    elif damage == "not to be read":
        (saved / SINGLE_NAME).unlink()
        (saved / SINGLE_NAME).symlink_to(UNREADABLE)
    else:
        rewrite_tensors(folder, lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] * 2})
    events: list[tuple[str, float]] = []
    load(folder, save_quantised_to=parent, on_progress=lambda *event: events.append(event[:2]))
    assert stages_of(events) == ["folders", "resolve", "check", "quantise", "save", "ready"]
    assert list(parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    "damage",
    [
        "another version's tensors",
        "another version's tokenizer",
        "another version's format",
        "another version's numbers",
        "a damaged tokenizer",
        "damaged digests",
    ],
)
def test_a_copy_that_cannot_be_loaded_is_named_itself_and_nobody_downloads_the_original_again(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    parent = tmp_path / "q"
    load(folder, save_quantised_to=parent)
    (saved,) = parent.iterdir()
    if damage == "another version's tensors":
        rewrite_tensors(saved, lambda tensors: {f"{name}_of_old": tensor for name, tensor in tensors.items()})
    elif damage in ("another version's format", "another version's numbers"):
        config = json.loads((saved / "config.json").read_text())
        config["nf4_experts"] = {"format": 3}
        if "numbers" in damage:
            del config["text_config"]["hidden_size"]
        (saved / "config.json").write_text(json.dumps(config))
    else:
        (saved / "tokenizer.json").write_text("{}")
    if damage == "damaged digests":
        (saved / NAME).write_text("{")
    elif damage != "a damaged tokenizer":
        note_contents(saved)
    remedy = f"rm -r {saved}" if damage != "a damaged tokenizer" else f"rm {saved / 'tokenizer.json'}"
    with pytest.raises(ModelFilesInvalid, match=f"{re.escape(remedy)}$"):
        load(folder, save_quantised_to=parent)


@pytest.mark.parametrize("damage", ["a manifest that is none", "no config.json", "of another commit", ""])
def test_where_a_copy_cannot_be_used_and_its_original_is_gone_both_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = next(iter(COMMITS))
    place = place_for(tmp_path, model, None)
    if damage:
        shutil.copytree(folder, place)
        commit = "f" * 40 if damage == "of another commit" else COMMITS[model]
        manifest = json.dumps({"commit": commit, "origin": commit})
        (place / MANIFEST).write_text("{" if "manifest" in damage else manifest)
        if damage == "no config.json":
            (place / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"^HF_HUB_OFFLINE is set, and the cache has nothing") as refused:
        load(model, save_quantised_to=tmp_path)
    told = f"saved a copy that would do, but the 4-bit copy {place} cannot be used"
    assert (told in str(refused.value)) is bool(damage)


@pytest.mark.parametrize(("model", "chosen"), COMMITS.items(), ids=COMMITS)
def test_saved_checkpoint_of_a_chosen_model_is_that_of_its_commit(
    folder: Path, tmp_path: Path, model: str, chosen: str
) -> None:
    place = place_for(tmp_path, model, None)
    shutil.copytree(folder, place)
    for commit, found in ((chosen, True), ("f" * 40, False)):
        manifest = {"name": model, "commit": commit, "origin": commit}
        (place / MANIFEST).write_text(json.dumps(manifest))
        assert (find_saved(tmp_path, model, None) is not None) is found


@pytest.mark.parametrize("changed", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_copy_is_not_used_when_what_it_took_of_its_folder_has_changed(
    folder: Path, tmp_path: Path, changed: str
) -> None:
    load(folder, save_quantised_to=tmp_path / "q")
    assert find_saved(tmp_path / "q", str(folder), None) is not None
    with (folder / changed).open("ab") as file:
        file.write(b" ")
    assert find_saved(tmp_path / "q", str(folder), None) is None


def test_a_folder_with_the_name_of_a_hub_model_gets_a_copy_of_its_own_and_uses_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `git clone` makes it, trained further since: the copy of the hub's model is not it."""
    model, commit = next(iter(COMMITS.items()))
    place = place_for(tmp_path / "q", model, None)
    shutil.copytree(folder, place)
    (place / MANIFEST).write_text(json.dumps({"name": model, "commit": commit, "origin": commit}))
    assert find_saved(tmp_path / "q", model, None) is not None
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, model)
    assert find_saved(tmp_path / "q", model, None) is None
    load(Path(model), save_quantised_to=tmp_path / "q")
    assert find_saved(tmp_path / "q", model, None) is not None


@pytest.mark.parametrize("left", [None, [], ["lost+found"]], ids=["gone", "empty", "an empty disk"])
def test_a_copy_serves_where_the_disk_of_its_folder_is_not_mounted(
    folder: Path, tmp_path: Path, left: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(folder, save_quantised_to=tmp_path / "q")
    shutil.rmtree(folder)
    for name in left or []:
        (folder / name).mkdir(parents=True)
    if left is not None:
        folder.mkdir(exist_ok=True)
    again = load(folder, save_quantised_to=tmp_path / "q")
    assert (again.name, again.weights_id) == (first.name, first.weights_id)
    assert (f"{folder} is empty (is its disk mounted?)" in caplog.text) is (left is not None)


def test_an_empty_folder_without_a_copy_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"^{tmp_path} is empty: is its disk mounted"):
        load(tmp_path)


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json"])
def test_files_that_are_replaced_while_they_are_read_are_no_model_and_make_no_copy(
    folder: Path, tmp_path: Path, changed: str
) -> None:
    def replace_once(stage: str, fraction: float, pace: object) -> None:
        if stage == "quantise":
            os.utime(folder / changed, (1, 1))

    with pytest.raises(ModelFilesInvalid, match=f"^the files of {folder} were changed while they were read"):
        load(folder, save_quantised_to=tmp_path / "q", on_progress=replace_once)
    assert find_saved(tmp_path / "q", str(folder), None) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "7", "{", '{"a":' * 100_000, "\ufeff{}", '{"origin": {}}'], ids=lambda text: text[:6]
)
def test_saved_checkpoint_with_any_other_manifest_is_none(folder: Path, tmp_path: Path, content: str) -> None:
    place = place_for(tmp_path, str(folder), None)
    shutil.copytree(folder, place)
    (place / MANIFEST).write_text(content)
    assert find_saved(tmp_path, str(folder), None) is None


def test_saving_tells_the_bytes_that_are_on_the_disk(folder: Path, tmp_path: Path) -> None:
    told: list[float] = []
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    save(first.model, original, Resolved("tiny", folder), place, str(folder), told.append, shard_bytes=400_000)
    assert told == sorted(told)
    assert len(told) >= 2 * len(list(place.glob("*.safetensors")))
    assert told[0] < 0.3
    assert told[-1] >= 0.99


def test_a_disk_that_hangs_costs_the_copy_and_leaves_no_half_of_it_when_it_answers_again(
    folder: Path, tmp_path: Path
) -> None:
    first = load(folder)
    original, place = read_checkpoint(folder), place_for(tmp_path / "q", str(folder), None)
    answers_again = threading.Event()

    def sync(opened: int) -> None:
        answers_again.wait(WAIT_S)

    with pytest.raises(MachineUnfit, match=f"^the disk of {tmp_path / 'q'} has taken nothing for 0 s"):
        save(first.model, original, Resolved("tiny", folder), place, str(folder), sync=sync, limit_s=0.01)
    answers_again.set()
    until(lambda: not list(place.parent.iterdir()), "what was begun is removed")


def test_failed_save_costs_only_the_next_start(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "merges.txt").symlink_to("/proc/self/mem")  # a file that cannot be read, and so not be copied
    loaded = load(folder, save_quantised_to=tmp_path / "q")
    assert loaded.quantisation == "nf4"
    assert "Input/output error" in loaded.unsaved
    assert "was not saved" in caplog.text
    assert "Input/output error" in caplog.text
    assert list((tmp_path / "q").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "message"),
    [("tokenizer.json", "no tokenizer.json"), ("preprocessor_config.json", "no preprocessor_config.json")],
)
def test_missing_small_files_are_named(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelFilesInvalid, match=message):
        load(folder)


@both_kinds
@pytest.mark.parametrize("named", [["LlamaForCausalLM"], "Qwen3VLForConditionalGeneration", [], 7])
def test_another_architecture_is_refused(folder: Path, named: object) -> None:
    rewrite_json(folder / "config.json", architectures=named)
    with pytest.raises(UnsupportedModel, match=re.escape(repr(named))):
        load(folder)


@both_kinds
def test_an_architecture_of_the_other_kind_is_refused(folder: Path) -> None:
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    other = next(name for kind, name in ARCHITECTURES.items() if kind != model_type)
    rewrite_json(folder / "config.json", architectures=[other])
    with pytest.raises(UnsupportedModel, match=f"names the architecture .*{other}.* prelabel loads"):
        load(folder)


@both_kinds
@pytest.mark.parametrize("mark", [{}, {"nf4_experts": None}])
def test_checkpoint_quantised_by_others_is_refused(folder: Path, mark: dict[str, Any]) -> None:
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    rewrite_json(folder / "config.json", quantization_config=quantised, **mark)
    with pytest.raises(UnsupportedModel, match="quantised already"):
        load(folder)


@dense_only
def test_a_dense_copy_marked_as_one_with_experts_is_refused(folder: Path, tmp_path: Path) -> None:
    load(folder, save_quantised_to=tmp_path / "q")
    (saved,) = (tmp_path / "q").iterdir()
    rewrite_json(saved / "config.json", nf4_linears=None, nf4_experts={"format": 2})
    note_contents(saved)
    with pytest.raises(ModelFilesInvalid, match="quantised already"):
        load(saved)


@dense_only
def test_a_tied_head_is_the_embedding_packed_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    for _ in ("packed", "from its copy"):
        model = load(folder, save_quantised_to=tmp_path / "q", dtype=torch.bfloat16).model
        assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
        assert model.lm_head.weight.dtype == torch.bfloat16
