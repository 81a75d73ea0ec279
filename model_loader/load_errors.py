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
from model_loader.troubles import trouble

LINE_CHARS = 240


@dataclass(frozen=True, slots=True)
class Known:
    """A kind of failure, `code` in `model_loader.troubles`. `pattern` finds the line that tells it."""

    code: str
    kind: type[ModelError]
    pattern: re.Pattern[str]


def _known(code: str, kind: type[ModelError], pattern: str) -> Known:
    return Known(code, kind, re.compile(pattern))


_FAULT = _known(
    "load_card_failed",
    CardUnusable,
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|illegal instruction"
    r"|uncorrectable (ECC|NVLink)|hardware stack error|launch timed out|GPU is lost|fallen off the bus"
    r"|global/shared address space|invalid program counter|context is destroyed|over nvlink or a hardware error"
    r"|no CUDA-capable device is detected"  # any more: there was one
    r"|(CUDA (driver )?error|Triton Error \[CUDA\]): unknown error"
    r"|CU(BLAS|DNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|NOT_INITIALIZED)",
)
_FULL = _known(
    "load_card_full",
    ModelTooLarge,
    r"OutOfMemoryError|CUDA out of memory|CUDA (driver )?error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Triton Error \[CUDA\]: out of memory"
    # torch asks NVML what fills the card before it says so, which a MIG slice, a vGPU or a container may not let it
    r"|NVML_SUCCESS == .*CUDACachingAllocator",
)

# The first that matches counts: libraries name themselves in texts that quote what CUDA or the system said.
KNOWN = (
    _known(
        "load_no_card_code",
        CardUnusable,
        r"no kernel image is available|invalid device function",
    ),
    _known(
        "load_driver_old",
        CardUnusable,
        r"unsupported toolchain|[Uu]nsupported \.?(PTX|version)|driver version is insufficient"
        r"|driver .{0,20}is too old",
    ),
    _known(
        "load_no_bitsandbytes",
        SetupIncomplete,
        r"bitsandbytes native library|[Nn]ative code method attempted|[Ll]ibbitsandbytes|version of bitsandbytes"
        r"|requires bitsandbytes|No module named 'bitsandbytes|bnb_supported_devices|BNB_CUDA_VERSION"
        r"|bitsandbytes::\w+|binary found at \S*bitsandbytes",
    ),
    _known(
        "load_no_compiler",
        SetupIncomplete,
        r"Failed to find C compiler|Python\.h: No such file|cannot find -lcuda"
        r"|No such file or directory: '\S*(cc|clang)'|Command '?\[?'?\S*(cc|clang)\b.* returned non-zero",
    ),
    _FULL,
    _known(
        "load_card_held",
        CardUnusable,
        r"busy or unavailable",
    ),
    _FAULT,
    _known(
        "load_host_full",
        MachineUnfit,
        r"\bMemoryError\b|[Cc]annot allocate memory|can't allocate memory|not enough memory|bad_alloc|\(os error 12\)",
    ),
    _known(
        "load_disk_full",
        MachineUnfit,
        r"No space left on device|Disk quota exceeded|\(os error (28|122)\)",
    ),
    _known(
        "load_files_open",
        SetupIncomplete,
        r"Too many open files|\(os error 24\)",
    ),
    _known(
        "load_not_allowed",
        MachineUnfit,
        r"Permission denied|Operation not permitted|\(os error 13\)",
    ),
    _known(
        "load_no_mapping",
        MachineUnfit,
        r"\(os error 19\)|\[Errno 19\]|mmap.{0,200}No such device",
    ),
    _known(
        "load_disk_failed",
        MachineUnfit,
        r"Input/output error|Stale file handle|Transport endpoint|Structure needs cleaning"
        # after an error a disk is read-only; FAT holds no file of 4 GiB; some disks of the network have no locks
        r"|Read-only file system|File too large|No locks available|\(os error (5|27|30|37|116|117)\)",
    ),
    _known(
        "load_no_library",
        SetupIncomplete,
        r"cannot open shared object file|No module named|undefined symbol|version `GLIBC|cannot import name"
        r"|unexpected keyword argument|module '\S+' has no attribute",
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
            return known.kind(trouble(known.code, said=_cut(line, found.group()), uid=str(os.getuid())))
    return None


def of_disk(error: BaseException) -> ModelError | None:
    """What `error` says of a disk of this machine, or of its files: no other mirror would help."""
    found = known_error(error)
    told = found.trouble if found is not None else None
    codes = ["load_disk_full", "load_disk_failed"]
    if isinstance(error, OSError) and error.errno is not None:  # the system says it, and no server far away
        codes += ["load_not_allowed", "load_files_open"]
    return found if told is not None and told.code in codes else None


def is_fault(error: BaseException) -> bool:
    """Whether the card itself has failed, after which this process can do nothing with it any more."""
    return _first_known(error) is _FAULT


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card's memory did not suffice, whoever says so: torch, cuBLAS, Triton. What takes less may run."""
    return _first_known(error) is _FULL


def _first_known(error: BaseException) -> Known | None:
    text = _text(error)
    return next((known for known in KNOWN if known.pattern.search(text)), None)


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
