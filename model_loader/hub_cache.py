"""What of a model lies in the local cache of the Hugging Face hub: no network, and whoever has filled it.

A cache may be copied from another machine without its refs, with links that lead nowhere, or in part: what is missing
is named. `cached_snapshot` raises ModelNotFound, `check_locks` DownloadFailed; the others raise nothing.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME
from model_loader.errors import DownloadFailed, ModelNotFound, shorten
from model_loader.locks import held_on_another_host, is_held, was_written_lately

log = logging.getLogger(__name__)

NEEDED = ("config.json", "tokenizer.json", "preprocessor_config.json")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HALF = ".incomplete"
_GIB = 2**30


def hub_cache() -> Path:
    """Where huggingface_hub keeps all models."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_cache(repo: str) -> Path:
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def cached_commit(repo: str, revision: str | None = None) -> str | None:
    """The commit that the cache has for `revision`. Without one: that of the first download, or the only one there."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision if revision in _commits(repo) else None
    try:
        named = (repo_cache(repo) / "refs" / (revision or "main")).read_text("utf-8").strip()
    except (OSError, ValueError):
        named = ""
    found = _commits(repo)
    if named in found:
        return named
    return found[0] if revision is None and len(found) == 1 else None


def cached_config(repo: str) -> Path | None:
    """The path of config.json of `repo`, or None."""
    commit = cached_commit(repo)
    file = repo_cache(repo) / "snapshots" / str(commit) / "config.json"
    return file if commit is not None and os.path.isfile(file) else None


def cached_snapshot(repo: str, revision: str | None) -> Path:
    """The folder of `repo` where nothing is missing in it. Raises ModelNotFound, which names what is."""
    commit, there = cached_commit(repo, revision), _commits(repo)
    if commit is None and not there:
        raise ModelNotFound(f"the cache has nothing of {repo}: copy the whole folder {repo_cache(repo)} there")
    if commit is None:
        wanted = revision or "no revision that is named main"
        raise ModelNotFound(
            f"the cache has {repo} at {shorten(there, limit=3)} but not at {wanted}: name one of those in "
            f"PRELABEL_MODEL_REVISION, or copy the whole folder {repo_cache(repo)}, its refs too"
        )
    folder = repo_cache(repo) / "snapshots" / commit
    if missing := missing_files(folder):
        raise ModelNotFound(
            f"the cache has {repo} only in part: {shorten(missing)} missing in {folder}; what lies there are links "
            "into blobs, which must be copied, too"
        )
    return folder


def missing_files(folder: Path) -> list[str]:
    """Names of the files that loading needs and `folder` lacks; a link that leads nowhere is no file, and neither is
    what one must not look at: os.path says so, pathlib raises."""
    if os.path.isfile(folder / SINGLE_NAME):
        shards = []
    elif not os.path.isfile(folder / INDEX_NAME):
        shards = [INDEX_NAME]
    else:
        try:
            weight_map = json.loads((folder / INDEX_NAME).read_bytes())["weight_map"]
            shards = sorted({str(name) for name in weight_map.values()})
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            shards = []  # damaged: `read_checkpoint` says how
    return [name for name in (*NEEDED, *shards) if not os.path.isfile(folder / name)]


def cached_bytes(repo: str) -> int:
    """Bytes of the whole files of `repo`. Where a disk has no links, or who copied it followed them, they lie in the
    snapshots themselves."""
    return max(
        _size(blob for blob in _blobs(repo) if blob.suffix != _HALF),
        *(_size(_entries(repo_cache(repo) / "snapshots" / commit)) for commit in _commits(repo)),
        0,
    )


def commit_bytes(repo: str, revision: str | None) -> int:
    """Bytes of the whole files of `repo` at `revision`, None for what a start without one takes. Where the cache has
    several commits and does not say which that is, none of them is counted."""
    commit = cached_commit(repo, revision)
    return 0 if commit is None else _size(_entries(repo_cache(repo) / "snapshots" / commit))


def half_bytes(repos: Iterable[str]) -> int:
    """Bytes of the halves that `remove_halves` removes at the next start."""
    return _size(blob for repo in repos for blob in _blobs(repo) if blob.suffix == _HALF)


def remove_halves(repos: Iterable[str]) -> None:
    """Remove what killed starts have left of files of `repos`: as much as eight shards, 4 GB each, at every kill.

    huggingface_hub begins such a file anew, under another name. It locks what it downloads, so what another process is
    at is left alone.
    """
    for repo in repos:
        locks = _lock_folder(repo)
        for half in [blob for blob in _blobs(repo) if blob.suffix == _HALF]:
            try:
                locks.mkdir(parents=True, exist_ok=True)
                with FileLock(locks / f"{half.name.partition('.')[0]}.lock", blocking=False):
                    size_bytes = half.stat().st_size
                    half.unlink()
            except Timeout:
                continue  # it is being downloaded
            except OSError as error:
                log.warning("half a file of an earlier download cannot be removed: %s", error)
            else:
                log.info("half a file of a download that was ended is removed: %.1f GiB", size_bytes / _GIB)


def is_downloaded_elsewhere(repo: str) -> bool:
    """Whether another process is downloading files of `repo`, for which huggingface_hub then waits in silence."""
    return any(map(is_held, _locks(repo)))


def check_locks(repo: str) -> None:
    """Raise DownloadFailed where a process of another host holds the lock of a file of `repo` that is not whole here.

    It may pass while that process writes, or has begun lately; else it was ended.
    """
    whole = {blob.name for blob in _blobs(repo) if blob.suffix != _HALF}
    for lock in (lock for lock in _locks(repo) if lock.stem not in whole):
        if (found := held_on_another_host(lock)) is not None:
            halves = [blob for blob in _blobs(repo) if blob.name.startswith(lock.stem) and blob.suffix == _HALF]
            raise DownloadFailed(found, may_pass=was_written_lately([lock, *halves]))


def _locks(repo: str) -> list[Path]:
    return _entries(_lock_folder(repo))


def _lock_folder(repo: str) -> Path:
    return hub_cache() / ".locks" / repo_cache(repo).name


def _commits(repo: str) -> list[str]:
    return sorted(place.name for place in _entries(repo_cache(repo) / "snapshots") if _COMMIT.fullmatch(place.name))


def _blobs(repo: str) -> list[Path]:
    return _entries(repo_cache(repo) / "blobs")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _size(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:  # gone meanwhile
            continue
    return total
