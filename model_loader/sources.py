"""Where a model comes from: a name as people write it -> a folder on this machine.

`garments` (the small built-in model), a folder, a hub id `owner/name`, or `modelscope:owner/name`; `auto` is for
`choose_model`. Knows nothing of tensors; torch is imported only to ask for the card.
Raises ModelNotFound, DownloadFailed, UnsafeModelFiles, and whatever `inspect` raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader.checkpoint import read_config, refuse_remote_code
from model_loader.errors import ModelNotFound
from model_loader.geometry import DEFAULT_COMMIT, DEFAULT_MODEL, geometry_from_config, shipped_config
from model_loader.hub import Fraction, cached_config, fetch_from_hub, fetch_from_modelscope
from model_loader.memory import GIB, MemoryPlan, plan_memory

AUTO = "auto"
GARMENTS = "garments"
GARMENTS_CHECKPOINT = Path(__file__).parent / "garments" / "checkpoint"
MODELSCOPE_PREFIX = "modelscope:"
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checkpoint folder on this machine. `name` goes into the model version; `commit` is "" for a folder.

    `weights_id` is that of the original where `folder` holds its packed copy, else "".
    """

    name: str
    folder: Path
    commit: str = ""
    weights_id: str = ""


def resolve(
    source: str,
    *,
    revision: str | None = None,
    inspect: Callable[[Mapping[str, Any]], None] = lambda config: None,
    on_fraction: Callable[[], Fraction] = lambda: lambda fraction: None,
) -> Resolved:
    """Return the folder of `source`, downloading it if it is a hub id that is not in the cache.

    `inspect` gets the parsed config.json before any weights are fetched. `revision` is a commit, tag or branch of a
    hub id; a folder has none and it is ignored. Without one, the default model is taken at the commit it was chosen
    with, others as `fetch_from_hub` says.
    """

    def look(folder: Path) -> None:
        refuse_remote_code(folder)
        inspect(read_config(folder))

    folder = local_folder(source)
    if folder is not None:
        look(folder)
        return Resolved(GARMENTS if source == GARMENTS else folder.resolve().name, folder)
    if source.startswith(MODELSCOPE_PREFIX):
        name = source.removeprefix(MODELSCOPE_PREFIX)
        return Resolved(name, fetch_from_modelscope(name, revision, inspect=look, on_fraction=on_fraction))
    folder = fetch_from_hub(source, revision or pinned_commit(source), inspect=look, on_fraction=on_fraction)
    return Resolved(source, folder, commit=folder.name)


def pinned_commit(source: str) -> str | None:
    """The commit of `source` that is taken where no revision is asked for; None: whichever comes first."""
    return DEFAULT_COMMIT if source.lower() == DEFAULT_MODEL.lower() else None


def local_folder(source: str) -> Path | None:
    """Return the folder `source` names, or None for a hub id. Raises ModelNotFound if it is neither."""
    if source == GARMENTS:
        return GARMENTS_CHECKPOINT
    if source.startswith(MODELSCOPE_PREFIX):
        if _HUB_ID.fullmatch(source.removeprefix(MODELSCOPE_PREFIX)):
            return None
        raise ModelNotFound(f"{source!r} is no ModelScope id; write modelscope:owner/name")
    path = Path(source).expanduser()
    if source.strip() and path.is_dir():
        return path
    if _HUB_ID.fullmatch(source) and not source.startswith("."):
        return None
    raise ModelNotFound(
        f"{source!r} is neither a folder on this machine nor a hub id; "
        "write owner/name, modelscope:owner/name, a folder, garments or auto"
    )


def find_config(model: str) -> Mapping[str, Any]:
    """Return the config.json of `model` with no network: shipped with the package, in its folder, or in the cache."""
    if model == AUTO:
        model = DEFAULT_MODEL
    config = shipped_config(model.removeprefix(MODELSCOPE_PREFIX))
    if config is not None:
        return config
    folder = local_folder(model)
    if folder is None:
        cached = None if model.startswith(MODELSCOPE_PREFIX) else cached_config(model)
        if cached is None:
            raise ModelNotFound(f"the numbers of {model} are not on this machine; download its config.json to a folder")
        folder = cached.parent
    return read_config(folder)


def choose_model(
    requested: str,
    *,
    vram_gib: float | None = None,
    device: str | None = None,
    look: Callable[[str | None], Card | None] | None = None,
) -> tuple[str, str]:
    """Return the model to load and, for people, the reason. Anything but "auto" is taken as asked.

    "auto" takes Qwen3-VL-30B-A3B-Instruct when a CUDA card holds it by the memory plan (within `vram_gib`, if
    given), else the built-in garments model. What other programs hold of the card now changes nothing: they may end,
    and loading says so. `device` names the card to judge, or "cpu"; `look` finds it, as
    `find_card` does.
    """
    if requested != AUTO:
        return requested, "as asked"
    if device == "cpu":
        return GARMENTS, "the CPU was asked for, so the small built-in model is used"
    card = (look or find_card)(device)
    if card is None:
        return GARMENTS, "this machine has no CUDA card, so the small built-in model is used"
    room_gib = card.memory_gib if vram_gib is None else min(vram_gib, card.memory_gib)
    plan = default_plan(room_gib)
    if plan.fits:
        return DEFAULT_MODEL, f"{card.name} with {room_gib:.1f} GiB holds it"
    return GARMENTS, f"{card.name} does not hold {DEFAULT_MODEL}: {plan.refusal}"


def default_plan(vram_gib: float | None) -> MemoryPlan:
    """The memory plan of the model that "auto" prefers."""
    return plan_memory(geometry_from_config(find_config(AUTO)), vram_gib=vram_gib)


@dataclass(frozen=True, slots=True)
class Card:
    """`free_gib`: what of the card is free or held by torch here already, CUDA's context off; None: not measured."""

    name: str
    memory_gib: float
    free_gib: float | None = None


def find_card(device: str | None = None) -> Card | None:
    """Return the CUDA card `device` ("cuda:1"; None: the current one), or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    place = device or torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(place)
    try:
        free_bytes = int(torch.cuda.mem_get_info(place)[0]) + int(torch.cuda.memory_reserved(place))
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        free_bytes = 0  # other programs leave no room for CUDA's context
    return Card(properties.name, properties.total_memory / GIB, free_bytes / GIB)
