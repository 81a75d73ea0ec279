"""How a 30B mixture-of-experts fits in 24 GB: load it in 4 bits through transformers, and plan its memory first.

Importing this package is cheap: torch and transformers are imported when a name that needs them is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from model_loader.errors import (
    DownloadFailed,
    ModelError,
    ModelFilesInvalid,
    ModelNotFound,
    ModelTooLarge,
    UnsafeModelFiles,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from model_loader.experts.quantizer import register
    from model_loader.loader import LoadedModel, load_model
    from model_loader.memory import MemoryPlan, plan_memory
    from model_loader.sources import choose_model

__all__ = [
    "DownloadFailed",
    "LoadedModel",
    "MemoryPlan",
    "ModelError",
    "ModelFilesInvalid",
    "ModelNotFound",
    "ModelTooLarge",
    "UnsafeModelFiles",
    "UnsupportedModel",
    "choose_model",
    "load_model",
    "plan_memory",
    "register",
]

_LAZY = {
    "LoadedModel": "model_loader.loader",
    "MemoryPlan": "model_loader.memory",
    "choose_model": "model_loader.sources",
    "load_model": "model_loader.loader",
    "plan_memory": "model_loader.memory",
    "register": "model_loader.experts.quantizer",
}


# On CPUs with AVX512-BF16 bitsandbytes warns at import that an optional kernel is absent. The quantizer turns that path
# off.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
