"""What fails while a model is loaded is named for what it is; only what speaks of the files says to download again.

The texts are those that torch, CUDA, bitsandbytes, Triton, safetensors and the system give.
"""

from __future__ import annotations

import errno
import logging
import os
from subprocess import CalledProcessError

import pytest
import torch
from safetensors import SafetensorError

from model_loader.errors import (
    CardUnusable,
    LoadingFailed,
    MachineUnfit,
    ModelError,
    ModelFilesInvalid,
    ModelNotFound,
    ModelTooLarge,
    SetupIncomplete,
)
from model_loader.load_errors import is_fault, known_error, named_errors

ASYNCHRONOUS = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 768.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 412.81 MiB is "
    "free. Process 4242 has 9.93 GiB memory in use."
)
NO_BINARY = (
    "\n🚨 CUDA VERSION MISMATCH 🚨\nRequested CUDA version:          14.0\nDetected PyTorch CUDA version:   14.0\n\n"
    "Attempted to use bitsandbytes native library functionality but it's not available.\n\nThis typically happens "
    "when:\n1. bitsandbytes doesn't ship with a pre-compiled binary for your CUDA version\n"
    "Original error: No compatible CUDA binary found at /venv/bitsandbytes/libbitsandbytes_cuda140.so\n\n"
    "Native code method attempted to call: lib.cquantize_blockwise_bf16_nf4()"
)
NO_LIBRARY = (
    "\n🚨 CUDA SETUP ERROR: Missing dependency: libcusparse.so.12 🚨\n\nOriginal error: libcusparse.so.12: cannot open "
    "shared object file: No such file or directory\n\n🔍 Run this command for detailed diagnostics:\npython -m "
    "bitsandbytes\n\nNative code method attempted to call: lib.cquantize_blockwise_bf16_nf4()"
)
NO_HOST_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:132] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "805306368 bytes. Error code 12 (Cannot allocate memory)"
)
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (RuntimeError("CUDA error: no kernel image is available for execution on the device" + ASYNCHRONOUS),
         CardUnusable, "has no code for this card"),
        (RuntimeError("Error no kernel image is available for execution on the device at line 479 in file /ops.cu"),
         CardUnusable, "compute capability 8.0"),
        (RuntimeError("CUDA error: the provided PTX was compiled with an unsupported toolchain." + ASYNCHRONOUS),
         CardUnusable, "the NVIDIA driver is too old for this torch"),
        (RuntimeError(TOO_OLD), CardUnusable, "update the driver"),
        (RuntimeError("CUDA error: an illegal memory access was encountered" + ASYNCHRONOUS),
         CardUnusable, "the card failed while the model was loaded (RuntimeError: CUDA error: an illegal memory"),
        (RuntimeError("CUDA error: device-side assert triggered" + ASYNCHRONOUS), CardUnusable, "look for Xid"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered" + ASYNCHRONOUS), CardUnusable, "another card"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`"),
         CardUnusable, "the card failed"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable" + ASYNCHRONOUS),
         CardUnusable, "another program holds the card for itself alone"),
        (torch.OutOfMemoryError(OUT_OF_MEMORY), ModelTooLarge, "nvidia-smi"),
        (RuntimeError("CUDA error: out of memory" + ASYNCHRONOUS), ModelTooLarge, "the card ran out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
         ModelTooLarge, "the card ran out of memory"),
        (RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/c10/cuda/CUDACachingAllocator.cpp":1165, please'),
         ModelTooLarge, "the card ran out of memory"),
        (MemoryError(), MachineUnfit, "this machine's own memory (not the card's)"),
        (RuntimeError(NO_HOST_MEMORY), MachineUnfit, "--memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), MachineUnfit, "this machine's own memory"),
        (RuntimeError("unable to mmap 4294967296 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
         MachineUnfit, "this machine's own memory"),
        (SafetensorError("Error while deserializing header: I/O error: Cannot allocate memory (os error 12)"),
         MachineUnfit, "this machine's own memory"),
        (RuntimeError("std::bad_alloc"), MachineUnfit, "this machine's own memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"), MachineUnfit, "the disk is full"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/models/a"), MachineUnfit, "does not answer as it should"),
        *((OSError(code, os.strerror(code), "/models/a"), MachineUnfit, "does not answer as it should")
          for code in (errno.EROFS, errno.EFBIG, errno.ENOLCK, errno.EUCLEAN)),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), MachineUnfit, "to another disk"),
        *((error, MachineUnfit, "cannot map files into memory")
          for error in (OSError(errno.ENODEV, os.strerror(errno.ENODEV), "/models/a"),
                        SafetensorError("Error while deserializing header: I/O error: No such device (os error 19)"),
                        RuntimeError("unable to mmap 42949672 bytes from file <a.safetensors>: No such device (19)"))),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/models/a"), SetupIncomplete, "ulimit -n"),
        (RuntimeError(NO_BINARY), SetupIncomplete, "bitsandbytes, which packs weights to 4 bits, cannot be used here"),
        (RuntimeError(NO_LIBRARY), SetupIncomplete, "python -m bitsandbytes"),
        (RuntimeError("Method 'cquantize_blockwise_bf16_nf4' not available in CPU-only version of bitsandbytes.\n"
                      "Reinstall with GPU support or use CUDA-enabled hardware."), SetupIncomplete, "bitsandbytes"),
        (ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes`"),
         SetupIncomplete, "bitsandbytes"),
        (NotImplementedError("Could not run 'bitsandbytes::quantize_4bit' with arguments from the 'CUDA' backend."),
         SetupIncomplete, "bitsandbytes"),
        (RuntimeError("Failed to find C compiler. Please specify via CC environment variable or set "
                      "triton.knobs.build.impl."), SetupIncomplete, "gcc and python3-dev"),
        (CalledProcessError(1, ["/usr/bin/gcc", "/tmp/tmp8x/cuda_utils.c", "-O3", "-shared"]), SetupIncomplete, "CC"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "cc"), SetupIncomplete, "C compiler"),
        (ModuleNotFoundError("No module named 'accelerate'"), SetupIncomplete, "constraints.txt"),
        (OSError("libcudart.so.13: cannot open shared object file: No such file or directory"),
         SetupIncomplete, "constraints.txt"),
        (ImportError("cannot import name 'Qwen3VLMoeConfig' from 'transformers' (/venv/transformers/__init__.py)"),
         SetupIncomplete, "another version than needed"),
        (TypeError("Params4bit.__new__() got an unexpected keyword argument '_is_hf_initialized'"),
         SetupIncomplete, "another version than needed"),
        (AttributeError("module 'transformers' has no attribute 'Qwen3VLMoeForConditionalGeneration'"),
         SetupIncomplete, "another version than needed"),
    ],
    ids=lambda value: f"{type(value).__name__}: {str(value).strip()[:60]}" if isinstance(value, Exception) else "",
)  # fmt: skip
def test_what_the_machine_says_is_named_and_never_blamed_on_the_files(
    error: Exception, kind: type[ModelError], told: str
) -> None:
    with pytest.raises(ModelError) as raised, named_errors("model.safetensors"):
        raise error
    assert type(raised.value) is kind
    assert told in str(raised.value)
    assert "download the" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError("Unable to load weights from the checkpoint"),
        ValueError("Unrecognized configuration class"),
        KeyError("num_experts"),
        SafetensorError("Error while deserializing header: incomplete metadata, file not fully covered"),
        RuntimeError("You set `ignore_mismatched_sizes` to `False`, thus raising an error."),
        RuntimeError("size mismatch for lm_head.weight: copying a param with shape torch.Size([2, 2])"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_what_speaks_of_the_files_says_to_download_again(error: Exception) -> None:
    with pytest.raises(ModelFilesInvalid, match=r"^tiny could not be loaded: .*again$"), named_errors("tiny"):
        raise error


def test_a_file_that_may_not_be_opened_is_not_downloaded_again() -> None:
    with pytest.raises(MachineUnfit, match=f"uid {os.getuid()}") as raised, named_errors("tiny"):
        raise PermissionError(errno.EACCES, "Permission denied", "/models/tiny/config.json")
    assert "/models/tiny/config.json" in str(raised.value)
    assert "download the" not in str(raised.value)


def test_what_nobody_knows_sends_to_the_log() -> None:
    with pytest.raises(LoadingFailed, match="tiny could not be loaded: something new") as raised, named_errors("tiny"):
        raise RuntimeError("something new\nand more of it")
    assert "download the" not in str(raised.value)


def test_what_fails_while_a_tensor_is_packed_stands_in_the_log_of_transformers_alone() -> None:
    def convert() -> None:
        logging.getLogger("transformers.modeling_utils").warning("LOAD REPORT\n%s", report)
        raise RuntimeError("We encountered some issues during automatic conversion of the weights.")

    report = f"Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: {OUT_OF_MEMORY}\nError: QuantizeNf4"
    with pytest.raises(ModelTooLarge, match=r"Tried to allocate 768\.00 MiB"), named_errors("tiny"):
        convert()


def test_the_cause_of_an_error_names_it_too() -> None:
    with pytest.raises(MachineUnfit), named_errors("tiny"):
        raise RuntimeError("the worker failed") from MemoryError()


def test_errors_of_ours_and_what_says_nothing_of_the_machine_stay_as_they_are() -> None:
    ours = ModelNotFound("the hub has no model CUDA out of memory")
    assert known_error(ours) is ours
    assert known_error(RuntimeError("something new")) is None
    with pytest.raises(ModelNotFound), named_errors("tiny"):
        raise ours


@pytest.mark.parametrize(
    "said",
    [
        "an illegal memory access was encountered",
        "the launch timed out and was terminated",
        "context is destroyed",
        "device-side assert triggered",
        "hardware stack error",
        "an illegal instruction was encountered",
        "misaligned address",
        "operation not supported on global/shared address space",
        "invalid program counter",
        "unspecified launch failure",
        "uncorrectable ECC error encountered",
        "uncorrectable NVLink error detected during the execution",
        "Invalid access of peer GPU memory over nvlink or a hardware error",
        "no CUDA-capable device is detected",
        "unknown error",
    ],
)
def test_what_cuda_says_of_a_process_that_can_only_be_left_is_a_fault(said: str) -> None:
    """All else that it says leaves the process sound: a kernel that does not build is no fault."""
    for error in (RuntimeError(f"CUDA error: {said}"), RuntimeError(f"Triton Error [CUDA]: {said}")):
        assert is_fault(error)
        assert isinstance(known_error(error), CardUnusable)
    assert not is_fault(RuntimeError("Triton Error [CUDA]: device kernel image is invalid"))
