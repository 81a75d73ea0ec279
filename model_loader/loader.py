"""One call from a model's name to a model that answers: `load_model`.

Resolve (download) -> check the files and the memory plan -> load, packing to 4 bits in the same pass -> save the
4-bit checkpoint, if asked -> ready. Knows transformers; knows no Label Studio, no prompt, no batching.
Raises a ModelError for everything that can be wrong with a name, its files or the card.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, BitsAndBytesConfig, GenerationConfig, Qwen3VLMoeConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model_loader.bars import LOADED, told_bars
from model_loader.cards import Card, find_card
from model_loader.checkpoint import Checkpoint, read_checkpoint
from model_loader.checks import (
    Quantisation,
    check_fits,
    check_folders,
    check_host_memory,
    tell_of_disks,
    tell_of_unused,
)
from model_loader.clean import PATCH_SIZES, check_patches, checkpoint_id, clean_config, clean_folder
from model_loader.contents import check_contents, checked_beside, known_contents, size_bytes
from model_loader.disks import downloaded_bytes, left_of
from model_loader.errors import CardUnusable, ModelError, ModelFilesInvalid
from model_loader.experts import EXPERTS_IMPLEMENTATION, quantizer
from model_loader.experts.unpacked import unpack_small
from model_loader.geometry import ARCHITECTURES, geometry_from_config
from model_loader.hub_cache import remove_halves
from model_loader.load_errors import known_error, named_errors
from model_loader.memory import MAX_SLOTS, Request
from model_loader.norms import use_fused_norms
from model_loader.packing_trial import try_packing
from model_loader.patch_embed import use_linear_patch_embedding
from model_loader.patience import patiently
from model_loader.places import expanded, is_empty
from model_loader.progress import Progress, ProgressCallback, no_progress
from model_loader.saved import (
    blamed_on,
    files_id,
    instead_of_copy,
    moved_bytes,
    place_for,
    read_saved,
    remove_unfinished,
    save,
)  # fmt: skip
from model_loader.sources import GARMENTS, Resolved, resolve
from model_loader.tensor_names import check_tensor_names, report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode with no gradients, and what turns text and pictures into its inputs.

    `weights_id` is `checkpoint_id`'s. `unsaved`: why its 4-bit copy was not saved, so that the next start packs again;
    "" where nothing failed.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    name: str
    quantisation: Quantisation
    device: str
    dtype: torch.dtype
    load_s: float
    weights_id: str = ""
    unsaved: str = ""


def load_model(
    source: str,
    *,
    on_progress: ProgressCallback = no_progress,
    device: str | None = None,
    card: Card | None = None,
    vram_gib: float | None = None,
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
    dtype: torch.dtype | None = None,
    quantisation: Quantisation = "nf4",
    revision: str | None = None,
    save_quantised_to: Path | None = None,
    download_limit_s: float = 0.0,
) -> LoadedModel:
    """Load `source` (a hub id, a folder, `modelscope:` id or "garments") onto one device.

    `on_progress(stage, fraction, pace)`: stages folders, on a card trial, resolve, download, check, quantise or load
    (load_copy: what an earlier start has saved), save, ready; the fraction is of the whole. `device` defaults to the
    CUDA card if there is one, `dtype` to bfloat16 there and float32 on a CPU. `card` is what `find_card` found there,
    if it was asked. `vram_gib` caps what the memory plan may use of the card, which must hold `request`, and should
    hold `max_slots` of them.
    `save_quantised_to` is the parent folder of saved 4-bit checkpoints: one of this source and revision is loaded from
    there, else it is written after packing. For so long as `download_limit_s` a download is tried again that fails for
    a cause which may pass (stage download_again).
    """
    started = time.perf_counter()
    progress = Progress(on_progress)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
    if card is None and device.startswith("cuda"):
        card = _card(device)
    parent = save_quantised_to if quantisation == "nf4" and source != GARMENTS else None
    progress.enter("folders", 0.0, 0.0, asks=True)
    check_folders(source, revision, parent, on_card=card is not None)
    remove_halves(left_of(source))
    if save_quantised_to is not None:
        remove_unfinished(save_quantised_to)
        tell_of_unused(source, revision, save_quantised_to)
    saved, unusable = _find_copy(parent, source, revision)
    if card is not None and quantisation == "nf4":
        progress.enter("trial", 0.0, 0.0)
        try_packing(device, dtype)

    def inspect(config: Mapping[str, Any]) -> None:
        check_fits(
            config, card=card, vram_gib=vram_gib, quantisation=quantisation, request=request, max_slots=max_slots
        )
        check_host_memory(config, on_card=card is not None, quantisation=quantisation)
        if parent is not None and saved is None:
            tell_of_disks(config, source, revision, parent)

    progress.enter("resolve", 0.0, 0.02, asks=True)
    if saved is not None:
        files = _of_copy(*saved, source, inspect, progress)
    else:
        files = _of_original(source, revision, inspect, progress, unusable, download_limit_s)
    resolved = files.resolved
    model, tokenizer, image_processor = _load(files, progress, device=device, dtype=dtype, quantisation=quantisation)
    if files.have_changed:  # else its copy would be taken for that of the new ones
        raise ModelFilesInvalid(
            f"the files of {resolved.folder} were changed while they were read; start again once they are whole"
        )
    identity = resolved.weights_id or checkpoint_id(files.checkpoint)
    _make_fast(model, device=device, dtype=dtype, quantisation=quantisation)
    unsaved = ""
    if parent is not None and not files.are_packed:
        unsaved = _save(model, files, place_for(parent, source, revision), source, progress)
    progress.enter("ready", 1.0, 1.0)
    load_s = time.perf_counter() - started
    return LoadedModel(
        model, tokenizer, image_processor, resolved.name, quantisation, device, dtype, load_s, identity, unsaved
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """What is loaded: a `copy` that an earlier start has saved, or the original, with the `files_id` that it had when
    its reading began. `done`: of the whole load."""

    resolved: Resolved
    checkpoint: Checkpoint
    done: float
    copy: Path | None = None
    found: str = ""

    @property
    def are_packed(self) -> bool:
        return self.checkpoint.config.get("quantization_config") is not None

    @property
    def have_changed(self) -> bool:
        return self.copy is None and files_id(self.resolved.folder) != self.found


def _find_copy(
    parent: Path | None, source: str, revision: str | None
) -> tuple[tuple[Resolved, Checkpoint] | None, str]:
    """The 4-bit copy, or why the one that is there cannot be used."""
    try:
        return read_saved(parent, source, revision), ""
    except ModelFilesInvalid as error:
        log.warning("%s; it is made again", error)
        return None, str(error)


def _of_copy(
    resolved: Resolved,
    checkpoint: Checkpoint,
    source: str,
    inspect: Callable[[Mapping[str, Any]], None],
    progress: Progress,
) -> _Files:
    log.info("%s was packed by an earlier start: its 4-bit copy in %s is loaded", source, resolved.folder)
    if is_empty(expanded(source)):
        log.warning("%s is empty (is its disk mounted?): the copy is all that there is of this model", source)
    with blamed_on(resolved.folder):
        inspect(checkpoint.config)
    progress.enter("check", 0.03, 0.05)
    return _Files(resolved, checkpoint, 0.05, copy=resolved.folder)


def _of_original(
    source: str,
    revision: str | None,
    inspect: Callable[[Mapping[str, Any]], None],
    progress: Progress,
    unusable: str,
    download_limit_s: float,
) -> _Files:
    """Download what is missing, and check it. `unusable`: why its 4-bit copy is not taken, "" where there is none."""
    start = 0.03

    def downloading(num_bytes: int) -> Callable[[float], None]:
        nonlocal start
        start = 0.6
        return progress.enter("download", 0.02, start, num_bytes)

    def fetch() -> Resolved:
        remove_halves(left_of(source))  # of the try before
        return resolve(source, revision=revision, inspect=inspect, on_fraction=downloading)

    def waiting(error: ModelError, left_s: float) -> None:
        progress.wait("download_again", left_s, error)

    with instead_of_copy(unusable):
        resolved = patiently(fetch, waiting, lambda: downloaded_bytes(source), download_limit_s)
    contents = known_contents(resolved.folder)
    checking = progress.enter("check", start, start + 0.02, size_bytes(contents))
    found = files_id(resolved.folder)
    checkpoint = read_checkpoint(resolved.folder)
    check_contents(contents, checking)
    return _Files(resolved, checkpoint, start + 0.02, found=found)


def _load(
    files: _Files, progress: Progress, *, device: str, dtype: torch.dtype, quantisation: Quantisation
) -> tuple[Any, Any, Any]:
    """Return the model, its tokenizer and its image processor. A copy is checked beside it."""
    checkpoint, name = files.checkpoint, files.resolved.name
    stage = "load_copy" if files.copy else "quantise" if quantisation == "nf4" and not files.are_packed else "load"
    step = progress.enter(stage, files.done, 0.95, checkpoint.size_bytes)
    with blamed_on(files.copy):
        unchecked = {} if files.copy is None else known_contents(files.copy)

    def enter_check() -> Callable[[float], None]:
        return progress.enter("check", 0.95, 0.99, size_bytes(unchecked))

    with named_errors(name), checked_beside(unchecked, enter_check), blamed_on(files.copy), named_errors(name):
        if files.are_packed:
            _check_packed(checkpoint, quantisation)
        with clean_folder(checkpoint) as folder, told_bars({LOADED: _bytes_of(checkpoint, step)}):
            tokenizer, image_processor = load_tokenizer(folder), load_image_processor(folder)
            sizes = {name: getattr(image_processor, name) for name in PATCH_SIZES}  # also those no file named
            check_patches(sizes, checkpoint.config["vision_config"])
            model = _load_weights(checkpoint, folder, device=device, dtype=dtype, quantisation=quantisation)
    return model, tokenizer, image_processor


def _save(model: Any, files: _Files, place: Path, source: str, progress: Progress) -> str:
    """Return why its 4-bit copy was not saved. Raises nothing: it must not cost the loaded model."""
    saving = progress.enter("save", 0.95, 0.99, moved_bytes(model))
    try:
        save(model, files.checkpoint, files.resolved, place, source, saving)
    except Exception as error:
        unsaved = " ".join(str(known_error(error) or error).split()) or type(error).__name__
        log.warning("the 4-bit checkpoint was not saved, so the next start packs it again: %s", unsaved)
        return unsaved
    return ""


def _card(device: str) -> Card:
    found = find_card(device)
    if isinstance(found, Card):
        return found
    raise CardUnusable(found)


def load_tokenizer(folder: Path) -> Any:
    """Return the fast tokenizer of `folder`. Raises ModelFilesInvalid."""
    with named_errors("tokenizer.json"):
        return AutoTokenizer.from_pretrained(
            folder, config=Qwen3VLMoeConfig(), trust_remote_code=False, local_files_only=True
        )


def load_image_processor(folder: Path) -> Any:
    """Return transformers' Pillow image processor with the sizes of preprocessor_config.json (no torchvision)."""
    with named_errors("preprocessor_config.json"):
        return Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)


def _check_packed(checkpoint: Checkpoint, quantisation: Quantisation) -> None:
    mark = quantizer.format_name(has_experts=geometry_from_config(checkpoint.config).experts > 0)
    if quantisation == "none" or checkpoint.config.get(mark) is None:
        raise ModelFilesInvalid(
            f"{checkpoint.folder.name} was quantised already, and not by prelabel or not as asked; "
            "give the original 16-bit checkpoint"
        )


def _load_weights(
    checkpoint: Checkpoint, folder: Path, *, device: str, dtype: torch.dtype, quantisation: Quantisation
) -> Any:
    """`folder` is the clean one. No choice of code is left to it: attention and experts are named here."""
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    if quantisation == "nf4":
        quantizer.register()
        options["experts_implementation"] = EXPERTS_IMPLEMENTATION
    model_class: Any = getattr(transformers, ARCHITECTURES[checkpoint.config["model_type"]])
    config = model_class.config_class.from_dict(clean_config(checkpoint.config))
    recorded = getattr(config, "quantization_config", None)
    if recorded is not None:
        recorded["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    elif quantisation == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    else:
        with torch.device("meta"):
            skeleton = model_class(config)
        check_tensor_names(skeleton, [str(shard) for shard in checkpoint.shards])
    model, info = model_class.from_pretrained(
        folder,
        config=config,
        generation_config=GenerationConfig(),  # else one is looked for in the folder
        dtype=dtype,
        device_map={"": device},
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    report(missing=sorted(info["missing_keys"]), left_over=sorted(info["unexpected_keys"]))
    return model


def _make_fast(model: Any, *, device: str, dtype: torch.dtype, quantisation: Quantisation) -> None:
    _cast_unpacked(model, dtype)
    use_linear_patch_embedding(model)
    use_fused_norms(model)
    if device == "cpu" and quantisation == "nf4":
        unpack_small(model, dtype)
    model.eval().requires_grad_(False)


def _cast_unpacked(model: Any, dtype: torch.dtype) -> None:
    """Cast what is not packed: from a 4-bit checkpoint transformers loads weights in the dtype they were saved in."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not name.endswith("_absmax"):
            parameter.data = parameter.data.to(dtype)


def _bytes_of(checkpoint: Checkpoint, on_fraction: Callable[[float], None]) -> Callable[[tuple[str, Any]], None]:
    """What tells the share of the bytes of `checkpoint`, told each tensor that is loaded."""
    total, done = max(1, checkpoint.size_bytes), 0

    def loaded(item: tuple[str, Any]) -> None:
        nonlocal done
        entry = checkpoint.tensors.get(item[0])
        done += entry.size_bytes if entry else 0
        on_fraction(done / total)

    return loaded
