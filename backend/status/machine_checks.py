"""What this machine has for prelabel: model, card, disk, data folder, port. Imports no torch and downloads nothing.

Who has asked torch for the card says what it found. Nothing here raises.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backend.predict.build import context_tokens
from backend.settings import Settings
from backend.status.check import Check, bad, doubtful, good, unused
from model_loader.checkpoint import read_checkpoint
from model_loader.errors import ModelError, ModelNotFound
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config, shipped_config
from model_loader.hub import cached_bytes
from model_loader.memory import GIB, SIXTEEN_BIT, MemoryPlan, Request, plan_memory
from model_loader.saved import find_saved, place_for
from model_loader.sources import AUTO, GARMENTS, MODELSCOPE_PREFIX, find_config, local_folder

if TYPE_CHECKING:
    from model_loader.sources import Card

SPARE_BYTES = GIB
"""Below this the store may soon have no room for answers."""
_DRIVER = Path("/proc/driver/nvidia/version")


def model_check(settings: Settings) -> Check:
    """Is there such a model, of a kind that is served. A hub id that is not on this machine is not looked for."""
    model = settings.model
    if model == AUTO:
        return good("model", "model_auto")
    if find_saved(settings.quantised_folder, model, settings.model_revision or None) is not None:
        place = place_for(settings.quantised_folder, model, settings.model_revision or None)
        return good("model", "model_saved", model=model, folder=str(place))
    near = _near(model)
    try:
        folder = local_folder(model)
        if folder is not None:
            geometry_from_config(read_checkpoint(folder).config)
            return good("model", "model_here", model=model)
    except ModelNotFound as error:
        if Path(model).expanduser().is_dir():
            return bad("model", "model_refused", model=model, reason=str(error))
        if near:
            return bad("model", "model_unknown_near", model=model, near=near)
        return bad("model", "model_unknown", model=model)
    except (ModelError, OSError, ValueError) as error:
        return bad("model", "model_refused", model=model, reason=str(error))
    if model.startswith(MODELSCOPE_PREFIX):
        if importlib.util.find_spec("modelscope") is None:
            return bad("model", "model_no_modelscope", model=model)
        return good("model", "model_download", model=model)
    if have := cached_bytes(model):
        return good("model", "model_cached", model=model, gib=_gib(have))
    if shipped_config(model) is None:
        if near:
            return doubtful("model", "model_doubtful", model=model, near=near)
        if Path(model).parent.is_dir():
            return doubtful("model", "model_no_folder", model=model)
    return good("model", "model_download", model=model)


def _near(model: str) -> str:
    """What `model` may have been meant to be: a name of ours, or a folder beside the one it names."""
    path = Path(model).expanduser()
    names = {name.lower(): name for name in (GARMENTS, AUTO, DEFAULT_MODEL)}
    try:
        beside = [entry for entry in path.parent.iterdir() if entry.is_dir()] if len(path.parts) > 1 else []
    except OSError:
        beside = []
    names |= {str(entry).lower(): str(entry) for entry in beside}
    close = difflib.get_close_matches(str(path).lower(), names, n=1, cutoff=0.7)
    return names[close[0]] if close else ""


def memory_plan(settings: Settings, model: str, card: Card | None, image_tokens: int | None = None) -> MemoryPlan:
    """What `card` must hold for `model`, by the engine's own rule: all of it, or PRELABEL_VRAM_GIB.

    A larger PRELABEL_VRAM_GIB stands for another card. Raises ModelError when the model's numbers are not here.
    """
    is_other = card is None or (settings.vram_gib or 0) > card.memory_gib
    image_tokens = image_tokens or settings.image_tokens
    return plan_memory(
        geometry_from_config(find_config(model)),
        vram_gib=settings.vram_gib or (card.memory_gib if card else None),
        free_gib=None if is_other or card is None else card.free_gib,
        request=Request(image_tokens=image_tokens, longest_tokens=context_tokens(image_tokens)),
        max_slots=settings.max_slots,
    )


def memory_check(plan: MemoryPlan) -> Check:
    if plan.vram_bytes is None:
        return unused("memory", "memory_unknown")
    card, offered = f"{plan.vram_bytes / GIB:.1f}", f"{(plan.offered_bytes or 0) / GIB:.1f}"
    if not plan.fits:
        needed = f"{plan.needed_bytes / GIB:.1f}"
        if plan.is_shared and plan.needed_bytes <= plan.vram_bytes:
            return bad("memory", "memory_taken", card=card, offered=offered, needed=needed)
        return bad("memory", "memory_too_small", card=card, needed=needed)
    request = plan.request
    return good(
        "memory", "memory_fits", card=offered, free=f"{(plan.free_bytes or 0) / GIB:.2f}", slots=str(plan.num_slots),
        instruction=str(request.instruction_tokens), image=str(request.image_tokens), answer=str(request.answer_tokens),
    )  # fmt: skip


def driver_version() -> str:
    """Of NVIDIA's kernel driver; "" where none is loaded."""
    try:
        line = _DRIVER.read_text("utf-8", "replace").splitlines()[0]
    except (OSError, IndexError):
        return ""
    return next((word for word in line.split() if word[0].isdigit() and "." in word), "?")


def card_check(settings: Settings, card: Card | None, driver: str) -> Check:
    """`card` is what torch sees, `driver` the version of NVIDIA's driver, "" for none."""
    if settings.device == "cpu":
        return unused("card", "card_not_wanted")
    if card is not None:
        size = f", {card.memory_gib:.1f} GiB" if card.memory_gib else ""
        return good("card", "card_found", card=card.name + size)
    if driver:
        torch = _version("torch")
        return bad("card", "card_cpu_torch" if "+cpu" in torch else "card_hidden", driver=driver, torch=torch)
    if settings.device != "auto":
        return bad("card", "card_missing", device=settings.device)
    if settings.model not in (AUTO, GARMENTS):
        return doubtful("card", "card_none_for_model", model=settings.model)
    return unused("card", "card_none")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system: the folder that is to hold something there, and its free bytes."""

    folder: Path
    device: int
    free_bytes: int


def disk_of(folder: Path) -> Disk:
    """That of `folder`, or of the folder it will be made in."""
    place = folder.expanduser().absolute()
    there = next(candidate for candidate in (place, *place.parents) if candidate.exists())
    return Disk(folder, there.stat().st_dev, shutil.disk_usage(there).free)


def model_folder() -> Path:
    """Where downloads go."""
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


def disk_checks(settings: Settings, model: str, plan: MemoryPlan, downloads: Disk, copies: Disk) -> Sequence[Check]:
    """Room for what `model` needs before it can answer: a check for each file system that gets something."""
    download, packed = missing_bytes(settings, model, plan)
    if downloads.device == copies.device:
        return [_disk_check(copies, download, packed)]
    return [_disk_check(downloads, download, 0), _disk_check(copies, 0, packed)]


def missing_bytes(settings: Settings, model: str, plan: MemoryPlan) -> tuple[int, int]:
    """What has to be downloaded yet, and what the 4-bit copy takes that is made of it."""
    if model == GARMENTS or find_saved(settings.quantised_folder, model, settings.model_revision or None) is not None:
        return 0, 0
    try:
        if local_folder(model) is not None:
            whole = find_config(model).get("quantization_config") is None
            return 0, plan.weights_bytes if whole else 0
    except ModelError:
        return 0, 0
    have = 0 if model.startswith(MODELSCOPE_PREFIX) else cached_bytes(model)
    return max(0, round(plan.num_params * SIXTEEN_BIT) - have), plan.weights_bytes


def _disk_check(disk: Disk, download: int, packed: int) -> Check:
    if not download + packed and disk.free_bytes >= SPARE_BYTES:
        return good("disk", "disk_free", folder=str(disk.folder), free=_gib(disk.free_bytes))
    enough = disk.free_bytes >= download + packed + SPARE_BYTES
    make, code = (good, "disk_enough") if enough else (bad, "disk_too_small")
    sizes = {"free": _gib(disk.free_bytes), "download": _gib(download), "packed": _gib(packed)}
    return make("disk", code, folder=str(disk.folder), **sizes)


def data_dir_check(folder: Path) -> Check:
    """Can it be written, now; where it is still to be made, the folder it will stand in."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"1")
        free = shutil.disk_usage(there).free
    except OSError as error:
        reason = error.strerror or str(error)
        return bad("data_dir", "data_dir_unwritable", folder=str(folder), reason=reason, uid=str(os.getuid()))
    if free < SPARE_BYTES:
        return doubtful("data_dir", "data_dir_low", folder=str(folder), free=f"{free / GIB:.2f}")
    return good("data_dir", "data_dir_good", folder=str(folder), free=_gib(free))


def port_check(host: str, port: int, is_prelabel: bool) -> Check:
    """Can `prelabel serve` listen there; `is_prelabel`: one answers there already."""
    address = f"{host}:{port}"
    if is_prelabel:
        return good("port", "port_ours", address=address)
    try:
        listen(host, port).close()
    except OSError as error:
        return bad("port", "port_taken", address=address, reason=error.strerror or str(error))
    return good("port", "port_free", address=address)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f}" if 0 < size_bytes < 10 * GIB else f"{size_bytes / GIB:.0f}"
