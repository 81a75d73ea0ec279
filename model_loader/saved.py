"""The saved 4-bit checkpoint: 17 GB to read at the next start instead of 62 GB to read and pack.

One subfolder per source and revision under a parent folder the user names. A checkpoint is written beside its
place and renamed when it is whole, so a crash leaves no half of one. It holds what the original folder holds besides
the weights (tokenizer, image processor, chat template), so the original may be deleted.
A disk that does not answer costs the copy, and not the model that is to be saved: the thread that writes it is left
behind then. One process at a time writes a copy, though several engines may start at once on one folder. What a killed
one has left of a copy, of whatever model, the next start removes.
Imports no torch. Raises MachineUnfit when the disk has no room or does not answer, or another host has locked it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model_loader.checkpoint import Checkpoint, read_checkpoint
from model_loader.clean import checkpoint_id
from model_loader.contents import note_contents
from model_loader.errors import (
    DownloadFailed,
    MachineUnfit,
    ModelError,
    ModelFilesInvalid,
    ModelNotFound,
    UnsupportedModel,
)
from model_loader.json_text import read_object
from model_loader.left_behind import Report, watched
from model_loader.locks import held_on_another_host
from model_loader.places import free_bytes, is_empty
from model_loader.sources import GARMENTS, Resolved, local_folder, pinned_commit
from model_loader.troubles import trouble

log = logging.getLogger(__name__)

MANIFEST = "prelabel.json"
UNFINISHED = ".unfinished"
SHARD_BYTES = 2**28
"""What is written before it is known to be on the disk, and told: also what is held of it in the machine's memory."""
LIMIT_S = 600.0
"""So long nothing may reach the disk; then the model goes on without its copy."""
_LOCK = ".lock"
_OURS = re.compile(r".*-nf4-[0-9a-f]{10}")
_FORMAT = 1
_WEIGHTS_AND_CONFIG = ("model*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
_COPIED = ("*.json", "*.txt", "*.jinja", "*.model")


def place_for(parent: Path, source: str, revision: str | None) -> Path:
    """Return the subfolder of `parent` that belongs to this source and revision."""
    key = hashlib.sha256(f"{_FORMAT}\n{source}\n{revision or ''}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", source).strip("-.")[-60:]
    return parent / f"{readable}-nf4-{key}"


def find_saved(parent: Path | None, source: str, revision: str | None) -> tuple[Resolved, Checkpoint] | None:
    """As `read_saved`; None also where the copy cannot be used."""
    try:
        return read_saved(parent, source, revision)
    except ModelFilesInvalid:
        return None


def read_saved(parent: Path | None, source: str, revision: str | None) -> tuple[Resolved, Checkpoint] | None:
    """Return the saved checkpoint of this source, or None if there is none.

    Raises ModelFilesInvalid, which names it, where it is damaged, or of something else than the source is now.
    """
    if parent is None or source == GARMENTS:
        return None
    folder = place_for(parent, source, revision)
    origin = _folder(source)
    wanted = None if revision or origin is not None else pinned_commit(source)
    try:
        manifest = read_object(folder / MANIFEST)
        if manifest.get("origin") != _origin(origin, source, manifest) or wanted not in (None, manifest.get("commit")):
            raise ModelFilesInvalid(f"{source} has changed since it was made")
        checkpoint = read_checkpoint(folder)
    except (OSError, ModelError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.exists(folder):
            return None
        raise ModelFilesInvalid(f"the 4-bit copy {folder} cannot be used ({error})") from error
    name, commit = str(manifest.get("name", source)), str(manifest.get("commit", ""))
    return Resolved(name, folder, commit, str(manifest.get("weights_id", ""))), checkpoint


@contextlib.contextmanager
def instead_of_copy(trouble: str) -> Iterator[None]:
    """Where there is no original in this block either, the `trouble` of its copy is told beside that."""
    try:
        yield
    except (ModelNotFound, DownloadFailed) as error:
        if not trouble:
            raise
        raise type(error)(f"{error}. An earlier start saved a copy that would do, but {trouble}") from error


@contextlib.contextmanager
def blamed_on(copy: Path | None) -> Iterator[None]:
    """What is wrong with files while a 4-bit `copy` is loaded is wrong with the copy: to download the original again
    would change nothing, as the next start would take the copy again. None: it is the original that is loaded."""
    try:
        yield
    except (ModelFilesInvalid, UnsupportedModel) as error:
        if copy is None:
            raise
        raise ModelFilesInvalid(
            f"the 4-bit copy that an earlier start saved cannot be loaded ({error}). Whatever that says of a download, "
            f"remove the copy and start again, and it is made anew: rm -r {copy}"
        ) from error


def save(
    model: Any,
    original: Checkpoint,
    resolved: Resolved,
    place: Path,
    source: str,
    on_fraction: Report = lambda fraction: None,
    *,
    shard_bytes: int = SHARD_BYTES,
    sync: Callable[[int], None] = os.fsync,
    limit_s: float = LIMIT_S,
) -> None:
    """Write the packed `model` and the small files of `original` to `place`, all or nothing.

    One shard at a time goes through this machine's own memory. Everything is on the disk (`sync`) before it has its
    name: else a power cut could leave files of the right size that hold nothing, and answers made of them. Where
    another process has written the same copy, or is at it, nothing is done. `on_fraction` is told what share of
    `moved_bytes` is on the disk, and read again; where nothing comes for `limit_s`, MachineUnfit is raised.
    """

    def write(report: Report) -> None:
        _save(model, original, resolved, place, source, report, shard_bytes, sync)

    def silent() -> None:
        raise MachineUnfit(trouble("disk_stands_still", folder=str(place.parent), limit=f"{limit_s:.0f}"))

    watched(write, on_fraction, limit_s, silent)


def moved_bytes(model: Any) -> int:
    """What saving `model` writes, and reads again to note what it holds."""
    return 2 * int(model.get_memory_footprint())


def _save(
    model: Any,
    original: Checkpoint,
    resolved: Resolved,
    place: Path,
    source: str,
    report: Report,
    shard_bytes: int,
    sync: Callable[[int], None],
) -> None:
    manifest = {"name": resolved.name, "source": source, "commit": resolved.commit, "format": _FORMAT}
    manifest["weights_id"] = checkpoint_id(original)
    manifest["origin"] = _origin(_folder(source), source, manifest)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = place.with_name(place.name + _LOCK)
    try:
        with FileLock(lock, blocking=False):
            try:
                if not _is_there(place, manifest):
                    _write(model, original, place, manifest, report, shard_bytes, sync)
            finally:
                lock.unlink(missing_ok=True)  # who has it open already finds the copy there
    except Timeout:
        if (found := held_on_another_host(lock)) is not None:
            raise MachineUnfit(found) from None
        log.info("another start is saving the 4-bit copy: %s", place)


def copies_in(parent: Path, ending: str = "") -> list[Path]:
    """The copies there, of whatever models; with an `ending`, what has the name of one with that. Only what `place_for`
    names: other folders are not ours."""
    try:
        found = [place for place in parent.iterdir() if _OURS.fullmatch(place.name.removesuffix(ending))]
    except OSError:
        return []
    return [one for one in found if one.name.endswith(ending) and one.is_dir() and not one.is_symlink()]


def folder_bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += file.lstat().st_size
    return total


def unfinished_bytes(parent: Path) -> int:
    """What `remove_unfinished` gives back."""
    return sum(folder_bytes(half) for half in copies_in(parent, UNFINISHED))


def remove_unfinished(parent: Path) -> None:
    """Remove what killed starts have left of copies in `parent`: up to 20 GiB each, of whatever model.

    What another process is writing is left alone; what cannot be removed, or another host has locked, is named in the
    log.
    """
    for half in copies_in(parent, UNFINISHED):
        lock = half.with_name(half.name.removesuffix(UNFINISHED) + _LOCK)
        try:
            with FileLock(lock, blocking=False):
                size_bytes = folder_bytes(half)
                shutil.rmtree(half)
                lock.unlink(missing_ok=True)
        except Timeout:
            if (found := held_on_another_host(lock)) is not None:
                log.warning("%s", found)
        except OSError as error:
            said = error.strerror or error
            log.warning(
                "half a 4-bit copy of a killed start cannot be removed (%s): remove it yourself: %s", said, half
            )
        else:
            log.info("half a 4-bit copy of a killed start is removed: %s (%.1f GiB)", half, size_bytes / 2**30)


def _is_there(place: Path, manifest: dict[str, Any]) -> bool:
    try:
        read_checkpoint(place)
        return read_object(place / MANIFEST) == manifest
    except (OSError, ModelError):
        return False


def _write(
    model: Any,
    original: Checkpoint,
    place: Path,
    manifest: dict[str, Any],
    report: Report,
    shard_bytes: int,
    sync: Callable[[int], None],
) -> None:
    from model_loader.bars import WRITTEN, told_bars  # transformers, which is there where a model is

    unfinished = place.with_name(place.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)  # of another process that was killed since this one began
    needed, free = model.get_memory_footprint(), free_bytes(place.parent)
    if needed * 1.05 > free:
        raise MachineUnfit(
            f"the 4-bit copy needs {needed / 2**30:.1f} GiB, and {place.parent} has room for {free / 2**30:.1f} GiB"
        )
    moved, total = 0, moved_bytes(model)
    safe: set[Path] = set()

    def count(num_bytes: int) -> None:
        nonlocal moved
        moved += num_bytes
        report(moved / total)

    def written(shard: tuple[str, Any]) -> None:
        file = unfinished / shard[0]
        _to_disk(file, sync)
        safe.add(file)
        count(file.stat().st_size)

    unfinished.mkdir()
    try:
        with told_bars({WRITTEN: written}):
            model.save_pretrained(unfinished, max_shard_size=shard_bytes)
        for file in _small_files(original.folder):
            shutil.copyfile(file, unfinished / file.name)
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        note_contents(unfinished, count)
        for file in {*unfinished.iterdir(), unfinished} - safe:
            _to_disk(file, sync)
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _folder(source: str) -> Path | None:
    """The folder that `source` names now; None for a hub id, and for a folder that is gone, or empty, as a mount point
    is without its disk."""
    try:
        folder = local_folder(source)
    except ModelError:
        return None
    return None if folder is None or is_empty(folder) else folder


def _origin(folder: Path | None, source: str, manifest: dict[str, Any]) -> str:
    """What the original was: the `files_id` of `folder`, else a hub commit.

    A folder that is gone or empty keeps its recorded value: the packed copy outlives the original. One that is there
    now counts, also where the copy was made of the hub's model of that name.
    """
    if folder is None:
        return str(manifest.get("commit") or manifest.get("origin", source))
    return files_id(folder)


def files_id(folder: Path) -> str:
    """What tells that files of a model were replaced: names, sizes and times of all that is taken of `folder`."""
    files = {folder / "config.json", *folder.glob("*.safetensors"), *_small_files(folder)}
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files) if file.is_file()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _small_files(original: Path) -> list[Path]:
    """What a copy has from the original as it is."""
    found = [file for pattern in _COPIED for file in original.glob(pattern) if file.is_file()]
    return [file for file in found if not any(file.match(kept) for kept in _WEIGHTS_AND_CONFIG)]


def _to_disk(path: Path, sync: Callable[[int], None]) -> None:
    """Of a file or a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        sync(opened)
    finally:
        os.close(opened)
