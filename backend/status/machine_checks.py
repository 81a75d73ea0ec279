"""What this machine has for prelabel: model, card, disk, data folder, port. Imports no torch and downloads nothing.

Who has asked torch for the card says what it found.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
import socket
import sysconfig
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from backend.predict.build import engine_options
from backend.settings import Settings
from backend.status.check import Check, CheckName, bad, doubtful, good, unused
from model_loader.cards import Card, judge_memory
from model_loader.checkpoint import read_checkpoint
from model_loader.clean import check_small_files
from model_loader.disks import SPARE_BYTES, Disk, Room, gib, rooms
from model_loader.errors import ModelError, ModelFilesInvalid, ModelNotFound
from model_loader.folders import unwritable_folders
from model_loader.geometry import COMMITS, geometry_from_config, shipped_config
from model_loader.host import judge_host_memory
from model_loader.hub_cache import commit_bytes
from model_loader.memory import GIB, MemoryPlan, plan_memory
from model_loader.places import ends_with_container, expanded, free_bytes, why_unwritable
from model_loader.saved import find_saved, place_for, read_saved
from model_loader.sources import AUTO, GARMENTS, MODELSCOPE_PREFIX, find_config, local_folder, pinned_commit
from model_loader.troubles import Trouble
from model_loader.unused import unused_files

THREADS, THREADS_A_CPU = 100, 4
"""An allowance for all processes and threads of a server and its engine: 24 were counted at rest, with the built-in
model on two cores. Blocking calls may take 32 more, a download and CUDA some 40, libraries' pools up to 4 a core."""
_FORK = get_context("fork")
"""Its locks need no further process."""


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
            check_small_files(folder)
            return good("model", "model_here", model=model)
    except ModelNotFound as error:
        if expanded(model).is_dir():
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
    if have := commit_bytes(model, settings.model_revision or pinned_commit(model)):
        return good("model", "model_cached", model=model, gib=gib(have))
    if shipped_config(model) is None:
        if near:
            return doubtful("model", "model_doubtful", model=model, near=near)
        if Path(model).parent.is_dir():
            return doubtful("model", "model_no_folder", model=model)
    return good("model", "model_download", model=model)


def _near(model: str) -> str:
    """What `model` may have been meant to be: a name of ours, or a folder beside the one it names."""
    path = expanded(model)
    names = {name.lower(): name for name in (GARMENTS, AUTO, *COMMITS)}
    try:
        beside = [entry for entry in path.parent.iterdir() if entry.is_dir()] if len(path.parts) > 1 else []
    except OSError:
        beside = []
    names |= {str(entry).lower(): str(entry) for entry in beside}
    close = difflib.get_close_matches(str(path).lower(), names, n=1, cutoff=0.7)
    return names[close[0]] if close else ""


def memory_plan(settings: Settings, model: str, card: Card | None) -> tuple[MemoryPlan, Trouble | None]:
    """What `card` must hold for `model`, by the engine's own rule, and what speaks against it.

    Raises ModelError when the model's numbers are not on this machine.
    """
    geometry, request = geometry_from_config(find_config(model)), engine_options(settings).request
    if card is None:
        return plan_memory(geometry, request=request, max_slots=settings.max_slots), None
    return judge_memory(geometry, card, vram_gib=settings.vram_gib, request=request, max_slots=settings.max_slots)


def memory_check(plan: MemoryPlan, against: Trouble | None) -> Check:
    if plan.vram_bytes is None:
        return unused("memory", "memory_unknown")
    if against is not None:
        return trouble_check("memory", against)
    request = plan.request
    return good(
        "memory", "memory_fits", card=f"{(plan.offered_bytes or 0) / GIB:.1f}",
        free=f"{(plan.free_bytes or 0) / GIB:.2f}", slots=str(plan.num_slots),
        instruction=str(request.instruction_tokens), image=str(request.image_tokens), answer=str(request.answer_tokens),
    )  # fmt: skip


def judged_empty_check(card: Card) -> Check:
    """A prelabel that runs holds memory of `card`, and nobody knows how much others do: it was judged as empty."""
    return doubtful("memory", "memory_judged_empty", card=f"{card.memory_gib:.1f}", free=f"{card.free_gib:.1f}")


def trouble_check(name: CheckName, found: Trouble) -> Check:
    return (bad if found.refuses else doubtful)(name, found.code, **found.values)


def card_check(settings: Settings, found: Card | Trouble, driver: str = "") -> Check:
    """`found` as `find_card` returns it; `driver`: the version of NVIDIA's."""
    if settings.device == "cpu":
        return unused("card", "card_not_wanted")
    if isinstance(found, Card):
        sizes = {"memory": f"{found.memory_gib:.1f}", "free": f"{found.free_gib:.1f}"}
        capability = ".".join(map(str, found.capability))
        values = {"card": found.label, "capability": capability, "driver": driver or "?", **sizes}
        if found.others:
            return good("card", "card_taken", **values, others="; ".join(found.others))
        return good("card", "card_found" if settings.device == "auto" else "card_named", **values)
    if found.code == "card_none":
        if settings.device != "auto":
            return bad("card", "card_missing", device=settings.device)
        if settings.model == AUTO:  # who wanted the small model would have named it
            return doubtful("card", "card_none_for_auto")
        if settings.model != GARMENTS:
            return doubtful("card", "card_none_for_model", model=settings.model)
        return unused("card", "card_not_needed")
    if settings.model == GARMENTS and settings.device == "auto":  # runs on the CPU, then
        return doubtful("card", found.code, **found.values)
    return trouble_check("card", found)


def compiler_check() -> Check:
    """Triton builds a small launcher for its kernels in C when a card is first used. CC is the compiler, if it is set
    at all, and all of it is its name."""
    named = os.environ.get("CC")
    compiler = shutil.which("gcc") or shutil.which("clang") if named is None else shutil.which(named)
    headers = Path(sysconfig.get_config_var("INCLUDEPY") or "") / "Python.h"
    if compiler is None and named is not None:
        return doubtful("compiler", "compiler_misnamed", compiler=named)
    if compiler is None:
        return doubtful("compiler", "compiler_missing")
    if not headers.is_file():
        return doubtful("compiler", "headers_missing", file=str(headers))
    return good("compiler", "compiler_found", compiler=compiler)


def host_memory_check(model: str, available: int | None, *, on_card: bool) -> Check:
    """Does this machine's own memory suffice to load `model`. Raises ModelError when its numbers are not here."""
    found = judge_host_memory(geometry_from_config(find_config(model)), available, on_card=on_card)
    if found is not None:
        return trouble_check("host_memory", found)
    if available is None:
        return unused("host_memory", "host_unknown")
    return good("host_memory", "host_enough", free=gib(available))


def thread_checks(free: int | None, num_cpus: int) -> list[Check]:
    """May there be as many processes and threads as a server and its engine start; a check only where they may not be:
    a library that cannot start one ends its process."""
    needed = THREADS + THREADS_A_CPU * num_cpus
    if free is None or free >= needed:
        return []
    return [doubtful("host_memory", "threads_few", free=str(free), needed=str(needed))]


def shared_memory_checks(make_lock: Callable[[], object] = _FORK.Lock) -> list[Check]:
    """Can processes share a lock, as those do that read large requests; a check only where they cannot."""
    try:
        make_lock()
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [bad("host_memory", "shared_memory_missing", reason=reason)]
    return []


def folder_checks(settings: Settings, model: str, *, on_card: bool) -> list[Check]:
    """Can be written what the start of `model` puts somewhere beside the data folder; one for each that cannot."""
    revision, copies = settings.model_revision or None, settings.quantised_folder
    return [trouble_check("disk", found) for found in unwritable_folders(model, revision, copies, on_card=on_card)]


def disk_checks(settings: Settings, model: str, plan: MemoryPlan, downloads: Disk, copies: Disk) -> list[Check]:
    """Room for what `model` needs before it can answer: a check for each file system that gets something; and what
    lies there of models that a start does not take."""
    found = rooms(model, settings.model_revision or None, plan, downloads, copies)
    left = [
        good("disk", "disk_left", folder=str(room.disk.folder), left=gib(room.disk.left_bytes))
        for room in found
        if room.disk.left_bytes
    ]
    beside = unused_files(model, settings.model_revision or None, copies.folder)
    unused_ones = [good("disk", one.code, **one.values) for one in beside]
    return [*map(_disk_check, found), *left, *unused_ones, *_copy_checks(settings, model, copies.folder)]


def _copy_checks(settings: Settings, model: str, copies: Path) -> list[Check]:
    """Can the 4-bit copy be used that lies there; a check only where it cannot."""
    try:
        read_saved(copies, model, settings.model_revision or None)
    except ModelFilesInvalid as error:
        return [doubtful("disk", "copy_unusable", said=str(error))]
    return []


def _disk_check(room: Room) -> Check:
    if (found := room.trouble()) is not None:
        return trouble_check("disk", found)
    if not room.download_bytes + room.copy_bytes:
        return good("disk", "disk_free", folder=str(room.disk.folder), free=gib(room.disk.free_bytes))
    return good("disk", "disk_enough", **room.values)


def data_dir_check(folder: Path) -> Check:
    """Can it be written, now; where it is still to be made, the folder it will stand in."""
    if why := why_unwritable(folder):
        return bad("data_dir", "data_dir_unwritable", folder=str(folder), reason=why, uid=str(os.getuid()))
    if (free := free_bytes(folder)) < SPARE_BYTES:
        return doubtful("data_dir", "data_dir_low", folder=str(folder), free=f"{free / GIB:.2f}")
    return good("data_dir", "data_dir_good", folder=str(folder), free=gib(free))


def volume_checks(folder: Path, root: Path = Path("/")) -> list[Check]:
    """Does the data folder outlive this container; a check only where it does not."""
    return [doubtful("data_dir", "data_dir_unnamed", folder=str(folder))] if ends_with_container(folder, root) else []


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
