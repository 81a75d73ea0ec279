"""What went wrong while a model was loaded, by its own name: the card, the machine, a missing tool, or the files.

torch, CUDA, bitsandbytes, Triton and transformers raise nearly everything as RuntimeError or OSError, and what fails
while a tensor is packed transformers only logs. So the text decides, by one table. Imports no torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from model_loader.errors import (
    CardUnusable,
    LoadingFailed,
    MachineUnfit,
    ModelError,
    ModelFilesInvalid,
    ModelTooLarge,
    SetupIncomplete,
)

LINE_CHARS = 240


@dataclass(frozen=True, slots=True)
class Known:
    """A kind of failure. `pattern` finds the line that tells it; `do` is what to do about it."""

    kind: type[ModelError]
    pattern: re.Pattern[str]
    what: str
    do: str


def _known(kind: type[ModelError], pattern: str, what: str, do: str) -> Known:
    return Known(kind, re.compile(pattern), what, do)


_FAULT = _known(
    CardUnusable,
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|illegal instruction"
    r"|uncorrectable ECC|hardware stack error|launch timed out|GPU is lost|fallen off the bus"
    r"|CUDA (driver )?error: unknown error|CU(BLAS|DNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|NOT_INITIALIZED)",
    "the card failed while the model was loaded",
    "start again; if it comes back, look for Xid in `dmesg`, and try another driver or another card",
)

# The first that matches counts: libraries name themselves in texts that quote what CUDA or the system said.
KNOWN = (
    _known(
        CardUnusable,
        r"no kernel image is available|invalid device function",
        "torch or bitsandbytes has no code for this card",
        "cards of compute capability 8.0 and newer are served, with the versions of constraints.txt: install those",
    ),
    _known(
        CardUnusable,
        r"unsupported toolchain|[Uu]nsupported \.?(PTX|version)|driver version is insufficient"
        r"|driver .{0,20}is too old",
        "the NVIDIA driver is too old for this torch",
        "update the driver; `prelabel doctor` names both versions",
    ),
    _known(
        SetupIncomplete,
        r"bitsandbytes native library|[Nn]ative code method attempted|[Ll]ibbitsandbytes|version of bitsandbytes"
        r"|requires bitsandbytes|No module named 'bitsandbytes|bnb_supported_devices|BNB_CUDA_VERSION"
        r"|bitsandbytes::\w+|binary found at \S*bitsandbytes",
        "bitsandbytes, which packs weights to 4 bits, cannot be used here",
        "install the versions of constraints.txt, and unset BNB_CUDA_VERSION; `python -m bitsandbytes` says more",
    ),
    _known(
        SetupIncomplete,
        r"Failed to find C compiler|Python\.h: No such file|cannot find -lcuda"
        r"|No such file or directory: '\S*(cc|clang)'|Command '?\[?'?\S*(cc|clang)\b.* returned non-zero",
        "Triton could not build a kernel for the card",
        "install a C compiler and Python's headers (on Debian and Ubuntu: gcc and python3-dev), or name one in CC",
    ),
    _known(
        ModelTooLarge,
        r"OutOfMemoryError|CUDA out of memory|CUDA (driver )?error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "the card ran out of memory while loading",
        "end what else runs on it (`nvidia-smi` lists it), or use a larger card or a smaller model (docs/cards.md)",
    ),
    _known(
        CardUnusable,
        r"busy or unavailable",
        "another program holds the card for itself alone",
        "end that program (`nvidia-smi` lists it), or set the card's compute mode to Default: nvidia-smi -c 0",
    ),
    _FAULT,
    _known(
        MachineUnfit,
        r"\bMemoryError\b|[Cc]annot allocate memory|can't allocate memory|not enough memory|bad_alloc|\(os error 12\)",
        "this machine's own memory (not the card's) did not suffice",
        "free some, or let the container have more (--memory)",
    ),
    _known(
        MachineUnfit,
        r"No space left on device|Disk quota exceeded|\(os error (28|122)\)",
        "the disk is full",
        "free some space, or name a larger disk with HF_HOME, PRELABEL_DATA_DIR or TMPDIR",
    ),
    _known(
        SetupIncomplete,
        r"Too many open files|\(os error 24\)",
        "too many files are open",
        "raise the limit: ulimit -n 65536",
    ),
    _known(
        MachineUnfit,
        r"Permission denied|Operation not permitted|\(os error 13\)",
        "a file may not be opened",
        f"give it to the user prelabel runs as (uid {os.getuid()})",
    ),
    _known(
        MachineUnfit,
        r"Input/output error|Stale file handle|Transport endpoint|\(os error (5|116)\)",
        "the disk that holds the model does not answer as it should",
        "look into `dmesg`; copy the model to another disk (HF_HOME, PRELABEL_DATA_DIR)",
    ),
    _known(
        SetupIncomplete,
        r"cannot open shared object file|No module named|undefined symbol|version `GLIBC",
        "a library is missing or another version than needed",
        "install prelabel's dependencies again, with constraints.txt",
    ),
)  # fmt: skip

_ABOUT_FILES = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, SafetensorError, StrictDataclassError,
)  # fmt: skip
_ABOUT_SHAPES = re.compile(r"size mismatch|mismatched_sizes|shape|dimension")


def known_error(error: BaseException, logged: str = "") -> ModelError | None:
    """Return what `error`, or what was `logged` beside it, says of this machine; None where it says nothing of it.

    A ModelError is its own name.
    """
    if isinstance(error, ModelError):
        return error
    text = f"{_text(error)}\n{logged}"
    for known in KNOWN:
        if found := known.pattern.search(text):
            start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
            line = " ".join(text[start : end if end >= 0 else None].split())
            return known.kind(f"{known.what} ({_cut(line, found.group())}): {known.do}")
    return None


def is_fault(error: BaseException) -> bool:
    """Whether the card itself has failed, after which this process can do nothing with it any more."""
    text = _text(error)
    return next((known for known in KNOWN if known.pattern.search(text)), None) is _FAULT


@contextlib.contextmanager
def named_errors(what: str, happened: str = "could not be loaded") -> Iterator[None]:
    """Turn what libraries raise in this block into a ModelError: one clear line, and what to do.

    `what` `happened` is said where nothing more is known, as in "tokenizer.json could not be loaded".
    """
    with _logged_warnings() as warnings:
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            logged = "\n".join(warnings)
            raise known_error(error, logged) or _unknown(f"{what} {happened}", error) from error


def _unknown(happened: str, error: Exception) -> ModelError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = f"{happened}: {first[:300]}"
    if isinstance(error, _ABOUT_FILES) or _ABOUT_SHAPES.search(str(error)):
        return ModelFilesInvalid(f"{said}; download the checkpoint again")
    return LoadingFailed(f"{said} ({type(error).__name__}); the log has the whole error")


def _text(error: BaseException | None) -> str:
    """Kind and text of an error and of those it was raised from, a line for each."""
    lines = []
    while error is not None:
        lines.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return "\n".join(lines)


def _cut(line: str, found: str) -> str:
    """At most LINE_CHARS of `line`, with what was `found` in it."""
    if len(line) <= LINE_CHARS:
        return line
    at = max(0, line.find(found) - LINE_CHARS // 3)
    return f"...{line[at : at + LINE_CHARS]}..."


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _logged_warnings() -> Iterator[list[str]]:
    """What transformers warns of in this block: the errors of single tensors stand nowhere else."""
    logger, collector = logging.getLogger("transformers"), _Collector()
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
