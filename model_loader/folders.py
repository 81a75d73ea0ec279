"""Folders that a start writes to: whether they can be written is said before a download, not after it.

Each is named by the setting that moves it. Nothing is left in them. Raises nothing.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from model_loader.checkpoint import read_config
from model_loader.errors import ModelError
from model_loader.hub_cache import cached_commit, missing_files, repo_cache
from model_loader.places import expanded, nearest, why_unwritable
from model_loader.saved import find_saved, place_for
from model_loader.sources import GARMENTS, MODELSCOPE_PREFIX, local_folder, pinned_commit
from model_loader.spellings import CACHE, heeded
from model_loader.troubles import Trouble, trouble

Link = Callable[[str, str], None]
COPIES = "PRELABEL_QUANTISED_DIR"


def map_code(file: int) -> None:
    """As a library is loaded. Raises OSError."""
    mmap.mmap(file, 1, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()


def unwritable_folders(
    source: str,
    revision: str | None,
    copies: Path | None,
    *,
    on_card: bool,
    link: Link = os.symlink,
    run: Callable[[int], None] = map_code,
) -> list[Trouble]:
    """What cannot be written of all that the next start of `source` puts somewhere, or has no links and needs them, or
    runs no code and is to; `copies`: where 4-bit copies go.

    `link` makes a symbolic link, which not every disk has; `run` is `map_code`.
    """
    wanted: list[tuple[str, Path]] = []
    if source != GARMENTS and find_saved(copies, source, revision) is None:
        if _is_to_be_downloaded(source, revision):
            setting, folder = download_place(source)
            wanted += [(setting, folder), (setting, _own_folder(source, folder))]
        if copies is not None and not _is_packed(source):
            wanted.append((COPIES, place_for(copies, source, revision).parent))
    if on_card:
        wanted.append(kernel_place())
    found: dict[str, tuple[Path, str]] = {}
    for setting, folder in wanted:
        if setting not in found and (why := why_unwritable(folder)):
            found[setting] = folder, why
    without_links: list[Trouble] = []
    try:
        temporary = tempfile.gettempdir()
        if why := why_no_links(temporary, link):
            without_links.append(trouble("folder_no_links", setting="TMPDIR", folder=temporary, reason=why))
    except OSError as error:
        found["TMPDIR"] = (Path(os.environ.get("TMPDIR") or "/tmp"), error.strerror or str(error))  # noqa: S108
    uid = str(os.getuid())
    unwritable = [
        trouble("folder_unwritable", setting=setting, folder=str(folder), reason=why, uid=uid)
        for setting, (folder, why) in found.items()
    ]
    without_code: list[Trouble] = []
    setting, folder = kernel_place()
    if on_card and setting not in found and (why := why_no_code(folder, run)):
        without_code.append(trouble("folder_no_code", setting=setting, folder=str(folder), reason=why))
    return [*unwritable, *without_links, *without_code]


def why_no_links(folder: str, link: Link = os.symlink) -> str:
    """Why `folder` can hold no symbolic links, which `clean.clean_folder` is made of; "" where it can. Raises OSError
    where it cannot be written at all."""
    with tempfile.TemporaryDirectory(prefix="prelabel-", dir=folder) as place:
        try:
            link(folder, os.path.join(place, "link"))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def why_no_code(folder: Path, run: Callable[[int], None] = map_code) -> str:
    """Why no code in `folder`, or in the one it is to be made in, may be run, as where its disk is mounted noexec; ""
    where it may. It can be written."""
    with tempfile.TemporaryFile(dir=nearest(folder)) as probe:
        probe.write(b"1")
        probe.flush()
        try:
            run(probe.fileno())
        except OSError as error:
            return error.strerror or str(error)
    return ""


def download_place(model: str) -> tuple[str, Path]:
    """Where `model` is downloaded to, and the setting that says so."""
    if model.startswith(MODELSCOPE_PREFIX):
        return "MODELSCOPE_CACHE", expanded(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope")
    if setting := heeded(CACHE):
        return setting, expanded(os.path.expandvars(os.environ[setting]))
    return "HF_HOME", expanded(os.path.expandvars(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "huggingface"


def kernel_place() -> tuple[str, Path]:
    """Where Triton keeps the kernels that it builds, and the setting that says so."""
    if own := os.environ.get("TRITON_CACHE_DIR"):
        return "TRITON_CACHE_DIR", Path(own)
    return "TRITON_CACHE_DIR", expanded(os.environ.get("TRITON_HOME") or "~") / ".triton" / "cache"


def _own_folder(source: str, cache: Path) -> Path:
    """Where the files of `source` go within `cache`: another user may have made it."""
    return cache if source.startswith(MODELSCOPE_PREFIX) else repo_cache(source) / "blobs"


def _is_to_be_downloaded(source: str, revision: str | None) -> bool:
    try:
        if local_folder(source) is not None:
            return False
    except (OSError, ModelError):
        return False
    if source.startswith(MODELSCOPE_PREFIX):
        return True
    commit = cached_commit(source, revision or pinned_commit(source))
    return commit is None or bool(missing_files(repo_cache(source) / "snapshots" / commit))


def _is_packed(source: str) -> bool:
    """Whether it is a folder of 4-bit weights, of which no copy is made."""
    try:
        folder = local_folder(source)
        return folder is not None and read_config(folder).get("quantization_config") is not None
    except (OSError, ModelError):
        return False
