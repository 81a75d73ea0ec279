"""What of models lies on this machine's disks and is not what a start takes: 4-bit copies of other models, revisions or
spellings, and downloads of the same model of the hub under another spelling of its name.

It is told, with how to remove it, and left: another prelabel or program may use it. Raises nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_loader.disks import gib
from model_loader.errors import ModelError
from model_loader.hub_cache import hub_cache, repo_cache
from model_loader.json_text import read_object
from model_loader.saved import MANIFEST, copies_in, folder_bytes, place_for
from model_loader.sources import GARMENTS, MODELSCOPE_PREFIX
from model_loader.troubles import Trouble, warning


def unused_files(source: str, revision: str | None, copies: Path | None) -> list[Trouble]:
    """What is to be said beside a start of `source`; `copies`: the folder of 4-bit copies."""
    if source == GARMENTS:
        return []
    found = [_other_copies(source, revision, copies)] if copies is not None else []
    found.append(_other_spelling(source))
    return [one for one in found if one is not None]


def _other_copies(source: str, revision: str | None, copies: Path) -> Trouble | None:
    own = place_for(copies, source, revision)
    others = sorted(folder for folder in copies_in(copies) if folder.name != own.name)
    if not others:
        return None
    sizes = [folder_bytes(folder) for folder in others]
    told = [f"{_made_of(folder)}: {gib(size)} GiB" for folder, size in zip(others, sizes, strict=True)]
    return warning(
        "disk_other_copies",
        folder=str(copies), own=own.name, copies="; ".join(told), total=gib(sum(sizes)),
        remove=shlex.join(["rm", "-r", *map(str, others)]),
    )  # fmt: skip


def _made_of(copy: Path) -> str:
    try:
        manifest: Mapping[str, Any] = read_object(copy / MANIFEST)
    except (OSError, ModelError):
        return copy.name
    return " ".join(filter(None, (str(manifest.get("source", copy.name)), str(manifest.get("commit", ""))[:12])))


def _other_spelling(source: str) -> Trouble | None:
    """The hub knows no difference between large and small letters, and its cache does."""
    if "/" not in source or source.startswith(MODELSCOPE_PREFIX):
        return None
    own = repo_cache(source)
    for folder in _folders(hub_cache()):
        if folder.name.lower() == own.name.lower() and folder.name != own.name and not _same(folder, own):
            other = folder.name.removeprefix("models--").replace("--", "/")
            size = gib(folder_bytes(folder))
            remove = shlex.join(["rm", "-r", str(folder)])
            return warning("disk_other_spelling", model=source, other=other, size=size, remove=remove)
    return None


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(place for place in parent.iterdir() if place.is_dir() and not place.is_symlink())
    except OSError:
        return []


def _same(one: Path, other: Path) -> bool:
    """As on a disk that knows no difference either."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
