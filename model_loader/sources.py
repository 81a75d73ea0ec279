"""Where a model comes from: a name as people write it -> a folder on this machine.

`garments` (the small built-in model), a folder, a hub id `owner/name`, or `modelscope:owner/name`; which of them `auto`
is, says `choice`. Knows nothing of tensors and cards.
Raises ModelNotFound, DownloadFailed, UnsafeModelFiles, and whatever `inspect` raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader.checkpoint import read_config, refuse_remote_code
from model_loader.clean import check_small_files
from model_loader.errors import ModelNotFound
from model_loader.geometry import COMMITS, DEFAULT_MODEL, shipped_config
from model_loader.hub import fetch_from_hub, fetch_from_modelscope
from model_loader.hub_cache import cached_config
from model_loader.left_behind import Report
from model_loader.places import expanded

AUTO = "auto"
GARMENTS = "garments"
GARMENTS_CHECKPOINT = Path(__file__).parent / "garments" / "checkpoint"
MODELSCOPE_PREFIX = "modelscope:"
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checkpoint folder on this machine. `name` goes into the model version; `commit` is "" for a folder.

    `weights_id` is that of the original's files where `folder` holds its packed copy, else "".
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
    on_fraction: Callable[[int], Report] = lambda num_bytes: lambda fraction: None,
) -> Resolved:
    """Return the folder of `source`, downloading it if it is a hub id that is not in the cache.

    Before any weights are fetched, what the small files say alone is refused, and `inspect` gets the parsed
    config.json. `revision` is a commit, tag or branch of a hub id; a folder has none and it is ignored. Without one,
    those of COMMITS are taken at the commit they were chosen with, others as `fetch_from_hub` says.
    """

    def look(folder: Path) -> None:
        refuse_remote_code(folder)
        check_small_files(folder)
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
    return {model.lower(): commit for model, commit in COMMITS.items()}.get(source.lower())


def local_folder(source: str) -> Path | None:
    """Return the folder `source` names, or None for a hub id. Raises ModelNotFound if it is neither."""
    if source == GARMENTS:
        return GARMENTS_CHECKPOINT
    if source.startswith(MODELSCOPE_PREFIX):
        if _HUB_ID.fullmatch(source.removeprefix(MODELSCOPE_PREFIX)):
            return None
        raise ModelNotFound(f"{source!r} is no ModelScope id; write modelscope:owner/name")
    path = expanded(source)
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
