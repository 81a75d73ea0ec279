"""Downloads: a checkpoint from the Hugging Face hub (or the mirror HF_ENDPOINT names), or from ModelScope.

Only the files loading needs: JSON, tokenizer text, chat template and .safetensors; never pickles or code. The small
files come first, so that a checkpoint we would refuse is refused before its 62 GB are fetched. huggingface_hub itself
honours HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, and checks sizes. A file that an earlier start has whole is
not fetched again; half a file cannot be gone on with (`hub_cache` removes it). Raises ModelNotFound or DownloadFailed,
whose texts hold no token, and MachineUnfit where it is the disk that has failed.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_loader.checkpoint import read_config
from model_loader.errors import DownloadFailed, ModelError, ModelNotFound
from model_loader.geometry import geometry_from_config
from model_loader.hub_cache import (
    cached_commit,
    cached_snapshot,
    check_locks,
    hub_cache,
    is_downloaded_elsewhere,
)  # fmt: skip
from model_loader.left_behind import Report, watched
from model_loader.load_errors import of_disk
from model_loader.memory import SIXTEEN_BIT
from model_loader.places import free_bytes
from model_loader.spellings import CACHE, OFFLINE, TOKEN, heeded

log = logging.getLogger(__name__)

SMALL_FILES = ["*.json", "*.txt", "*.jinja", "*.model"]
WEIGHTS = [*SMALL_FILES, "*.safetensors"]
_GIB = 2**30
_BUSY = frozenset({408, 425, 429})
_CLIENTS = {"httpx", "httpx2", "httpcore", "requests", "urllib3"}
_NEVER = re.compile(r"CERTIFICATE_VERIFY_FAILED|UnsupportedProtocol|InvalidURL|(Invalid|Missing)Schema|InvalidProxyURL")
"""What stays wrong until somebody corrects a setting or a clock."""
_SECRET = re.compile(r"hf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s]+@")

SILENCE_S = 30.0


def fetch_from_hub(
    repo: str,
    revision: str | None,
    *,
    inspect: Callable[[Path], None],
    on_fraction: Callable[[int], Report],
    silence_s: float = SILENCE_S,
) -> Path:
    """Return the snapshot folder of `repo` (its name is the commit), downloaded if it is not in the cache yet.

    Without a `revision` it is the commit that the cache has, else the newest: what is put in `repo` later changes
    nothing. `inspect` sees the folder when only the small files are there, and may raise to stop. `on_fraction` is
    told how many bytes have to be fetched, if any; what it returns is told the fraction 0..1. Where none comes for
    `silence_s`, another host may hold a lock, which is looked for. Where the hub must not or cannot be asked, what the
    cache has is taken, if it is whole.
    """
    if revision is None:
        revision = cached_commit(repo)
    try:
        return _fetch(repo, revision, inspect, on_fraction, silence_s)
    except _Unreachable as error:
        try:
            folder = cached_snapshot(repo, revision)
        except ModelNotFound as lacking:
            raise _not_here(repo, revision, error, lacking) from error
        log.info("%s is whole in the cache, and the hub is not asked: %s", repo, error.why or f"{_offline()} is set")
        inspect(folder)
        return folder


class _Unreachable(Exception):
    """`why` the hub cannot be asked; "" where it must not be. `may_pass`: by itself."""

    def __init__(self, why: str, may_pass: bool = False) -> None:
        super().__init__(why)
        self.why, self.may_pass = why, may_pass


def _fetch(
    repo: str,
    revision: str | None,
    inspect: Callable[[Path], None],
    on_fraction: Callable[[int], Report],
    silence_s: float,
) -> Path:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _Unreachable("")
    check_locks(repo)
    folder = Path(_snapshot(repo, revision, allow_patterns=SMALL_FILES))
    log.info("%s is taken at the commit %s", repo, folder.name)
    inspect(folder)
    pinned = folder.name  # the commit: the weights must belong to the small files just inspected
    missing_bytes = _missing_bytes(repo, pinned)
    if missing_bytes == 0:
        log.info("%s is in the cache already", repo)
        return folder
    if is_downloaded_elsewhere(repo):
        log.warning("another program is downloading %s into the same cache: its files are waited for", repo)

    def download(report: Report) -> None:
        _snapshot(repo, pinned, allow_patterns=WEIGHTS, tqdm_class=_byte_counter(missing_bytes, report))

    # huggingface_hub waits in silence for a lock that is taken meanwhile, and for ever
    watched(download, on_fraction(missing_bytes), silence_s, lambda: check_locks(repo))
    return folder


def fetch_from_modelscope(
    repo: str, revision: str | None, *, inspect: Callable[[Path], None], on_fraction: Callable[[int], Report]
) -> Path:
    """As `fetch_from_hub`, through the optional `modelscope` package, which checks what it downloads itself.

    It knows no switch of OFFLINE; whoever set one wants nothing to be downloaded from anywhere.
    """
    from huggingface_hub import constants

    try:
        from modelscope import snapshot_download
    except ImportError as error:
        raise ModelError(
            "modelscope: needs the optional package modelscope; add it to prelabel's environment"
        ) from error

    def fetch(patterns: list[str], **options: Any) -> Path:
        try:
            return Path(snapshot_download(model_id=repo, revision=revision, allow_patterns=patterns, **options))
        except Exception as error:  # modelscope raises bare Exceptions, requests' errors and its own
            by_file: dict[str, Exception] = getattr(error, "failed_files", None) or {}
            first = next(iter(by_file.values()), error)  # its own text only counts the files
            said = f"ModelScope did not deliver {repo}: {_one_line(first)}"
            raise of_disk(first) or DownloadFailed(said, may_pass=_may_pass(first)) from error

    if constants.HF_HUB_OFFLINE:
        try:
            folder = fetch(WEIGHTS, local_files_only=True)
        except DownloadFailed as error:
            raise ModelNotFound(f"{_offline()} is set, and {error}. Without it the model is downloaded") from error
        inspect(folder)
        return folder  # whether it is whole, `read_checkpoint` says
    folder = fetch(SMALL_FILES)
    inspect(folder)
    whole = geometry_from_config(read_config(folder)).total * SIXTEEN_BIT
    have = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())  # parts of files, too
    missing_bytes = max(0, round(whole) - have)
    _need_room(repo, missing_bytes, folder, "MODELSCOPE_CACHE")
    counter = _counter_of_files(missing_bytes, on_fraction(missing_bytes))
    return fetch(WEIGHTS, progress_callbacks=[counter])


def _snapshot(repo: str, revision: str | None, **options: Any) -> Any:
    """Call snapshot_download, its errors turned into ours. Subfolders (other formats of the weights) are left out."""
    from huggingface_hub import errors, snapshot_download

    where = repo if revision is None else f"{repo} at revision {revision}"
    try:
        return snapshot_download(repo, revision=revision, ignore_patterns=["*/*"], **options)
    except errors.GatedRepoError as error:
        raise ModelNotFound(f"{repo} asks for permission: accept its licence on its page and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{repo} has no revision {revision!r}; name a commit, tag or branch of it in PRELABEL_MODEL_REVISION "
            "(main: the newest)"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelNotFound(f"the hub has no model {repo}; check the spelling, or set HF_TOKEN if private") from error
    except (errors.LocalEntryNotFoundError, errors.DryRunError) as error:
        raise _Unreachable(_one_line(error.__cause__ or error), _may_pass(error)) from error
    except (OSError, errors.XetDownloadError) as error:  # HfHubHTTPError and connection errors are OSErrors
        raise of_disk(error) or DownloadFailed(
            f"the download of {where} failed ({_one_line(error)}); {_remedy(error)}",
            may_pass=_may_pass(error),
        ) from error
    except UnicodeEncodeError as error:  # of the only header that is not our own
        said = f"the download of {where} failed: a token is of ASCII alone; {_correct_token()}"
        raise DownloadFailed(said) from error
    except ValueError as error:  # a reply that is no JSON
        raise _Unreachable(
            f"what answered is no hub, but perhaps a network's login page: {_one_line(error)}"
        ) from error
    except Exception as error:
        if _root(error) in _CLIENTS:
            raise _Unreachable(_one_line(error), _may_pass(error)) from error
        raise


def _remedy(error: BaseException) -> str:
    if getattr(getattr(error, "response", None), "status_code", None) == 401:
        return f"the hub refuses the token: {_correct_token()}"
    return "start again for the files that are missing, or set HF_ENDPOINT to a mirror you can reach"


def _correct_token() -> str:
    from huggingface_hub import constants

    name, needless = heeded(TOKEN), "the models of docs/cards.md need none"
    return f"correct {name}, or unset it; {needless}" if name else f"remove {constants.HF_TOKEN_PATH}; {needless}"


def _offline() -> str:
    """The name of the switch that is on."""
    return heeded(OFFLINE) or OFFLINE[0]


def _may_pass(error: BaseException) -> bool:
    """Whether it may pass by itself: the connection was lost, or a server is busy or down."""
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(getattr(seen, "response", None), "status_code", None)
        if status is not None:
            return status >= 500 or status in _BUSY
        if _NEVER.search(f"{type(seen).__name__}: {seen}"):
            return False
        if isinstance(seen, ConnectionError | TimeoutError) or _root(seen) in _CLIENTS:
            return True
        if type(seen).__name__ == "XetDownloadError" or "Consistency check failed" in str(seen):  # cut short
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _root(error: BaseException) -> str:
    return type(error).__module__.split(".")[0]


def _not_here(repo: str, revision: str | None, unreachable: _Unreachable, lacking: ModelNotFound) -> ModelError:
    """The hub cannot be asked, and the cache lacks something."""
    why = unreachable.why
    if not why:
        return ModelNotFound(
            f"{_offline()} is set, and {lacking}. {heeded(CACHE) or 'HF_HOME'} names the cache's folder; without "
            f"{_offline()} what is missing is downloaded"
        )
    where = repo if revision is None else f"{repo} at revision {revision}"
    remedy = (
        "check the network, HTTPS_PROXY and HF_ENDPOINT (each begins with http:// or https://), or set HF_ENDPOINT to "
        "a mirror"
    )
    if "CERTIFICATE" in why.upper():
        remedy = (
            f"is this machine's clock right? It says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. For an authority of your "
            "own, as of a proxy, set SSL_CERT_FILE to a PEM file with it and the usual ones"
        )
    said = f"the hub could not be reached for {where} ({why}); {remedy}; {lacking}"
    return DownloadFailed(said, may_pass=unreachable.may_pass)


def _missing_bytes(repo: str, commit: str) -> int:
    """Bytes still to fetch. Raises DownloadFailed when the disk has no room for them."""
    files = _snapshot(repo, commit, allow_patterns=WEIGHTS, dry_run=True)
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    _need_room(repo, missing, hub_cache(), heeded(CACHE) or "HF_HOME")
    return missing


def _need_room(repo: str, missing_bytes: int, cache: Path, setting: str) -> None:
    if missing_bytes > (free := free_bytes(cache)):
        raise DownloadFailed(
            f"{repo} still needs {missing_bytes / _GIB:.1f} GiB but {cache} has room for {free / _GIB:.1f} GiB; "
            f"free some space or set {setting} to a larger disk",
            lacks_room=True,
        )


def _counter_of_files(total_bytes: int, report: Report) -> type:
    """Return a class of which modelscope makes one for each file: together they report bytes / `total_bytes`."""
    received, lock = 0, threading.Lock()

    class Counter:
        def __init__(self, filename: str, file_size: int) -> None:
            pass

        def update(self, size: int) -> None:
            nonlocal received
            with lock:
                received += size
                report(received / max(total_bytes, 1))

        def end(self) -> None:
            pass

    return Counter


def _byte_counter(total_bytes: int, report: Report) -> type:
    """Return a tqdm class that draws nothing and reports bytes / `total_bytes`.

    huggingface_hub opens several bars (files, bytes received, bytes written): the furthest byte bar counts.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Counter(tqdm):
        monitor_interval = 0  # no monitor thread

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("unit") == "B"
            self._bytes = 0.0
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "mininterval": 3600.0})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and n:
                self._bytes += n
                report(self._bytes / max(total_bytes, 1))
            drawn: bool | None = super().update(n)
            return drawn

    return Counter


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return _SECRET.sub("***", text)[:300]
