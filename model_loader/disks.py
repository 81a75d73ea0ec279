"""Room on the disks that a model's files go to: the download, and the 4-bit copy that is made of it.

What killed starts have left there counts as free: a start removes it first. Raises nothing.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from model_loader.errors import ModelError
from model_loader.folders import download_place
from model_loader.geometry import COMMITS
from model_loader.hub_cache import cached_bytes, commit_bytes, half_bytes
from model_loader.memory import GIB, SIXTEEN_BIT, MemoryPlan
from model_loader.places import free_bytes, nearest
from model_loader.saved import find_saved, unfinished_bytes
from model_loader.sources import GARMENTS, MODELSCOPE_PREFIX, find_config, local_folder, pinned_commit
from model_loader.troubles import Trouble, trouble, warning

SPARE_BYTES = GIB
"""Below this the store may soon have no room for answers."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system: the folder that is to hold something there, and its free bytes. Of those, `left_bytes` are what
    a start removes there before anything else."""

    folder: Path
    device: int
    free_bytes: int
    left_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What one disk is to take: bytes still to download, to where `setting` names, and those of the 4-bit copy."""

    disk: Disk
    download_bytes: int
    copy_bytes: int
    setting: str

    @property
    def values(self) -> dict[str, str]:
        sizes = {"free": self.disk.free_bytes, "download": self.download_bytes, "packed": self.copy_bytes}
        told = {"folder": str(self.disk.folder), "setting": self.setting}
        return told | {name: gib(size) for name, size in sizes.items()}

    def trouble(self) -> Trouble | None:
        """Without room for the copy every start packs again; without room for the download there is no first one."""
        left = self.disk.free_bytes - self.download_bytes
        if left < 0:
            return trouble("disk_too_small", **self.values)
        return warning("disk_tight", **self.values) if left < self.copy_bytes + SPARE_BYTES else None


def disks_of(model: str, copies: Path) -> tuple[Disk, Disk]:
    """Where `model` is downloaded to, and where its 4-bit copy goes; both may be on one file system."""
    downloads = download_place(model)[1]
    halves, left = half_bytes(left_of(model)), unfinished_bytes(copies)
    devices = [nearest(folder).stat().st_dev for folder in (downloads, copies)]
    if devices[0] == devices[1]:
        halves = left = halves + left
    return (
        Disk(downloads, devices[0], free_bytes(downloads) + halves, halves),
        Disk(copies, devices[1], free_bytes(copies) + left, left),
    )


def left_of(model: str) -> set[str]:
    """The models of the hub of which a start of `model` removes half files: those we know, and itself."""
    return {*COMMITS, model} if "/" in model else set(COMMITS)


def rooms(model: str, revision: str | None, plan: MemoryPlan, downloads: Disk, copies: Disk) -> list[Room]:
    """What the first start of `model` takes on each of the disks; `copies` is where 4-bit copies are saved."""
    (download, copy), setting = _missing_bytes(model, revision, plan, copies.folder), download_place(model)[0]
    if downloads.device == copies.device:
        return [Room(copies, download, copy, setting)]
    return [Room(downloads, download, 0, setting), Room(copies, 0, copy, setting)]


def _missing_bytes(model: str, revision: str | None, plan: MemoryPlan, copies: Path) -> tuple[int, int]:
    """What has to be downloaded yet, and what the 4-bit copy takes that is made of it."""
    if model == GARMENTS or find_saved(copies, model, revision) is not None:
        return 0, 0
    try:
        if local_folder(model) is not None:
            whole = find_config(model).get("quantization_config") is None
            return 0, plan.weights_bytes if whole else 0
    except (OSError, ModelError):
        return 0, 0
    is_of_hub = not model.startswith(MODELSCOPE_PREFIX)
    have = commit_bytes(model, revision or pinned_commit(model)) if is_of_hub else downloaded_bytes(model)
    return max(0, round(plan.num_params * SIXTEEN_BIT) - have), plan.weights_bytes


def downloaded_bytes(model: str) -> int:
    """What has come of `model`, of whatever commit: of ModelScope's, whose package has laid out its cache in several
    ways, all that lies in a folder of its name."""
    if not model.startswith(MODELSCOPE_PREFIX):
        return cached_bytes(model)
    name, total = model.rpartition("/")[2], 0
    for folder, _, files in os.walk(download_place(model)[1]):
        parts = (part.replace("___", ".").rpartition("--")[2] for part in Path(folder).parts)
        if name in parts:
            for file in files:
                with contextlib.suppress(OSError):  # gone meanwhile
                    total += (Path(folder) / file).lstat().st_size
    return total


def gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f}" if 0 < size_bytes < 10 * GIB else f"{size_bytes / GIB:.0f}"
